import fcntl
import json
import pickle
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.datasets import EpisodeAwareSampler, LeRobotDataset
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from handsight.datasets_rb import decode
from handsight.datasets_rb.cache import CachedDataset
from handsight.datasets_rb.decode import FOLDER
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import ACTION, AUDIO, FRONT, STATE, TOUCH, WRIST

HISTORY = {
    FRONT: [-0.1, 0.0],
    WRIST: [0.0],
    STATE: [-0.2, -0.1, 0.0],
    TOUCH: [0.0],
    AUDIO: [-0.05, 0.0],
    ACTION: [i / 20 for i in range(6)],
}


def both(root: Path, **options: Any) -> tuple[LeRobotDataset, CachedDataset]:
    return LeRobotDataset("local/test", root=root, video_backend="pyav", **options), CachedDataset("local/test", root=root, **options)


def require_same_items(expected: list[dict[str, Any]], got: list[dict[str, Any]]) -> None:
    for a, b in zip(expected, got, strict=True):
        assert list(a) == list(b)
        for key, value in a.items():
            if isinstance(value, str):
                assert value == b[key]
            else:
                assert (value.dtype, value.shape) == (b[key].dtype, b[key].shape), key
                assert torch.equal(value, b[key]), key


@pytest.mark.parametrize("return_uint8", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"episodes": [4, 1]},
        {"delta_timestamps": HISTORY},
        {"delta_timestamps": HISTORY, "episodes": [0, 5]},
        {"delta_timestamps": {ACTION: [0.0]}},
        {"image_transforms": v2.RandomCrop(20), "delta_timestamps": HISTORY},
    ],
    ids=["plain", "episodes", "history", "history of episodes", "one action", "transforms"],
)
def test_items_are_lerobots_bit_for_bit(dataset: Path, options: dict[str, Any], return_uint8: bool) -> None:
    theirs, ours = both(dataset, return_uint8=return_uint8, **options)
    indices = [0, 7, len(theirs) - 1, len(theirs) // 2, 1]
    torch.manual_seed(0)
    expected = [theirs[index] for index in indices]
    torch.manual_seed(0)
    require_same_items(expected, ours.__getitems__(indices))
    if "image_transforms" not in options:
        require_same_items(expected, [ours[index] for index in indices])


def test_attributes_are_lerobots(dataset: Path) -> None:
    for episodes in (None, [4, 1]):
        theirs, ours = both(dataset, episodes=episodes)
        for name in ("num_frames", "num_episodes", "episodes", "fps", "features", "absolute_to_relative_idx"):
            assert getattr(ours, name) == getattr(theirs, name), name
        assert len(ours) == len(theirs)
        assert ours.hf_dataset.data.column("task_index") == theirs.hf_dataset.data.column("task_index")


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_the_trainers_loader_are_equal(dataset: Path, workers: int) -> None:
    batches = []
    for read in both(dataset, episodes=[1, 2, 5], delta_timestamps=HISTORY, return_uint8=True):
        sampler = EpisodeAwareSampler(
            read.meta.episodes["dataset_from_index"],
            read.meta.episodes["dataset_to_index"],
            episode_indices_to_use=read.episodes,
            shuffle=True,
            absolute_to_relative_idx=read.absolute_to_relative_idx,
        )
        ours = isinstance(read, CachedDataset)
        loader = DataLoader(read, batch_size=8, sampler=sampler, num_workers=workers if ours else 0)
        batches.append(next(iter(loader)))
    expected, got = batches
    assert list(expected) == list(got)
    assert all(torch.equal(value, got[key]) for key, value in expected.items() if key != "task")
    assert expected["task"] == got["task"]


def test_uint8_images_divided_by_255_are_lerobots_floats(dataset: Path) -> None:
    theirs = LeRobotDataset("local/test", root=dataset, video_backend="pyav")
    ours = CachedDataset("local/test", root=dataset, uint8_images=True)
    assert ours[3][FRONT].dtype is torch.uint8
    assert torch.equal(ours[3][FRONT].to(dtype=torch.float32) / 255.0, theirs[3][FRONT])  # what lerobot_train.py does


def test_pickles_without_the_arrays(dataset: Path) -> None:
    ours = CachedDataset("local/test", root=dataset)
    item = ours[5]
    content = pickle.dumps(ours)
    assert len(content) < 100_000
    require_same_items([item], [pickle.loads(content)[5]])  # noqa: S301 - made a line above


def test_indices_outside_are_refused(dataset: Path) -> None:
    ours = CachedDataset("local/test", root=dataset)
    for index in (len(ours), -len(ours) - 1):
        with pytest.raises(IndexError):
            ours[index]
    require_same_items([ours[len(ours) - 1]], [ours[-1]])
    require_same_items(ours.__getitems__([0, 1]), ours[:2])
    with pytest.raises(HandsightError, match="episodes below 6"):
        CachedDataset("local/test", root=dataset, episodes=[6])


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    """The dataset without a cache, to be damaged."""
    return shutil.copytree(dataset, tmp_path / dataset.name, ignore=shutil.ignore_patterns(FOLDER))


def test_decodes_once_and_again_when_a_file_changes(copy: Path) -> None:
    CachedDataset("local/test", root=copy)
    (built,) = (copy / FOLDER).iterdir()
    marker = built / "marker"
    marker.touch()
    CachedDataset("local/test", root=copy)
    assert marker.exists()
    path = next(copy.rglob("data/**/*.parquet"))
    path.touch()
    ours = CachedDataset("local/test", root=copy)
    assert not marker.exists()
    assert len(list((copy / FOLDER).iterdir())) == 1
    assert ours[0][STATE].shape == (15,)


def test_of_two_that_open_it_one_decodes(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, began, two_at_the_lock = [], threading.Event(), threading.Event()
    decode_all, flock = decode._decode_all, fcntl.flock

    def recorded(*arguments: Any) -> None:
        calls.append(arguments)
        began.set()
        assert two_at_the_lock.wait(60)
        decode_all(*arguments)

    def locked(file: int, kind: int) -> None:
        if began.is_set():
            two_at_the_lock.set()
        flock(file, kind)

    monkeypatch.setattr(decode, "_decode_all", recorded)
    monkeypatch.setattr(fcntl, "flock", locked)
    first = threading.Thread(target=CachedDataset, args=("local/test", copy))
    first.start()
    assert began.wait(60)
    assert len(CachedDataset("local/test", root=copy)) > 0
    first.join()
    assert len(calls) == 1


def test_the_cache_may_live_elsewhere(copy: Path, tmp_path: Path) -> None:
    CachedDataset("local/test", root=copy, cache=tmp_path / "elsewhere")
    assert not (copy / FOLDER).exists()
    assert list((tmp_path / "elsewhere").iterdir())


def cut(path: Path, keep: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])


DAMAGES = {
    "no meta/info.json": lambda root: (root / "meta/info.json").unlink(),
    "not JSON": lambda root: cut(root / "meta/info.json"),
    "no meta/stats.json": lambda root: (root / "meta/stats.json").unlink(),
    "no meta/tasks.parquet": lambda root: (root / "meta/tasks.parquet").unlink(),
    "no meta/episodes": lambda root: shutil.rmtree(root / "meta/episodes"),
    "no data/": lambda root: shutil.rmtree(root / "data"),
    "rows in data instead of": lambda root: (root / "data/chunk-000/file-001.parquet").unlink(),
    "no parquet footer": lambda root: cut(root / "data/chunk-000/file-000.parquet"),
}


@pytest.mark.parametrize("problem", DAMAGES)
def test_a_damaged_dataset_is_one_line(copy: Path, problem: str) -> None:
    DAMAGES[problem](copy)
    with pytest.raises(HandsightError, match=problem) as caught:
        CachedDataset("local/test", root=copy)
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda path: path.unlink(), "got no videos"),
        (lambda path: cut(path, 0.5), "a damaged videos|a truncated videos"),
        (lambda path: path.write_bytes(b""), "a damaged videos"),
    ],
)
def test_a_damaged_video_is_one_line(copy: Path, damage: Any, problem: str) -> None:
    if not (copy / "videos").exists():
        pytest.skip("recorded as PNG")
    damage(copy / "videos" / FRONT / "chunk-000" / "file-001.mp4")
    with pytest.raises(HandsightError, match=problem):
        CachedDataset("local/test", root=copy)
    assert not list((copy / FOLDER).glob("*"))


