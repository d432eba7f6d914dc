"""FuSe data into a LeRobotDataset: the values LeRobot reads are those that were written, wherever the conversion was interrupted."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from fake_rlds import IMAGES, INSTRUCTIONS, NAME, SAMPLES, RldsEpisode, episode, example, framed, values_of, write_split
from lerobot.datasets import LeRobotDataset
from numpy.typing import NDArray
from PIL import Image

from handsight.datasets_rb import convert_fuse, journal
from handsight.datasets_rb.convert_fuse import LANGUAGE_FILES, Converted, convert
from handsight.datasets_rb.fuse_layout import CAMERAS, TACTILE
from handsight.datasets_rb.fuse_spec import ConversionSpec
from handsight.datasets_rb.language import LanguageTable
from handsight.datasets_rb.rlds import open_source
from handsight.sensors.errors import HandsightError
from handsight.sensors.pcm import PCM_SCALE
from handsight.sensors.types import ACTION, AUDIO, STATE

SHARDS = [[0, 1], [2], [3, 4]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_split(tmp_path_factory.mktemp("fuse"), "train", SHARDS)


@pytest.fixture(scope="module")
def root(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Converted in one go, with the defaults."""
    root = tmp_path_factory.mktemp("converted") / "fuse"
    assert run(folder, root) == Converted(
        episodes=5, frames=sum(len(episode(seed).actions) - 1 for seed in range(5)), too_short=0, clipped=0
    )
    return root


def run(folder: Path, root: Path, limit: int = 0, **options: Any) -> Converted:
    source = open_source(folder, "train")
    return convert(root, ConversionSpec.of(source, **options), source, limit)


def load(root: Path) -> LeRobotDataset:
    return LeRobotDataset("local/test", root=root, video_backend="pyav")


def pixels(image: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(image)))


