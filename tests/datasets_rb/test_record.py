import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from fake_episodes import SIZE, episode, record
from lerobot.datasets import LeRobotDataset, aggregate_datasets

from handsight.datasets_rb import publish
from handsight.datasets_rb.keyframe import keyframe
from handsight.datasets_rb.record import JOURNAL, Recorder
from handsight.datasets_rb.schema import RecordingSpec
from handsight.sensors.errors import HandsightError
from handsight.sensors.pcm import PCM_SCALE
from handsight.sensors.types import ACTION, AUDIO, FRONT, KEYFRAME, STATE, TOUCH, WRIST

SPEC = RecordingSpec("fake/good", image_size=SIZE)
SUCCESSES = [0, 1, 2, 3, 5, 6]


def load(root: Path, **options: Any) -> LeRobotDataset:
    return LeRobotDataset("local/test", root=root, video_backend="pyav", **options)


def test_lerobot_reads_what_was_recorded(dataset: Path) -> None:
    read = load(dataset)
    assert read.num_episodes == len(SUCCESSES)
    frame = 0
    for index, seed in enumerate(SUCCESSES):
        made = episode(seed)
        for step in range(len(made.actions)):
            item = read[frame]
            assert (item["episode_index"], item["frame_index"], item["index"]) == (index, step, frame)
            assert (item["episode_seed"], item["expert_phase"], item["task"]) == (seed, made.phases[step], made.instruction)
            assert item["timestamp"] == torch.tensor(step / 20)
            for key, expected in ((ACTION, made.actions), (STATE, made.observations[STATE]), (TOUCH, made.observations[TOUCH])):
                np.testing.assert_array_equal(item[key], expected[step].ravel())
            assert np.abs(item[AUDIO].numpy() / PCM_SCALE - made.observations[AUDIO][step]).max() <= 1 / PCM_SCALE
            for key in (FRONT, WRIST):
                error = np.abs(255 * item[key].permute(1, 2, 0).numpy() - made.observations[key][step])
                assert error.mean() < (0.01 if "png" in str(dataset) else 3)
            frame += 1
    assert frame == len(read)


def test_the_record_names_seeds_failures_and_phases(dataset: Path) -> None:
    content = json.loads((dataset / "meta" / "handsight.json").read_text())
    assert (content["seeds"], content["failed"], content["phase_names"]) == (SUCCESSES, [4], ["reach", "lift"])


def test_statistics_stay_small(dataset: Path) -> None:
    assert (dataset / "meta" / "stats.json").stat().st_size < 50_000
    for path in (dataset / "meta" / "episodes").rglob("*.parquet"):
        assert path.stat().st_size < 200_000
    statistics = load(dataset).meta.stats
    assert statistics[AUDIO]["mean"].shape == statistics[TOUCH]["std"].shape == (1,)
    assert statistics[STATE]["q99"].shape == (15,)
    assert statistics[FRONT]["mean"].shape == (3, 1, 1)


