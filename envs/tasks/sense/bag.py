"""What the bag tasks share: hidden objects in an opaque bag, an expert that squeezes one after the other, touch that decides.

The bag has a row of compartments, left to right, with physical dividers and cloth covers that hands pass through.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.envs.expert import CLOSED, OPEN, Expert
from handsight.envs.props import COLORS, HARDNESS, Look, add_body, dress, size_word, top
from handsight.envs.randomize import Ranges, around
from handsight.envs.sound import SoundSource
from handsight.envs.splits import spread
from handsight.envs.tasks.base import Setup, Status, Surface, Task, lifted
from handsight.envs.world import World
from handsight.sensors.grounding import Attributes
from handsight.sensors.types import TOUCH, Observation, Sensor

PITCH = 0.14  # distance between two compartments' centres [m]
DEPTH = 0.055  # half length of the bag across the row [m]
COVER = 0.056  # height of the covers [m]
WALL = 0.003  # half thickness of walls and dividers [m]
LIFT = 0.10  # [m]
SMOOTH = (0.0, 0.0, 0.0)  # height of the textures of three smooth objects [mm]
REST = 0.020  # height of an object's centre that lies in the bag [m]


class BagExpert(Expert):
    """Squeezes one object after the other until one feels as described; after a whole round takes the best match."""

    phases = ("approach", "descend", "squeeze", "lift", "release", "rise")
    fragile = ("squeeze", "release")
    dwell = 12
    """Control steps of a squeeze."""

    decided = False

    @abstractmethod
    def fit(self, touch: NDArray[np.float32]) -> float:
        """How well touch (2, 3, 16, 16) [kPa] fits what the instruction describes; positive if it does."""

    def candidates(self, observation: Observation) -> list[int]:
        """Compartments that may hold the described object, before anything was touched; in the order in which they are felt."""
        return list(range(len(self._centres())))

    def decide(self, observation: Observation) -> NDArray[np.float32]:
        if not hasattr(self, "compartment"):
            self.fits: dict[int, float] = {}
            self.waiting = self.candidates(observation)
            self.compartment = self.waiting.pop(0)
        centre = self._centre()
        across, above = self.distance(centre)
        high = self.world.tcp_position[2] > COVER + 0.030
        if self.phase == "approach" and across < 0.008:
            self.enter("descend")
        elif self.phase == "descend" and across > 0.012 and self.world.tcp_position[2] > COVER:
            self.enter("approach")  # a finger would land on a divider
        elif self.phase == "descend" and above < 0.005:
            self.enter("squeeze")
        elif self.phase == "squeeze" and self.steps_in_phase > self.dwell:
            self.enter("lift" if self._matches(observation) else "release")
        elif self.phase == "release" and self.steps_in_phase > 6:
            self.enter("rise")
        elif self.phase == "rise" and high:
            self._move_on()
            self.enter("approach")
        elif self.phase == "lift" and self.world.finger_opening < 0.010:
            self.enter("release")
        return self._move(self._centre())

    def _centres(self) -> NDArray[np.float64]:
        centres = self.setup.privileged["centres"]
        assert isinstance(centres, np.ndarray)
        return centres

    def _centre(self) -> NDArray[np.float64]:
        return np.asarray(self._centres()[self.compartment])

    def _matches(self, observation: Observation) -> bool:
        self.fits[self.compartment] = self.fit(observation[TOUCH])
        return self.decided or self.fits[self.compartment] > 0

    def _move_on(self) -> None:
        """To the next compartment; after the last one back to the best match, or to a guess where nothing was felt."""
        self.decided = not self.waiting
        best = [index for index, fit in self.fits.items() if fit == max(self.fits.values())]
        self.compartment = self.waiting.pop(0) if self.waiting else int(self.rng.choice(best))

    def _move(self, centre: NDArray[np.float64]) -> NDArray[np.float32]:
        here = self.arm.position
        if self.phase == "approach":
            return self.towards(np.array([centre[0], centre[1], COVER + 0.045]), OPEN)
        if self.phase == "descend":
            return self.towards(centre, OPEN)
        if self.phase in ("squeeze", "release"):
            return self.towards(centre, CLOSED if self.phase == "squeeze" else OPEN)
        if self.phase == "lift":
            return self.towards(np.array([here[0], here[1], 0.22]), CLOSED)
        return self.towards(np.array([here[0], here[1], COVER + 0.045]), OPEN)


@dataclass(frozen=True)
class Filling:
    """What lies in the bag in one episode, left to right."""

    looks: tuple[Look, ...]
    target: int
    """Compartment of the described object."""
    attributes: dict[str, str]
    """What the instruction says of it."""
    roughness: tuple[float, ...]
    """Height of each object's texture [mm]."""
    covers: tuple[str, ...] = ()
    """Colour of each compartment's cover and of what lies below it, if colours are to be seen."""
    secret: str = ""
    """What touch must find out; the target's compartment if empty."""


