"""Affordance labels reach LeRobot's reader as they were emitted."""

from pathlib import Path

import numpy as np
import pytest

from handsight.datasets_rb.affordance import affordance_columns
from handsight.datasets_rb.record import Recorder
from handsight.datasets_rb.schema import RecordingSpec
from handsight.envs.affordance import Affordance
from handsight.envs.env import make
from handsight.envs.rollout import expert_episode
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import CONTACTS, CONTACTS_SHAPE, WAYPOINTS, WAYPOINTS_SHAPE


def emitted(points: int) -> Affordance:
    pixels = np.arange(2.0 * points).reshape(points, 2)
    return Affordance(np.zeros((points, 3)), pixels, np.ones(WAYPOINTS_SHAPE))


def test_points_are_shares_of_the_picture_and_absent_ones_are_marked() -> None:
    contacts = affordance_columns(emitted(2), size=4, length=3)[CONTACTS].reshape(3, *CONTACTS_SHAPE)
    np.testing.assert_array_equal(contacts[0], contacts[2])
    np.testing.assert_allclose(contacts[0, :3], [[0.125, 0.375, 1], [0.625, 0.875, 1], [0, 0, 0]])


def test_no_contact_and_too_many_are_one_line() -> None:
    with pytest.raises(HandsightError, match="contact points, got none"):
        affordance_columns(None, size=4, length=3)
    with pytest.raises(HandsightError, match="at most 16 contact points, got 17"):
        affordance_columns(emitted(17), size=4, length=3)


def test_lerobot_reads_the_labels_of_an_assist_demonstration(tmp_path: Path) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    env = make("assist/feed", image_size=64)
    episode = expert_episode(env, 1000, noise=False)
    env.close()
    with Recorder(tmp_path / "feed", RecordingSpec("assist/feed", image_size=64, images="png", affordance=True)) as recorder:
        recorder.add(episode)
    item = LeRobotDataset("local/feed", root=tmp_path / "feed")[5]
    assert episode.affordance is not None
    contacts = item[CONTACTS].numpy().reshape(CONTACTS_SHAPE)
    shown = contacts[contacts[:, 2] > 0, :2]
    np.testing.assert_allclose(shown * 64 - 0.5, episode.affordance.pixels, atol=1e-4)
    np.testing.assert_allclose(item[WAYPOINTS].numpy().reshape(WAYPOINTS_SHAPE), episode.affordance.waypoints, atol=1e-6)
