"""Small episodes for recording: every sensor, no simulation, the same bytes for the same seed."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handsight.datasets_rb.record import Recorder
from handsight.datasets_rb.schema import RecordingSpec
from handsight.sensors.types import AUDIO, AUDIO_STEP, FRONT, STATE, TOUCH, TOUCH_SHAPE, WRIST

SIZE = 32
FAILING = 5  # every fifth seed fails


@dataclass(frozen=True)
class FakeEpisode:
    seed: int
    instruction: str
    success: bool
    observations: dict[str, NDArray[Any]]
    actions: NDArray[np.float32]
    phases: NDArray[np.int64]
    phase_names: tuple[str, ...] = ("reach", "lift")
    commands: tuple[tuple[int, str], ...] = ()
    affordance: None = None
    grounding: NDArray[np.int16] | None = None


def episode(seed: int, size: int = SIZE) -> FakeEpisode:
    """8 to 12 steps; seeds 4, 9, 14, ... fail."""
    rng = np.random.default_rng(seed)
    length = int(rng.integers(8, 13))
    steps = np.arange(length)

    def images() -> NDArray[np.uint8]:
        blocks = rng.integers(0, 200, (1, 4, 4, 3)).repeat(size // 4, 1).repeat(size // 4, 2)
        return (blocks + 4 * steps[:, None, None, None]).astype(np.uint8)

    actions = rng.uniform(-1, 1, (length, 7)).astype(np.float32)
    actions[:, 6] = np.where(steps < length // 2, -1, 1)
    observations = {
        FRONT: images(),
        WRIST: images(),
        STATE: rng.normal(size=(length, 15)).astype(np.float32),
        TOUCH: rng.exponential(size=(length, *TOUCH_SHAPE)).astype(np.float32),
        AUDIO: rng.uniform(-1, 1, (length, AUDIO_STEP)).astype(np.float32),
    }
    success = seed % FAILING != FAILING - 1
    return FakeEpisode(seed, f"pick up object {seed % 3}", success, observations, actions, (steps >= length // 2).astype(np.int64))


def record(root: Path, seeds: range, images: str = "video") -> Path:
    """Records these seeds in one go."""
    with Recorder(root, RecordingSpec("fake/good", image_size=SIZE, images=images)) as recorder:
        for seed in seeds:
            recorder.add(episode(seed))
    return root


class FakeSource:
    """A source of episodes for `collect`, by the task's name: fake/good, fake/slow, fake/hopeless, fake/die, fake/modules."""

    def __init__(self, spec: RecordingSpec) -> None:
        self._spec = spec

    def __call__(self, seed: int) -> FakeEpisode:
        made = episode(seed, self._spec.image_size)
        match self._spec.task:
            case "fake/slow":
                time.sleep(0.2 * (seed % 2))  # odd seeds finish later than their successors
            case "fake/die":
                os._exit(3)
            case "fake/hopeless":
                return FakeEpisode(seed, made.instruction, False, made.observations, made.actions, made.phases)
            case "fake/modules":
                heavy = " ".join(name for name in ("torch", "lerobot", "transformers") if name in sys.modules)
                return FakeEpisode(seed, f"loaded: {heavy}", True, made.observations, made.actions, made.phases)
        return made