class Bag(Task):
    """Hidden objects, one a compartment; the described one must be lifted by LIFT and held."""

    horizon = 240
    needs: ClassVar[dict[Sensor, float]] = {Sensor.TOUCH: 1 / 3}
    places: ClassVar[int] = 3

    @property
    def bodies(self) -> tuple[str, ...]:
        """Names of the objects, left to right."""
        return tuple(f"ball{i}" for i in range(self.places))

    @property
    def row(self) -> NDArray[np.float64]:
        """(places,) y of the compartments' centres in the bag's frame [m], left to right."""
        return np.asarray(PITCH * (0.5 * (self.places - 1) - np.arange(self.places)), np.float64)

    @abstractmethod
    def fill(self, rng: np.random.Generator, ranges: Ranges) -> Filling:
        """Draws what lies in the bag and what the instruction says."""

    def add_props(self, spec: mujoco.MjSpec) -> None:
        for name in self.bodies:
            add_body(spec, name)
        bag = spec.worldbody.add_body(name="bag", mocap=True)
        cloth, box = [0.30, 0.33, 0.42, 1.0], mujoco.mjtGeom.mjGEOM_BOX
        half = 0.5 * self.places * PITCH
        for i in range(self.places + 1):
            y = PITCH * i - half
            bag.add_geom(name=f"divider{i}", type=box, pos=[0, y, COVER / 2], size=[DEPTH, WALL, COVER / 2], rgba=cloth)
        for side, x in (("far", DEPTH), ("near", -DEPTH)):
            bag.add_geom(name=f"wall_{side}", type=box, pos=[x, 0, COVER / 2], size=[WALL, half + WALL, COVER / 2], rgba=cloth)
        for i, y in enumerate(self.row):
            shade = [0.42, 0.46, 0.58, 1.0] if i % 2 == 0 else [0.50, 0.54, 0.66, 1.0]
            size = [DEPTH + WALL, PITCH / 2, 0.001]
            bag.add_geom(name=f"cover{i}", type=box, pos=[0, y, COVER], size=size, rgba=shade, contype=0, conaffinity=0)

    def reset(self, world: World, rng: np.random.Generator, ranges: Ranges) -> Setup:
        where = np.array([0.49, 0.0]) + rng.uniform(-0.02, 0.02, 2)
        world.data.mocap_pos[0] = [*where, 0.0]
        filling = self.fill(rng, ranges)
        surfaces, centres = [], []
        for i, (body, look) in enumerate(zip(self.bodies, filling.looks, strict=True)):
            geom = dress(world, body, look)
            centre = np.array([where[0], where[1] + self.row[i], look.radius])
            world.place(body, centre + np.array([*rng.uniform(-0.004, 0.004, 2), 0.0]))
            surfaces.append(Surface(geom, around(rng, HARDNESS[look.hardness].modulus, 0.1), filling.roughness[i]))
            centres.append([centre[0], centre[1], REST])
        for i, color in enumerate(filling.covers):
            world.model.geom(f"cover{i}").rgba[:3] = COLORS[color]
        return self._setup(filling, tuple(surfaces), np.array(centres))

    def _setup(self, filling: Filling, surfaces: tuple[Surface, ...], centres: NDArray[np.float64]) -> Setup:
        target = self.bodies[filling.target]
        looks = dict(zip(self.bodies, filling.looks, strict=True))
        return Setup(
            attributes=filling.attributes,
            target=target,
            others=tuple(body for body in self.bodies if body != target),
            surfaces=surfaces,
            sounds={body: SoundSource(look.material, look.radius) for body, look in looks.items()},
            objects={body: self._words(filling, i, look) for i, (body, look) in enumerate(looks.items())},
            combination=(*filling.attributes.values(), f"compartment{filling.target}"),
            secret=filling.secret or str(filling.target),
            privileged={**filling.attributes, "odd": filling.target, "centres": centres},
        )

    @staticmethod
    def _words(filling: Filling, place: int, look: Look) -> Attributes:
        return Attributes(
            color=filling.covers[place] if filling.covers else "grey",
            shape=look.shape,
            size=size_word(look.radius),
            hardness=look.hardness,
            texture="rough" if filling.roughness[place] > 0 else "smooth",
            material=look.material,
        )

    def visible(self, world: World, setup: Setup) -> frozenset[str]:
        return frozenset(body for body in self.bodies if top(world, body) > COVER)

    def status(self, world: World, setup: Setup) -> Status:
        reached = bool(np.linalg.norm(world.tcp_position - world.position(setup.target)) < 0.025)
        wrong = any(lifted(world, body, LIFT / 2, REST) for body in setup.others)
        return Status(lifted(world, setup.target, LIFT, REST), reached, wrong)


def odd_one_out(rng: np.random.Generator, values: tuple[str, str], places: int) -> tuple[int, tuple[str, ...]]:
    """Where the odd one lies, and the value of each compartment's object: one of the two values there, the other one elsewhere."""
    asked = str(rng.choice(values))
    odd = int(rng.integers(places))
    common = next(value for value in values if value != asked)
    return odd, tuple(asked if i == odd else common for i in range(places))


def hidden_look(rng: np.random.Generator, ranges: Ranges, *, shape: str = "sphere", hardness: str = "hard") -> Look:
    """A grey rubber object of random size, mass and friction."""
    radius, mass = spread(rng, ranges.split, 0.0185, 0.0215), around(rng, 0.05, ranges.mass)
    return Look(shape, radius, (0.6, 0.6, 0.6), mass, around(rng, 1.0, ranges.friction), hardness, "rubber")
