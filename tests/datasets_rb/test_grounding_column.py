"""Grounding labels reach both readers as the environment said them; recordings from before there were any are continued without."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_episodes import SIZE, episode
from lerobot.datasets import LeRobotDataset

from handsight.datasets_rb.cache import CachedDataset
from handsight.datasets_rb.commit import RECORD
from handsight.datasets_rb.record import Recorder
from handsight.datasets_rb.schema import RecordingSpec
from handsight.envs.env import make
from handsight.envs.rollout import expert_episode
from handsight.sensors.errors import HandsightError
from handsight.sensors.referent import Referent
from handsight.sensors.types import GROUNDING, GROUNDING_SIZE, Sensor

SPEC = RecordingSpec("fake/good", image_size=SIZE, images="png", grounding=True)
OLD = replace(SPEC, grounding=False)


def test_both_readers_return_the_environments_labels(tmp_path: Path) -> None:
    sensors = Sensor.STATE | Sensor.TOUCH | Sensor.AUDIO
    env = make("sense/bag_stiff", sensors=sensors)
    made = expert_episode(env, 1000, noise=False)
    env.close()
    spec = RecordingSpec("sense/bag_stiff", sensors=sensors, grounding=True)
    with Recorder(tmp_path / "bag", spec) as recorder:
        recorder.add(made)
    theirs = LeRobotDataset("local/bag", root=tmp_path / "bag")
    ours = CachedDataset("local/bag", root=tmp_path / "bag")
    expected = torch.from_numpy(made.grounding.astype(np.int64))
    assert torch.equal(torch.stack([item[GROUNDING] for item in theirs]), expected)
    assert torch.equal(torch.stack([item[GROUNDING] for item in ours[:]]), expected)
    assert Referent.of(expected[-1].numpy()) != Referent()
    assert theirs.meta.stats[GROUNDING]["mean"].shape == (1,)


def test_labels_that_are_missing_or_too_few_are_one_line(tmp_path: Path) -> None:
    made = episode(0)
    with Recorder(tmp_path / "ds", SPEC) as recorder:
        for labels in (None, np.zeros((3, GROUNDING_SIZE), np.int16)):
            with pytest.raises(HandsightError, match=f"grounding labels of shape .{len(made.actions)}, 10. .* --grounding=false"):
                recorder.add(replace(made, grounding=labels))
    assert not (tmp_path / "ds").exists()


def test_recordings_from_before_there_were_labels_are_continued_without(tmp_path: Path) -> None:
    root = tmp_path / "old"
    with Recorder(root, OLD) as recorder:
        recorder.add(episode(0))
    record = json.loads((root / RECORD).read_text())
    del record["arguments"]["grounding"]
    (root / RECORD).write_text(json.dumps(record))
    with pytest.raises(HandsightError, match=r"--grounding=False, which .* was recorded with"):
        Recorder(root, SPEC)
    with Recorder(root, OLD) as recorder:
        recorder.add(episode(1))
    assert LeRobotDataset("local/old", root=root).num_episodes == 2
