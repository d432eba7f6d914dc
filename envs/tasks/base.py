"""What a task is. Copy sense/tabletop_grasp.py to add one: it is found by its place in this folder."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import mujoco
import numpy as np

from handsight.envs.randomize import Ranges
from handsight.envs.sound import SoundSource
from handsight.envs.world import World

if TYPE_CHECKING:
    from handsight.envs.expert import Expert


@dataclass(frozen=True)
class Surface:
    """What a geom feels and sounds like in this episode."""

    geom: int
    modulus: float = 120.0
    """Winkler modulus [kPa/mm]."""
    roughness: float = 0.0
    """Height amplitude [mm]."""


@dataclass(frozen=True)
class Setup:
    """One episode of a task, as drawn at reset."""

    attributes: dict[str, str]
    """What the instruction names: fills the slots of the phrasings."""
    target: str
    """Body that the instruction means."""
    others: tuple[str, ...] = ()
    """Bodies that it does not mean."""
    surfaces: tuple[Surface, ...] = ()
    sounds: dict[str, SoundSource] = field(default_factory=dict)
    """What each body sounds like when it is struck."""
    privileged: dict[str, object] = field(default_factory=dict)
    """What only the expert and the report may know."""


@dataclass(frozen=True)
class Status:
    """Where an episode stands."""

    success: bool
    """The success predicate holds now."""
    reached: bool
    """The gripper is at the named object."""
    wrong: bool
    """Another object than the named one was chosen."""


class Task(ABC):
    """Props, reset, success and expert of one task."""

    name: ClassVar[str]
    """family/task"""
    phrases: ClassVar[str]
    """Stem of the file in phrasings/."""
    horizon: ClassVar[int]
    """Control steps after which an episode is cut off."""

    @abstractmethod
    def add_props(self, spec: mujoco.MjSpec) -> None:
        """Adds bodies, before the world is compiled."""

    @abstractmethod
    def reset(self, world: World, rng: np.random.Generator, ranges: Ranges) -> Setup:
        """Places the bodies and draws what the instruction will say."""

    @abstractmethod
    def status(self, world: World, setup: Setup) -> Status:
        """Evaluates the state predicates."""

    @property
    @abstractmethod
    def expert(self) -> "type[Expert]":
        """The scripted expert of this task."""


def lifted(world: World, body: str, height: float, rest: float) -> bool:
    """Whether a body's origin is `height` [m] above the `rest` height [m] of its origin."""
    return bool(world.data.body(body).xpos[2] > rest + height)
