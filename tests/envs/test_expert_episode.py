"""Demonstrations: what is executed may be disturbed, what is recorded is the expert's."""

import numpy as np
import pytest
from numpy.typing import NDArray

from handsight.envs.env import HandsightEnv, make
from handsight.envs.rollout import Disturbance, Episode, expert_episode
from handsight.sensors.types import Sensor

GRIPPER = 6


def demonstrate(
    env: HandsightEnv, seed: int, disturbance: Disturbance, monkeypatch: pytest.MonkeyPatch
) -> tuple[Episode, NDArray[np.float32]]:
    """An episode, and the actions (T, 7) that were executed."""
    executed: list[NDArray[np.float32]] = []
    step = env.step
    with monkeypatch.context() as patch:
        patch.setattr(env, "step", lambda action: (executed.append(action), step(action))[1])
        episode = expert_episode(env, seed, noise=True, disturbance=disturbance)
    return episode, np.stack(executed)


def test_slips_flip_the_gripper_alone_and_are_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make("sense/tabletop_grasp", sensors=Sensor.STATE | Sensor.TOUCH)
    disturbance = Disturbance(share=1.0, sigma=0.0, kick=0.0, slip=0.04)
    successes = flipped = 0
    for seed in range(6):
        episode, executed = demonstrate(env, seed, disturbance, monkeypatch)
        np.testing.assert_array_equal(executed[:, :GRIPPER], episode.actions[:, :GRIPPER])
        np.testing.assert_array_equal(np.abs(executed), np.abs(episode.actions))
        slips = executed[:, GRIPPER] != episode.actions[:, GRIPPER]
        assert not slips[episode.phases == episode.phase_names.index("close")].any()
        successes, flipped = successes + episode.success, flipped + int(slips.any())
    env.close()
    assert flipped >= 4
    assert successes >= 4
