"""What a task is. Copy sense/tabletop_grasp.py to add one: it is found by its place in this folder."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import mujoco
import numpy as np

from handsight.envs.instructions import Phrasebook
from handsight.envs.randomize import Ranges
from handsight.envs.sound import SoundSource
from handsight.envs.touch import MODULUS
from handsight.envs.world import World
from handsight.sensors.grounding import Attributes
from handsight.sensors.types import Sensor

if TYPE_CHECKING:
    from handsight.envs.arm import Arm
    from handsight.envs.expert import Expert


@dataclass(frozen=True)
class Surface:
    """What a geom feels and sounds like in this episode."""

    geom: int
    modulus: float = MODULUS["hard"]
    """Contact modulus E* of pad and object in series [kPa]."""
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
    """What each body sounds like when it is struck; a name that is no free body sounds when `Status.struck` says so."""
    voices: dict[str, str] = field(default_factory=dict)
    """Which of `objects` is heard when a source of another name sounds: the box in which a bead rattles; "" where it tells nothing."""
    objects: dict[str, Attributes] = field(default_factory=dict)
    """What each object and button of the scene is like, by body."""
    combination: tuple[str, ...] = ()
    """The values whose pairing may be held out (envs/splits.py)."""
    secret: str = ""
    """What the needed sensor must find out: must be independent of the instruction and of everything that it may be read off."""
    privileged: dict[str, object] = field(default_factory=dict)
    """What only the expert and the report may know."""
    memory: Any = None
    """What has happened so far in this episode: a task's own mutable dataclass, which only its `status` writes."""


@dataclass(frozen=True)
class Status:
    """Where an episode stands."""

    success: bool
    """The success predicate holds now."""
    reached: bool
    """The gripper is at the named object."""
    wrong: bool
    """Another object than the named one was chosen."""
    struck: Mapping[str, float] = field(default_factory=dict)
    """Blows [N] on sources of `Setup.sounds` that the task itself strikes in this step: the tone of a button."""


class Task(ABC):
    """Props, reset, success and expert of one task."""

    name: ClassVar[str]
    """family/task"""
    phrases: ClassVar[str]
    """Stem of the file in phrasings/; not needed by a task that overrides `phrasebook`."""
    horizon: ClassVar[int]
    """Control steps after which an episode is cut off."""
    touches: ClassVar[bool] = False
    """Whether the expert notes where it makes contact, as a label of demonstrations (envs/affordance.py)."""
    needs: ClassVar[dict[Sensor, float]]
    """The sensors that decide the task, and the chance of success of a capable robot without each of them."""

    @abstractmethod
    def add_props(self, spec: mujoco.MjSpec) -> None:
        """Adds bodies, before the world is compiled."""

    @abstractmethod
    def reset(self, world: World, rng: np.random.Generator, ranges: Ranges) -> Setup:
        """Places the bodies and draws what the instruction will say."""

    @abstractmethod
    def status(self, world: World, setup: Setup) -> Status:
        """Evaluates the state predicates."""

    def phrasebook(self) -> Phrasebook:
        """How its instructions are put; a task outside the package brings its own."""
        return Phrasebook.load(self.phrases)

    def visible(self, world: World, setup: Setup) -> frozenset[str]:
        """Those of `setup.objects` of which something is in view of a camera; all of them unless the task hides some."""
        return frozenset(setup.objects)

    @property
    @abstractmethod
    def expert(self) -> "Callable[[World, Arm, Setup, np.random.Generator], Expert]":
        """Makes the scripted expert of an episode: a subclass of Expert will do."""


def lifted(world: World, body: str, height: float, rest: float) -> bool:
    """Whether a body's origin is `height` [m] above the `rest` height [m] of its origin."""
    return bool(world.data.body(body).xpos[2] > rest + height)