def test_an_interrupted_recording_says_so(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(HandsightError, match="no such folder"):
        CachedDataset("local/test", root=tmp_path / "nowhere")
    (copy / ".journal").mkdir()
    (copy / "meta/info.json").unlink()
    with pytest.raises(HandsightError, match="run the same command again"):
        CachedDataset("local/test", root=copy)


def test_refuses_columns_it_cannot_map(copy: Path) -> None:
    info = json.loads((copy / "meta/info.json").read_text())
    info["features"]["note"] = {"dtype": "string", "shape": [1], "names": None}
    (copy / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(HandsightError, match="note of type string"):
        CachedDataset("local/test", root=copy)


def test_columns_of_several_dimensions_and_other_numbers(tmp_path: Path, rng: np.random.Generator) -> None:
    shapes = {"matrix": ((2, 3), "float32"), "double": ((4,), "float64"), "flag": ((1,), "bool"), "byte": ((3,), "uint8")}
    features = {key: {"dtype": dtype, "shape": shape, "names": None} for key, (shape, dtype) in shapes.items()}
    made = LeRobotDataset.create("local/test", 20, features, root=tmp_path / "foreign", use_videos=False)
    for _ in range(2):
        for _ in range(3):
            made.add_frame({key: (10 * rng.random(shape)).astype(dtype) for key, (shape, dtype) in shapes.items()} | {"task": "none"})
        made.save_episode()
    made.finalize()
    theirs, ours = both(tmp_path / "foreign", delta_timestamps={"matrix": [0.0, 0.05]})
    require_same_items([theirs[index] for index in range(6)], ours.__getitems__(range(6)))


def test_pooled_images_are_the_means_of_squares_and_nothing_else_changes(dataset: Path) -> None:
    whole = CachedDataset("local/test", root=dataset, uint8_images=True)
    small = CachedDataset("local/test", root=dataset, uint8_images=True, image_pool=2)
    for a, b in zip(whole[:12], small[:12], strict=True):
        means = torch.nn.functional.avg_pool2d(a[FRONT].to(torch.float64), 2)
        assert b[FRONT].dtype is torch.uint8
        assert torch.equal(b[FRONT].to(torch.float64), torch.floor(means + 0.5))
        require_same_items(
            [{key: value for key, value in a.items() if key not in (FRONT, WRIST)}],
            [{key: value for key, value in b.items() if key not in (FRONT, WRIST)}],
        )
    with pytest.raises(HandsightError, match="a multiple of 5 pixels"):
        CachedDataset("local/test", root=dataset, image_pool=5)


def test_both_sizes_are_kept_until_a_file_changes(copy: Path) -> None:
    for pool in (1, 2, 1):
        CachedDataset("local/test", root=copy, image_pool=pool)
    state = min(path.name for path in (copy / FOLDER).iterdir())
    assert sorted(path.name for path in (copy / FOLDER).iterdir()) == [state, f"{state}-pooled2"]
    next(copy.rglob("data/**/*.parquet")).touch()
    CachedDataset("local/test", root=copy, image_pool=2)
    (rebuilt,) = (copy / FOLDER).iterdir()
    assert rebuilt.name.endswith("-pooled2")
    assert not rebuilt.name.startswith(state)
