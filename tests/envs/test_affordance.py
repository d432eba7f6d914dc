"""Labels of where a demonstration made contact and of the way it took."""

from collections.abc import Iterator

import numpy as np
import pytest

from handsight.envs.affordance import heatmap, waypoints
from handsight.envs.env import HandsightEnv, make, task_class, task_names
from handsight.envs.rollout import Episode, expert_episode
from handsight.envs.tasks.assist.scene import TOOL_OF
from handsight.envs.tasks.assist.tools import TOOLS
from handsight.sensors.types import STATE, Sensor

SIZE = 128


@pytest.fixture(scope="module", params=[name for name in task_names() if name.startswith("assist/")])
def played(request: pytest.FixtureRequest) -> Iterator[tuple[HandsightEnv, Episode]]:
    env = make(request.param, sensors=Sensor.STATE)
    yield env, expert_episode(env, 1001, noise=False)
    env.close()


def test_the_heatmap_peaks_at_the_points() -> None:
    points = np.array([[30.0, 10.0], [100.0, 90.0]])
    shown = heatmap(points, SIZE, spread=0.02)
    assert shown.shape == (SIZE, SIZE)
    np.testing.assert_allclose(shown[[10, 90], [30, 100]], 1.0)
    sigma = 0.02 * SIZE
    np.testing.assert_allclose(shown[10, 34], np.exp(-0.5 * (4 / sigma) ** 2), rtol=1e-5)
    assert shown[60, 60] < 1e-6


def test_waypoints_are_equally_spaced_and_keep_the_grasp() -> None:
    states, actions = np.zeros((41, 15), np.float32), -np.ones((41, 7), np.float32)
    states[:21, 0] = np.linspace(0, 0.2, 21)
    states[21:, 0] = 0.2
    states[30:, 2] = np.linspace(0, 0.3, 11)
    actions[25:, 6] = 1.0
    found = waypoints(states, actions)
    assert found.shape == (32, 10)
    np.testing.assert_allclose(found[[0, -1], :3], states[[0, -1], :3], atol=1e-6)
    closed = int(np.argmax(found[:, 9] > 0))
    assert set(found[:, 9]) == {-1.0, 1.0}
    np.testing.assert_allclose(found[closed, :3], [0.2, 0, 0], atol=0.02)
    steps = np.linalg.norm(np.diff(found[:, :3], axis=0), axis=1)
    np.testing.assert_allclose(np.delete(steps, [closed - 1, closed, closed + 1])[:10], steps[0], rtol=1e-4)


def test_every_activity_emits_its_contacts_and_way(played: tuple[HandsightEnv, Episode]) -> None:
    env, episode = played
    assert episode.success
    assert task_class(env.task.name).touches
    affordance = episode.affordance
    assert affordance is not None
    assert 2 <= len(affordance.points) <= 16
    assert affordance.waypoints.shape == (32, 10)
    assert (affordance.pixels > 0).all()
    assert (affordance.pixels < SIZE).all()
    np.testing.assert_allclose(affordance.waypoints[0, :3], episode.observations[STATE][0, :3], atol=1e-6)


def test_the_grip_is_on_the_thing_as_it_lay_at_first(played: tuple[HandsightEnv, Episode]) -> None:
    env, episode = played
    env.reset(seed=episode.seed)
    tool = TOOL_OF[env.task.name.partition("/")[2]]
    assert episode.affordance is not None
    offset = episode.affordance.points[0] - env.world.position(tool)
    assert np.linalg.norm(offset[:2]) < 0.01
    assert offset[2] == pytest.approx(TOOLS[tool].grip[2], abs=0.02)


def test_the_other_contacts_are_where_the_activity_happens(played: tuple[HandsightEnv, Episode]) -> None:
    env, episode = played
    path = env.task.path(env.setup.memory.scene)  # type: ignore[attr-defined]
    assert episode.affordance is not None
    away = np.linalg.norm(episode.affordance.points[1:, None] - path[None, 1:], axis=2).min(axis=1)
    assert away.max() < 0.008