def test_statistics_are_those_of_all_frames(dataset: Path) -> None:
    statistics = load(dataset).meta.stats
    states = np.concatenate([episode(seed).observations[STATE] for seed in SUCCESSES])
    np.testing.assert_allclose(statistics[STATE]["mean"], states.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(statistics[STATE]["std"], states.std(axis=0), atol=1e-6)
    assert statistics["index"]["max"] == len(states) - 1


def test_lerobot_can_merge_our_datasets(dataset: Path, tmp_path: Path) -> None:
    aggregate_datasets(["local/a", "local/b"], "local/c", roots=[dataset, dataset], aggr_root=tmp_path / "merged")
    merged = load(tmp_path / "merged")
    assert merged.num_episodes == 2 * len(SUCCESSES)
    assert merged[len(merged) - 1]["task"] == load(dataset)[len(merged) // 2 - 1]["task"]


def table(root: Path) -> dict[str, list[Any]]:
    """All rows of all frames, whatever files they are in."""
    columns: dict[str, list[Any]] = pq.read_table(root / "data").sort_by("index").to_pydict()
    return columns


def test_extending_gives_the_dataset_of_one_go(tmp_path: Path) -> None:
    once = record(tmp_path / "once", range(7))
    twice = record(record(tmp_path / "twice", range(3)), range(3, 7))
    assert table(once) == table(twice)
    a, b = load(once), load(twice)
    assert all(torch.equal(a[i][FRONT], b[i][FRONT]) for i in range(len(a)))


def test_unpublished_recordings_do_not_look_finished(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, SPEC)
    recorder.add(episode(0))
    recorder.add(episode(4))
    recorder.close()
    assert not (tmp_path / "meta").exists()
    with Recorder(tmp_path, SPEC) as again:
        assert again.outcomes() == {0: True, 4: False}
        assert again.finished_seeds() == {0, 4}
    assert load(tmp_path).num_episodes == 1
    assert not (tmp_path / JOURNAL).exists()


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it and nothing is tidied up."""


def die(*_: object, **__: object) -> None:
    raise Killed


def abandon(recorder: Recorder) -> None:
    """What the kernel does for a process that was killed."""
    recorder._lock.close()


def die_before(patch: pytest.MonkeyPatch, step: int) -> None:
    """From now on the process "dies" before its `step`-th change of the file system."""
    made = 0

    def guarded(change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal made
            if made >= step:
                raise Killed
            made += 1
            return change(*args, **kwargs)

        return call

    for name in ("rename", "replace", "unlink", "rmdir", "mkdir"):
        patch.setattr(os, name, guarded(getattr(os, name)))


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("published", [0, 3])
def test_a_kill_at_any_moment_of_moving_into_place_loses_nothing(published: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staged = tmp_path / "staged"
    if published:
        record(staged, range(published))
    before = files(staged)
    recorder = Recorder(staged, SPEC)
    for seed in range(published, 5):
        recorder.add(episode(seed))
    with monkeypatch.context() as patch:
        patch.setattr("handsight.datasets_rb.record.finish", die)
        with pytest.raises(Killed):
            recorder.publish()
    abandon(recorder)
    shutil.copytree(staged, tmp_path / "whole")
    Recorder(tmp_path / "whole", SPEC).close()
    expected = files(tmp_path / "whole")
    assert load(tmp_path / "whole").num_episodes == 4
    for step in count():
        root = tmp_path / str(step)
        shutil.copytree(staged, root)
        with monkeypatch.context() as patch:
            die_before(patch, step)
            try:
                Recorder(root, SPEC).close()
                break
            except Killed:
                pass
        if (root / "meta" / "info.json").exists():  # if it looks finished, it is
            found = {name: content for name, content in files(root).items() if not name.startswith(JOURNAL)}
            assert found in (before, expected)
        with Recorder(root, SPEC) as again:
            assert again.outcomes() == {0: True, 1: True, 2: True, 3: True, 4: False}
        assert files(root) == expected
    assert step > 10


def test_a_kill_while_converting_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(tmp_path / "killed", SPEC)
    for seed in range(5):
        recorder.add(episode(seed))
    with monkeypatch.context() as patch:
        patch.setattr(publish, "_add_to_metadata", die)
        patch.setattr("shutil.rmtree", lambda *_, **__: None)  # nobody tidies up after a SIGKILL
        with pytest.raises(Killed):
            recorder.publish()
    abandon(recorder)
    assert (tmp_path / "killed" / JOURNAL / "staging").exists()
    assert not (tmp_path / "killed" / "meta").exists()
    with Recorder(tmp_path / "killed", SPEC):
        pass
    assert table(tmp_path / "killed") == table(record(tmp_path / "expected", range(5)))


def test_a_full_disk_while_publishing_keeps_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    recorder = Recorder(tmp_path, SPEC)
    recorder.add(episode(0))
    with monkeypatch.context() as patch:
        patch.setattr(publish, "join_videos", full)
        with pytest.raises(HandsightError, match="expected free space"):
            recorder.publish()
    assert not (tmp_path / "meta").exists()
    assert not (tmp_path / JOURNAL / "staging").exists()
    recorder.publish()
    recorder.close()
    assert load(tmp_path).num_episodes == 1


def test_refuses_other_arguments_foreign_folders_and_company(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "ours", SPEC)
    recorder.add(episode(0))
    with pytest.raises(HandsightError, match="only one recording"):
        Recorder(tmp_path / "ours", SPEC)
    recorder.close()
    with pytest.raises(HandsightError, match="--image_size=32"):
        Recorder(tmp_path / "ours", RecordingSpec("fake/good", image_size=64))
    Recorder(tmp_path / "ours", SPEC).close()  # a refusal does not hold the lock
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").touch()
    with pytest.raises(HandsightError, match="other files"):
        Recorder(tmp_path / "foreign", SPEC)
    with pytest.raises(HandsightError, match="to be a folder"):
        Recorder(tmp_path / "foreign" / "thesis.tex", SPEC)


def test_keyframes_are_recorded(dataset: Path) -> None:
    made = episode(0)
    expected = keyframe(made.actions, made.observations[STATE])
    np.testing.assert_array_equal(load(dataset)[0][KEYFRAME], expected[0])
    np.testing.assert_array_equal(load(dataset)[3][KEYFRAME], expected[3])


def test_commands_replace_the_instruction_from_their_step_on(tmp_path: Path) -> None:
    told = dataclasses.replace(episode(0), commands=((3, "press the low one"), (6, "press the high one")))
    with Recorder(tmp_path / "told", RecordingSpec("fake/good", image_size=SIZE)) as recorder:
        recorder.add(told)
        recorder.add(episode(1))
    read = load(tmp_path / "told")
    tasks = [read[i]["task"] for i in range(len(told.actions) + 1)]
    assert tasks[:3] == [told.instruction] * 3
    assert tasks[3:6] == ["press the low one"] * 3
    assert tasks[6:-1] == ["press the high one"] * (len(tasks) - 7)
    assert tasks[-1] == episode(1).instruction
    assert list(read.meta.episodes[0]["tasks"]) == [told.instruction, "press the low one", "press the high one"]


def test_an_empty_recording_leaves_nothing(tmp_path: Path) -> None:
    with Recorder(tmp_path / "nothing", SPEC):
        pass
    assert not (tmp_path / "nothing").exists()
