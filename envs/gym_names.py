"""The environment with the names that LeRobot's own evaluation expects of a Gymnasium environment; imports neither torch nor LeRobot."""

from typing import Any, Final, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from handsight.envs.env import HandsightEnv, make
from handsight.envs.randomize import Ranges
from handsight.envs.splits import Split
from handsight.sensors.realism import Realism
from handsight.sensors.types import AUDIO, FRONT, STATE, TOUCH, WRIST, Observation, Sensor

PIXELS: Final = {FRONT: "front", WRIST: "wrist"}
NAMES: Final = {STATE: "agent_pos", TOUCH: "touch", AUDIO: "audio"}
REPORTED: Final = ("is_success", "reached", "wrong_object")


class LeRobotNames(gymnasium.Wrapper[dict[str, Any], NDArray[np.float32], Observation, NDArray[np.float32]]):
    """Observations as pixels/<camera>, agent_pos, touch, audio; `info` keeps only what a vector environment can stack."""

    def __init__(self, env: HandsightEnv) -> None:
        super().__init__(env)
        self._max_episode_steps = env.max_steps
        known: dict[str, spaces.Space[Any]] = dict(cast(Any, env.observation_space).spaces)
        pixels = spaces.Dict({name: known[key] for key, name in PIXELS.items() if key in known})
        named = {name: known[key] for key, name in NAMES.items() if key in known}
        self.observation_space = spaces.Dict({"pixels": pixels, **named} if pixels.spaces else named)

    @property
    def task_description(self) -> str:
        """The instruction of the current episode."""
        return str(self.env.get_wrapper_attr("task_description"))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._renamed(observation), self._reported(info)

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._renamed(observation), float(reward), terminated, truncated, self._reported(info)

    @staticmethod
    def _renamed(observation: Observation) -> dict[str, Any]:
        named: dict[str, Any] = {name: observation[key] for key, name in NAMES.items() if key in observation}
        pixels = {name: observation[key] for key, name in PIXELS.items() if key in observation}
        return {"pixels": pixels, **named} if pixels else named

    @staticmethod
    def _reported(info: dict[str, Any]) -> dict[str, Any]:
        return {key: info[key] for key in REPORTED}


def make_named(
    task: str, image_size: int, sensors: Sensor, phrasings: Any, split: str = "any", realism: str = "ideal", prompt: str = ""
) -> LeRobotNames:
    """One environment for LeRobot; a function of a module, so that workers can import it by name."""
    ranges, knobs = Ranges(split=Split.parse(split)), Realism.parse(realism)
    env = make(task, image_size=image_size, sensors=sensors, phrasings=phrasings, ranges=ranges, realism=knobs, prompt=prompt)
    return LeRobotNames(env)
