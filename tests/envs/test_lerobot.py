"""LeRobot's own evaluation runs our environments and a shipped policy, with workers that import neither torch nor LeRobot."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gymnasium.vector import VectorEnv
from lerobot.envs.utils import env_to_policy_features, preprocess_observation

from handsight.envs.lerobot import HandsightEnvConfig
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import ACTION, AUDIO, FRONT, STATE, TOUCH, WRIST


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def vector(request: pytest.FixtureRequest) -> Iterator[VectorEnv]:
    environment = HandsightEnvConfig(task="sense/bag_stiff").create_envs(2, use_async_envs=request.param)["handsight"][0]
    yield environment
    environment.close()


def test_features_have_the_policy_names() -> None:
    features = env_to_policy_features(HandsightEnvConfig(image_size=84))
    assert set(features) == {FRONT, WRIST, STATE, TOUCH, AUDIO, ACTION}
    assert features[FRONT].shape == (3, 84, 84)


def test_vector_environments_speak_lerobot(vector: VectorEnv) -> None:
    observation, _ = vector.reset(seed=[4, 5])
    batch = preprocess_observation(observation)
    assert {key: tuple(value.shape) for key, value in batch.items()} == {
        FRONT: (2, 3, 128, 128),
        WRIST: (2, 3, 128, 128),
        STATE: (2, 15),
        TOUCH: (2, 2, 3, 16, 16),
        AUDIO: (2, 800),
    }
    assert all(vector.call("task_description"))
    assert vector.call("_max_episode_steps") == (240, 240)
    *_, info = vector.step(np.zeros((2, 7), np.float32))
    assert not info["is_success"].any()


def test_unknown_sensors_and_tasks_are_one_line() -> None:
    with pytest.raises(HandsightError, match=r"expected --env.task to be one of .*sense/bag_stiff"):
        HandsightEnvConfig(task="sense/nothing")
    with pytest.raises(HandsightError, match=r"expected --env.sensors to name some of"):
        HandsightEnvConfig(sensors="front,smell")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stock_lerobot_eval(tmp_path: Path, repository: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("lerobot-eval")),
        f"--policy.path={repository / 'policies/zoo/tabletop_grasp'}",
        "--policy.device=cpu",
        "--env.type=handsight",
        "--env.task=sense/tabletop_grasp",
        "--env.sensors=front,wrist,state",
        "--eval.n_episodes=2",
        "--eval.batch_size=2",
        f"--output_dir={tmp_path / 'eval'}",
    ]
    subprocess.run(command, check=True, cwd=tmp_path)
    assert json.loads((tmp_path / "eval" / "eval_info.json").read_text())["overall"]["n_episodes"] == 2
