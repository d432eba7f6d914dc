"""A point that must reach one of two goals: the real observation keys, no physics, and failures on request.

Tasks: "fake/reach" works; "fake/raise" raises at step 3; "fake/die" kills its process at step 3; "fake/nowhere" cannot be made;
"fake/digest" succeeds or not by a checksum of every bit of every action;
"fake/modules" says in its instruction which heavy modules the process has loaded.
"""

import os
import sys
import zlib
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from handsight.sensors.errors import HandsightError
from handsight.sensors.types import AUDIO, AUDIO_STEP, FRONT, STATE, TOUCH, TOUCH_SHAPE, Observation

SIZE = 32


class FakeExpert:
    """Moves straight to the goal."""

    def __init__(self, env: "FakeEnv") -> None:
        self._env = env

    def act(self, observation: Observation) -> NDArray[np.float32]:
        action = np.zeros(7, np.float32)
        action[:2] = np.clip((self._env.goal - self._env.point) / 0.1, -1, 1)
        return action


class FakeEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 20}
    max_steps = 40

    def __init__(self, task: str, image_size: int = SIZE) -> None:
        if task == "fake/nowhere":
            raise HandsightError("expected a known task, got fake/nowhere; choose fake/reach")
        self.task = task
        self.size = image_size
        self.observation_space = spaces.Dict(
            {
                FRONT: spaces.Box(0, 255, (image_size, image_size, 3), np.uint8),
                STATE: spaces.Box(-10, 10, (15,), np.float32),
                TOUCH: spaces.Box(0, 100, TOUCH_SHAPE, np.float32),
                AUDIO: spaces.Box(-1, 1, (AUDIO_STEP,), np.float32),
            }
        )
        self.action_space = spaces.Box(-1, 1, (7,), np.float32)
        self.task_description = "go to the red goal"
        if task == "fake/modules":
            self.task_description = ",".join(name for name in ("torch", "lerobot", "pandas") if name in sys.modules)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        self.point = np.zeros(2)
        self.goal = self.np_random.uniform(-1, 1, 2)
        self.digest = 0
        return self._observe(), self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self.time += 1
        if self.time == 3 and self.task == "fake/raise":
            raise ValueError("the fake arm fell off")
        if self.time == 3 and self.task == "fake/die":
            os._exit(7)
        self.digest = zlib.crc32(np.asarray(action, np.float32).tobytes(), self.digest)
        if self.task == "fake/digest":
            bits = {name: bool(self.digest >> bit & 1) for bit, name in enumerate(("is_success", "reached", "wrong_object"))}
            return self._observe(), 0.0, self.time == 6, False, self._info() | (bits if self.time == 6 else {})
        self.point = self.point + 0.1 * np.clip(action[:2], -1, 1)
        info = self._info()
        done = info["is_success"] or info["wrong_object"]
        return self._observe(), float(info["is_success"]), done, self.time >= self.max_steps, info

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        return np.full((64, 64, 3), 5 * self.time, np.uint8)

    def make_expert(self) -> FakeExpert:
        return FakeExpert(self)

    def _info(self) -> dict[str, Any]:
        return {
            "task": self.task_description,
            "is_success": bool(np.linalg.norm(self.point - self.goal) < 0.05),
            "reached": bool(np.linalg.norm(self.point - self.goal) < 0.3),
            "wrong_object": bool(np.linalg.norm(self.point + self.goal) < 0.1 and self.time > 0),
        }

    def _observe(self) -> Observation:
        state = np.zeros(15, np.float32)
        state[:2], state[2:4] = self.point, self.goal
        return {
            FRONT: self.np_random.integers(0, 256, (self.size, self.size, 3), dtype=np.uint8),
            STATE: state,
            TOUCH: self.np_random.uniform(0, 5, TOUCH_SHAPE).astype(np.float32),
            AUDIO: self.np_random.uniform(-1, 1, AUDIO_STEP).astype(np.float32),
        }


def make(task: str, **kwargs: Any) -> FakeEnv:
    return FakeEnv(task, **kwargs)


def make_real_and_tell(task: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """The real environment, whose instruction says which heavy modules its process has loaded."""
    from handsight.envs.env import make as make_real

    class Telling(gymnasium.Wrapper[Any, Any, Any, Any]):
        def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
            observation, info = self.env.reset(**options)
            return observation, info | {"task": "loaded:" + ",".join(name for name in ("torch", "lerobot") if name in sys.modules)}

    return Telling(make_real(task, **kwargs))
