"""What every environment promises, over every known task."""

import hashlib
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from handsight.envs.env import HandsightEnv, gymnasium_id, make, task_names
from handsight.envs.rollout import Episode, expert_episode
from handsight.sensors.errors import HandsightError
from handsight.sensors.realism import Realism
from handsight.sensors.types import FRONT, STATE, STATE_NAMES, TOUCH, Sensor

FORCE = slice(STATE_NAMES.index("force_left"), None)


@pytest.fixture(scope="module", params=task_names())
def env(request: pytest.FixtureRequest) -> Iterator[HandsightEnv]:
    environment = make(request.param)
    yield environment
    environment.close()


@pytest.fixture(scope="module")
def episode(env: HandsightEnv) -> Episode:
    return expert_episode(env, seed=3, noise=True)


def test_check_env(env: HandsightEnv) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*Not able to test alternative render modes")
        check_env(env)


def test_gymnasium_knows_it_by_id(env: HandsightEnv) -> None:
    made = gymnasium.make(gymnasium_id(env.task.name), sensors=Sensor.STATE)
    assert made.reset(seed=0)[0][STATE].shape == (len(STATE_NAMES),)
    made.close()


def test_the_same_seed_gives_the_same_bytes(env: HandsightEnv, episode: Episode) -> None:
    env.reset(seed=4)  # another episode in between
    again = expert_episode(env, seed=3, noise=True)
    assert digest(again) == digest(episode)


def test_the_same_seed_gives_the_same_bytes_in_another_process() -> None:
    names = task_names()[::7]
    code = f"import sys; sys.path.insert(0, '.'); import test_env; print(*(test_env.played_afresh(name) for name in {names}))"
    child = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    assert child.stdout.split() == [played_afresh(name) for name in reversed(names)][::-1]


def played_afresh(task: str) -> str:
    """Digest of an episode in a new environment."""
    env = make(task, image_size=84)
    found = digest(expert_episode(env, seed=11, noise=True))
    env.close()
    return found


def digest(episode: Episode) -> str:
    """Of every byte of an episode."""
    parts = [episode.instruction.encode(), episode.actions.tobytes(), *(value.tobytes() for value in episode.observations.values())]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_an_episode_does_not_depend_on_the_one_before(env: HandsightEnv) -> None:
    env.reset(seed=1)
    for _ in range(30):
        env.step(np.array([0.5, 0.5, -1, 0, 0, 0.5, 1], np.float32))
    after, _ = env.reset(seed=2)
    fresh_env = make(env.task.name)
    fresh, _ = fresh_env.reset(seed=2)
    fresh_env.close()
    for key in fresh:
        assert fresh[key].tobytes() == after[key].tobytes(), key


def test_an_episode_of_the_expert_is_whole(episode: Episode) -> None:
    assert episode.instruction
    assert "{" not in episode.instruction
    assert np.isfinite(episode.actions).all()
    assert np.abs(episode.actions).max() <= 1.0
    assert set(np.unique(episode.phases)) <= set(range(len(episode.phase_names)))


def test_touch_sums_to_the_force_in_the_state(env: HandsightEnv, episode: Episode) -> None:
    area = (0.018 / 16) ** 2  # of a taxel [m^2]
    image_force = episode.observations[TOUCH][:, :, 0].sum(axis=(2, 3)) * 1000 * area
    np.testing.assert_allclose(image_force, episode.observations[STATE][:, FORCE], rtol=1e-4, atol=1e-4)
    if Sensor.TOUCH in env.task.needs:
        assert image_force.max() > 1.0


def test_privileged_state_stays_out_of_observations(env: HandsightEnv) -> None:
    observation, info = env.reset(seed=0)
    assert set(observation) == set(Sensor.ALL.keys)
    assert "target" in info["privileged"]


@pytest.mark.parametrize("realism", ["ideal", "robot"])
def test_not_to_look_changes_nothing_but_that_there_are_no_pictures(realism: str) -> None:
    env = make("sense/bag_stiff", realism=Realism.parse(realism), image_size=84)
    seen = []
    for every in (1, 3):
        env.reset(seed=5)
        env.look(False)  # of an episode before it, a reset knows nothing
        observations = [env.reset(seed=5)[0]]
        for step in range(1, 13):
            env.look(step % every == 0)
            observations.append(env.step(np.array([0.3, 0.2, -1, 0, 0, 0.5, 1], np.float32))[0])
        seen.append(observations)
    env.close()
    for step, (always, sometimes) in enumerate(zip(*seen, strict=True)):
        blinked = step % 3 != 0 and realism == "ideal"
        assert set(sometimes) == set(always) - (set(Sensor.CAMERAS.keys) if blinked else set())
        assert all(np.array_equal(value, always[key]) for key, value in sometimes.items())


def test_chosen_sensors_only(env: HandsightEnv) -> None:
    small = make(env.task.name, sensors=Sensor.FRONT | Sensor.STATE, image_size=84)
    observation, _ = small.reset(seed=0)
    small.close()
    assert observation[FRONT].shape == (84, 84, 3)
    assert set(observation) == {FRONT, STATE}


@pytest.mark.parametrize("action", [np.full(7, np.nan, np.float32), np.zeros(6, np.float32), np.array([np.inf] * 7, np.float32)])
def test_a_bad_action_is_refused_in_one_line(env: HandsightEnv, action: np.ndarray) -> None:
    env.reset(seed=0)
    with pytest.raises(HandsightError, match="expected a finite action") as caught:
        env.step(action)
    assert "\n" not in str(caught.value)


def test_an_unknown_task_names_the_known_ones() -> None:
    with pytest.raises(HandsightError, match="did you mean sense/tabletop_grasp"):
        make("sense/tabletop_gras")


def test_environments_import_neither_torch_nor_lerobot() -> None:
    code = "import sys, handsight.envs.gym_names, handsight.envs.rollout; print([m for m in ('torch', 'lerobot') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
