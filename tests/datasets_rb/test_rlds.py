"""RLDS episodes from files: every field is read or named, every damage is one line, shards count on across files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_rlds import NAME, episode, example, features, framed, values_of, write_split

from handsight.datasets_rb.rlds import Source, open_source
from handsight.sensors.errors import HandsightError

STATE = "steps/observation/state"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_split(tmp_path / "fuse", "train", [[0, 1], [2], [3, 4, 5]])


def shard(folder: Path, number: int, count: int = 3) -> Path:
    return folder / f"{NAME}-train.tfrecord-{number:05d}-of-{count:05d}"


def states(source: Source, skip: set[int] | None = None) -> dict[int, Any]:
    return {number: read[STATE] for number, read in source.read(skip or set(), {STATE})}


def test_values_are_those_that_were_written(folder: Path) -> None:
    source = open_source(folder, "train")
    assert (source.name, source.episodes) == (f"{NAME} 1.0.0 train", 6)
    for number, read in source.read(set(), set(source.fields)):
        made = episode(number)
        for name, tensor in made.tensors.items():
            np.testing.assert_array_equal(read[f"steps/observation/{name}"], tensor)
        for name, images in made.images.items():
            assert read[f"steps/observation/{name}"] == images
        np.testing.assert_array_equal(read["steps/action"], made.actions)
        assert read["steps/is_first"].dtype == bool  # type: ignore[union-attr]
        assert read["steps/language_instruction"] == [made.instruction.encode()] * len(made.actions)
        assert (read["episode_metadata/has_mic"], read["episode_metadata/file_path"]) == (made.has_mic, [made.path.encode()])


def test_what_cannot_be_read_is_named(folder: Path) -> None:
    assert open_source(folder, "train").unreadable == {"steps/observation/words": "a Sequence"}


def test_what_is_done_is_not_read_again(folder: Path) -> None:
    shard(folder, 0).write_bytes(b"damaged, but not needed")
    assert set(states(open_source(folder, "train"), {0, 1, 3})) == {2, 4, 5}


def test_numbers_count_on_over_shards_that_are_missing(folder: Path) -> None:
    shard(folder, 1).unlink()
    with pytest.raises(HandsightError, match=r"expected 3 files .* got 2 \(no number 1\).*--partial"):
        open_source(folder, "train")
    read = states(open_source(folder, "train", partial=True))
    assert set(read) == {0, 1, 3, 4, 5}
    np.testing.assert_array_equal(read[3], episode(3).tensors["state"])


def test_without_lengths_numbers_are_those_of_the_order(folder: Path) -> None:
    (folder / "dataset_info.json").write_text("{}")
    source = open_source(folder, "train")
    assert source.episodes is None
    assert list(states(source, {0, 1})) == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("encoding", "stored"), [("zlib", lambda value: __import__("zlib").compress(value.tobytes())), ("bytes", lambda value: value.tobytes())]
)
def test_encoded_tensors_keep_double_precision(tmp_path: Path, encoding: str, stored: Any, rng: np.random.Generator) -> None:
    value = rng.normal(size=(4, 3, 3))
    tree = features()
    leaf = tree["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]["observation"]
    leaf["featuresDict"]["features"]["imu"]["tensor"] |= {"dtype": "float64", "encoding": encoding}
    folder = write_split(tmp_path, "train", [[0]])
    (folder / "features.json").write_text(json.dumps(tree))
    content = values_of(episode(0)) | {"steps/observation/imu": [stored(step) for step in value]}
    shard(folder, 0, 1).write_bytes(framed(example(content)))
    ((_, read),) = open_source(folder, "train").read(set(), {"steps/observation/imu"})
    np.testing.assert_array_equal(read["steps/observation/imu"], value)


def _rewrite(folder: Path, **changes: Any) -> None:
    values = {name: value for name, value in (values_of(episode(2)) | changes).items() if value is not None}
    shard(folder, 1).write_bytes(framed(example(values)))


def _truncate(folder: Path) -> None:
    shard(folder, 1).write_bytes(shard(folder, 1).read_bytes()[:-9])


def _damage(folder: Path) -> None:
    content = bytearray(shard(folder, 1).read_bytes())
    content[500] ^= 1
    shard(folder, 1).write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "features.json").unlink(), r"expected features.json in .*, got none; download features.json"),
        (lambda folder: (folder / "features.json").write_text("{"), "expected JSON in"),
        (lambda folder: (folder / "features.json").write_text("{}"), "expected a feature 'steps'"),
        (_truncate, r"ends inside record 0; download it again"),
        (_damage, "checksum of record 0"),
        (lambda folder: shard(folder, 1).write_bytes(b""), r"expected 1 episodes in .*, got 0"),
        (
            lambda folder: _rewrite(folder, **{"steps/observation/new": [1.0]}),
            "expected only what features.json names, got 'steps/observation/new'",
        ),
        (lambda folder: _rewrite(folder, **{STATE: None}), f"expected '{STATE}', which features.json names, got none in episode 0"),
        (lambda folder: _rewrite(folder, **{STATE: [1.0] * 8}), f"expected '{STATE}' as features.json declares it, got cannot reshape"),
        (lambda folder: _rewrite(folder, **{STATE: [1.0] * 7}), "expected as many values of every field of a step"),
        (lambda folder: _rewrite(folder, **{STATE: [b"x"]}), "got float32 stored as bytes"),
    ],
)
def test_each_damage_is_one_line(folder: Path, change: Any, message: str) -> None:
    change(folder)
    with pytest.raises(HandsightError, match=message) as caught:
        list(open_source(folder, "train").read(set(), {STATE, "steps/action"}))
    assert "\n" not in str(caught.value)


def test_another_split_is_not_there(folder: Path) -> None:
    with pytest.raises(HandsightError, match=r"expected files of split 'test' in .*, got train"):
        open_source(folder, "test")


def test_the_folder_above_is_told_apart(folder: Path) -> None:
    with pytest.raises(HandsightError, match=f"did you mean --source={folder}"):
        open_source(folder.parent, "train")
