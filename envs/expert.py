"""Scripted experts: state feedback through named phases, so that they recover from injected noise."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from handsight.envs.arm import Arm
from handsight.envs.look import likeness
from handsight.envs.tasks.base import Setup
from handsight.envs.world import World
from handsight.sensors.types import ROTATION_STEP, TRANSLATION_STEP, Observation

OPEN, CLOSED = -1.0, 1.0


class Expert(ABC):
    """Acts from the simulator's state and, where a sensor decides the task, from that sensor's observation.

    Args:
        world, arm, setup: of the environment's current episode.
        rng: for what it can only guess.
    """

    phases: ClassVar[tuple[str, ...]]
    fragile: ClassVar[tuple[str, ...]] = ()
    """Phases in which demonstrations must not be disturbed."""
    firm: ClassVar[tuple[str, ...]] = ()
    """Phases in which the gripper must not slip: what falls from there cannot be fetched again."""
    gain: ClassVar[float] = 0.5
    """Share of the remaining way that one step goes."""

    def __init__(self, world: World, arm: Arm, setup: Setup, rng: np.random.Generator) -> None:
        self.world = world
        self.arm = arm
        self.setup = setup
        self.rng = rng
        self.phase = self.phases[0]
        self.steps_in_phase = 0
        self.words = ""
        """What it has put into words as the instruction of the rest of the episode; empty if nothing yet."""
        self.touches: list[NDArray[np.float64]] = []
        """Where an activity made contact, in order, each (3,) in the world [m]: on the thing as it lay at first, then where it was used."""

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """The action (7,) for this observation."""
        self.steps_in_phase += 1
        return self.decide(observation)

    @abstractmethod
    def decide(self, observation: Observation) -> NDArray[np.float32]:
        """Changes phase where it must and returns the action."""

    def enter(self, phase: str) -> None:
        """Starts a phase."""
        self.phase = phase
        self.steps_in_phase = 0

    def towards(self, position: NDArray[np.float64], gripper: float, yaw: float = 0.0) -> NDArray[np.float32]:
        """Action that moves the commanded tcp towards `position` [m] and turns it to `yaw` [rad] from its home orientation."""
        action = np.zeros(7)
        action[:3] = self.gain * (position - self.arm.position) / TRANSLATION_STEP
        action[5] = self.gain * (yaw - self.yaw) / ROTATION_STEP
        action[6] = gripper
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    @property
    def yaw(self) -> float:
        """Turn of the commanded tcp about the vertical from its home orientation [rad]."""
        return float(np.arctan2(self.arm.rotation[1, 0], self.arm.rotation[0, 0]))

    def distance(self, position: NDArray[np.float64]) -> tuple[float, float]:
        """Horizontal and vertical distance of the measured tcp to `position` [m]."""
        offset = position - self.world.tcp_position
        return float(np.hypot(offset[0], offset[1])), float(abs(offset[2]))

    def recognise(self, observation: Observation, points: NDArray[np.float64], color: tuple[float, float, float], truth: int) -> int:
        """Which of the `points` (K, 3) [m] of the world shows `color` in the front camera; a guess where the picture is blank.

        truth: the answer, for environments that have no camera at all.
        """
        scores = likeness(self.world, observation, points, color)
        if scores is None:
            return truth
        best = np.flatnonzero(scores >= scores.max())
        return int(self.rng.choice(best))