def require_frame(item: dict[str, Any], made: RldsEpisode, step: int) -> None:
    """That `item` is step `step` of `made`."""
    state = made.tensors["state"]
    np.testing.assert_array_equal(item[STATE], state[step])
    np.testing.assert_array_equal(item[ACTION][:6], state[step + 1, :6] - state[step, :6])
    assert item[ACTION][6] == made.actions[step, 6]
    np.testing.assert_array_equal(item["observation.imu"], made.tensors["imu"][step].ravel())
    assert (item["task"], item["has_mic"]) == (made.instruction, made.has_mic)
    assert item["timestamp"] == torch.tensor(step / 5)
    expected = scipy.signal.resample_poly(made.tensors["mic"][step].astype(np.float64), 160, 441)  # scipy's own filter
    error = np.abs(item[AUDIO].numpy() / PCM_SCALE - expected)
    assert item[AUDIO].shape == (SAMPLES * 160 // 441,)
    assert error[50:-50].max() < 2e-3
    for name, key in CAMERAS.items():
        assert np.abs(255 * item[key].permute(1, 2, 0).numpy() - pixels(made.images[name][step])).mean() < 6  # of another picture: about 50
    for name, key in TACTILE.items():
        assert np.abs(255 * item[key].permute(1, 2, 0).numpy() - pixels(made.images[name][step])).max() < 1e-3


def test_lerobot_reads_what_was_written(root: Path) -> None:
    read = load(root)
    frame = 0
    for seed in range(5):
        made = episode(seed)
        for step in range(len(made.actions) - 1):
            item = read[frame]
            assert (item["episode_index"], item["frame_index"]) == (seed, step)
            require_frame(item, made, step)
            frame += 1
    assert frame == len(read)
    assert read.meta.fps == 5


def test_what_is_true_of_an_episode_is_in_the_episode_table(root: Path) -> None:
    for seed, row in enumerate(load(root).meta.episodes):
        made = episode(seed)
        assert row["episode_metadata/file_path"] == made.path
        assert row["episode_metadata/has_mic"] == made.has_mic
        assert row["audio_clipped"] == 0


def test_statistics_stay_small(root: Path) -> None:
    assert (root / "meta" / "stats.json").stat().st_size < 50_000
    statistics = load(root).meta.stats
    assert statistics[AUDIO]["mean"].shape == (1,)
    states = np.concatenate([episode(seed).tensors["state"][:-1] for seed in range(5)])
    np.testing.assert_allclose(statistics[STATE]["mean"], states.mean(axis=0), atol=1e-6)


def test_every_field_is_read_or_named(folder: Path) -> None:
    source = open_source(folder, "train")
    layout = ConversionSpec.of(source, skip=("imu",)).layout
    assert layout.wanted | layout.skipped.keys() == source.fields.keys() | source.unreadable.keys()
    assert not layout.wanted & layout.skipped.keys()
    assert layout.skipped == {
        "steps/observation/imu": "as asked",
        "steps/observation/words": "a Sequence",
        "steps/is_first": "the frame index says it",
        "steps/is_last": "the frame index says it",
    }
    keys = [*layout.images.values(), *layout.columns.values()]
    assert len(set(keys)) == len(keys)


def test_lossless_cameras_are_the_bytes_of_the_source(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out", limit=1, cameras="lossless")
    item = load(tmp_path / "out")[1]
    for name, key in CAMERAS.items():
        np.testing.assert_allclose(255 * item[key].permute(1, 2, 0), pixels(episode(0).images[name][1]), atol=1e-3)


def test_images_are_resized_and_audio_kept_at_its_rate(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out", limit=1, image_size=16, sample_rate=44_100, skip=("digit_0_background",))
    item = load(tmp_path / "out")[0]
    assert {item[key].shape for key in item if key.startswith("observation.images.")} == {(3, 16, 16)}
    assert "observation.images.digit_left_background" not in item
    expected = Image.open(io.BytesIO(episode(0).images["digit_1"][0])).resize((16, 16), Image.Resampling.LANCZOS)
    np.testing.assert_allclose(255 * item["observation.images.digit_right"].permute(1, 2, 0), np.asarray(expected), atol=1e-3)
    assert np.abs(item[AUDIO].numpy() / PCM_SCALE - episode(0).tensors["mic"][0]).max() <= 0.5 / PCM_SCALE + 1e-7


def test_a_conversion_continues_where_it_was_interrupted(folder: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = tmp_path / "again"
    run(folder, again, limit=1)
    with monkeypatch.context() as patch:
        patch.setattr(convert_fuse, "BATCH", 1)  # publishes after every episode
        patch.setattr(journal, "write", _interrupt(journal.write, after=2))
        with pytest.raises(KeyboardInterrupt, match="3 episodes kept"):
            run(folder, again)
    assert run(folder, again).episodes == 5
    first, second = load(root), load(again)
    assert len(first) == len(second)
    for index in range(len(first)):
        for key, value in first[index].items():
            np.testing.assert_array_equal(value, second[index][key], err_msg=key)
    assert run(folder, again) == Converted(episodes=5, frames=0, too_short=0, clipped=0)  # nothing is left to do


def _interrupt(write: Any, after: int) -> Any:
    calls = []

    def interrupted(*arguments: Any) -> None:
        if len(calls) == after:
            raise KeyboardInterrupt
        calls.append(1)
        write(*arguments)

    return interrupted


def test_a_damaged_shard_loses_no_finished_episode(folder: Path, tmp_path: Path) -> None:
    copy = write_split(tmp_path / "fuse", "train", SHARDS)
    path = copy / f"{NAME}-train.tfrecord-00001-of-00003"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(HandsightError, match="download it again"):
        run(copy, tmp_path / "out")
    path.write_bytes(whole)
    converted = run(copy, tmp_path / "out")
    assert (converted.episodes, converted.frames) == (5, sum(len(episode(seed).actions) - 1 for seed in (2, 3, 4)))


def test_an_episode_of_one_step_is_left_out_and_said(tmp_path: Path) -> None:
    copy = write_split(tmp_path / "fuse", "train", [[0, 1]])
    path = copy / f"{NAME}-train.tfrecord-00000-of-00001"
    path.write_bytes(framed(example(values_of(episode(0, steps=1)))) + framed(example(values_of(episode(1)))))
    converted = run(copy, tmp_path / "out")
    assert (converted.episodes, converted.too_short) == (1, 1)
    require_frame(load(tmp_path / "out")[0], episode(1), 0)
    assert json.loads((tmp_path / "out/meta/handsight.json").read_text())["failed"] == [0]


def test_loud_samples_are_counted(tmp_path: Path) -> None:
    copy = write_split(tmp_path / "fuse", "train", [[0]])
    made = episode(0)
    values = values_of(made) | {"steps/observation/mic": (4 * made.tensors["mic"]).ravel().tolist()}
    (copy / f"{NAME}-train.tfrecord-00000-of-00001").write_bytes(framed(example(values)))
    converted = run(copy, tmp_path / "out", sample_rate=44_100)
    assert converted.clipped == (np.abs(4 * made.tensors["mic"][:-1]) > 1).sum()


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    copy = write_split(tmp_path / "fuse", "train", [[0]])
    made = episode(0)
    values = values_of(made) | {"steps/observation/digit_0": made.images["image_0"]}
    (copy / f"{NAME}-train.tfrecord-00000-of-00001").write_bytes(framed(example(values)))
    with pytest.raises(HandsightError, match=r"'steps/observation/digit_0' of episode 0 to have 26 x 20 pixels"):
        run(copy, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 10}, "expected --fps=5"),
        ({"skip": ("imu",)}, "expected --skip="),
        ({"tactile": "video"}, "expected --tactile=lossless"),
        ({"tactile": "gif"}, "expected --tactile to be video or lossless"),
        ({"skip": ("nothing",)}, "expected --skip to name fields of features.json, got 'nothing'"),
        ({"skip": ("state",)}, "expected --skip to leave state, action and instruction"),
        ({"instruction": "goal"}, r"expected --instruction to name a text of features.json \(language_instruction\)"),
        ({"image_size": 3}, "expected --image_size of at least 16"),
    ],
)
def test_other_arguments_are_refused(folder: Path, root: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(HandsightError, match=message):
        run(folder, root, **options)


def table(*instructions: str) -> LanguageTable:
    """True of every instruction: simple and what it looks like."""
    texts = {simple: (simple, "", f"{simple}, seen", "", "", "", "", "", "") for simple in instructions}
    valid = {simple: (True, False, True, *[False] * 6) for simple in instructions}
    return LanguageTable(texts, valid, {instructions[0]: tuple(f"please {number}" for number in range(20))})


def test_a_language_table_says_in_every_frame_which_texts_are_true(folder: Path, tmp_path: Path) -> None:
    known = table(*INSTRUCTIONS)
    run(folder, tmp_path / "out", limit=1, language=known)
    np.testing.assert_array_equal(load(tmp_path / "out")[1]["language_valid"], known.validity(INSTRUCTIONS[:1])[0])
    assert LanguageTable.read(*(tmp_path / "out" / "meta" / name for name in LANGUAGE_FILES)) == known
    run(folder, tmp_path / "out", limit=2, language=known)  # the table stays when more is published
    assert (tmp_path / "out" / "meta" / LANGUAGE_FILES[0]).exists()
    with pytest.raises(HandsightError, match="expected --language="):
        run(folder, tmp_path / "out")


def test_an_instruction_that_the_table_does_not_have_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(HandsightError, match=f"got '{INSTRUCTIONS[1]}'; add its nine texts"):
        run(folder, tmp_path / "out", language=table(INSTRUCTIONS[0]))


def test_all_images_have_a_key() -> None:
    assert (CAMERAS | TACTILE).keys() == IMAGES.keys()
