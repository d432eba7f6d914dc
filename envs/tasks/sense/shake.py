"""What the shaking tasks share: three closed boxes with beads in them, an expert that shakes one after the other, hearing that decides.

A box is a free body: an opaque shell that touches the world and, inside it, six walls that only beads touch. A bead is a free body of its
own, so that the rattle comes out of the physics. Boxes weigh the same whatever is in them.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.envs.expert import CLOSED, OPEN, Expert
from handsight.envs.props import COLORS, HARDNESS, size_word
from handsight.envs.randomize import Ranges, around
from handsight.envs.sound import SoundSource
from handsight.envs.splits import spread
from handsight.envs.tasks.base import Setup, Status, Surface, Task, lifted
from handsight.envs.world import World
from handsight.sensors.grounding import Attributes
from handsight.sensors.types import AUDIO, Observation, Sensor

BOXES: Final = ("box0", "box1", "box2")  # left to right
PITCH: Final = 0.15  # distance between two boxes [m]
HALF: Final = (0.0235, 0.0255)  # half extent of a box [m]
LARGEST: Final = 0.027  # half extent with which a box is compiled [m]
CAVITY: Final = 0.016  # half extent of the room for beads [m]
WALL: Final = 0.006  # half thickness of the walls that beads touch [m]: thicker than a bead sinks into them when a box is thrown
BEADS_ONLY: Final = 2  # collision bit of beads and walls; everything else has bit 1
YIELD: Final = 0.010  # time constant of a bead's contacts [s]: soft enough not to chatter, hard enough to keep a bead in a box that falls
HIDDEN_GROUP: Final = 3  # of geoms that are never drawn
LIFT: Final = 0.10  # [m]
WRONG: Final = 0.08  # height to which another box must not be lifted [m]
MASS: Final = 0.08  # of a box with its beads [kg]
BEAD_MASS: Final = 0.004  # of a bead, whatever it is made of [kg]
GAINS: Final = {"metal": 6.0, "glass": 8.0, "wood": 10.0, "plastic": 20.0}
"""How much the closed box, a sounding board, amplifies a bead. It evens out how loud materials are, so that all stand above the noise."""


class ShakeExpert(Expert):
    """Lifts one box after the other a little, shakes it and listens; lifts the one that sounds as described."""

    phases = ("approach", "descend", "close", "raise", "shake", "lower", "release", "rise", "lift")
    fragile = ("close", "shake", "release")
    raised: ClassVar[float] = 0.035
    """How high a box is lifted to be shaken [m]."""
    shaking: ClassVar[int] = 20
    """Control steps of a shake."""
    stroke: ClassVar[int] = 3
    """Control steps in one direction."""
    doubt: ClassVar[float] = 0.0
    box = 0
    decided = False

    @abstractmethod
    def fit(self, sound: NDArray[np.float32]) -> float:
        """How well the sound (N,) of one shake fits what the instruction describes: above `doubt` it does, below -`doubt` it does not."""

    def decide(self, observation: Observation) -> NDArray[np.float32]:
        if not hasattr(self, "fits"):
            self._begin(observation)
        if self.phase == "shake":
            self.sound.append(observation[AUDIO])
        self._change(self._target())
        return self._move(self._target())

    def _begin(self, observation: Observation) -> None:
        self.fits: dict[int, float] = {}
        self.sound: list[NDArray[np.float32]] = []
        if AUDIO not in observation:
            self._choose(BOXES.index(self.setup.target))

    def _target(self) -> NDArray[np.float64]:
        return self.world.position(BOXES[self.box])

    def _choose(self, box: int) -> None:
        self.box, self.decided = box, True

    def _change(self, target: NDArray[np.float64]) -> None:
        """Goes to the next phase where this one is done."""
        if self.phase in ("raise", "shake", "lift") and self.world.finger_opening < 0.010:
            self.enter("approach")  # the box slipped
        elif self.phase in ("approach", "descend", "close"):
            self._change_before_the_grasp(target)
        else:
            self._change_after_the_grasp()

    def _change_before_the_grasp(self, target: NDArray[np.float64]) -> None:
        across, above = self.distance(target)
        if self.phase == "approach" and across < 0.010 and abs(self._yaw_of_box() - self.yaw) < 0.08:
            self.enter("descend")
        elif self.phase == "descend" and across > 0.020:
            self.enter("approach")
        elif self.phase == "descend" and above < 0.005 and across < 0.004:
            self.spot = self.arm.position.copy()
            self.enter("close")
        elif self.phase == "close" and self.steps_in_phase > 9:
            self.enter("lift" if self.decided else "raise")

    def _change_after_the_grasp(self) -> None:
        height = self.world.tcp_position[2]
        if self.phase == "raise" and height > self.spot[2] + self.raised - 0.006:
            self.sound = []
            self.enter("shake")
        elif self.phase == "shake" and self.steps_in_phase > self.shaking:
            self._judge()
        elif self.phase == "lower" and (height < self.spot[2] + 0.003 or self.steps_in_phase > 25):
            self.enter("release")
        elif self.phase == "release" and self.steps_in_phase > 6:
            self.enter("rise")
        elif self.phase == "rise" and height > 0.095:
            self.enter("approach")
            self._move_on()

    def _judge(self) -> None:
        sound = np.concatenate(self.sound)
        self.fits[self.box] = self.fit(sound) if sound.any() else 0.0  # a microphone that works is never without noise
        if self.fits[self.box] > self.doubt:
            self._choose(self.box)
        self.enter("lift" if self.decided else "lower")

    def _move_on(self) -> None:
        """To the next box; to the last one without hearing it if it must be that one; after all of them to the best match or a guess."""
        left = [box for box in range(len(BOXES)) if box not in self.fits]
        if not left:
            best = [box for box, fit in self.fits.items() if fit == max(self.fits.values())]
            self._choose(int(self.rng.choice(best)))
        elif len(left) == 1 and max(self.fits.values()) < -self.doubt:
            self._choose(left[0])
        else:
            self.box = left[0]

    def _move(self, target: NDArray[np.float64]) -> NDArray[np.float32]:
        yaw = self._yaw_of_box()
        if self.phase == "approach":
            return self.towards(np.array([target[0], target[1], 0.105]), OPEN, yaw)
        if self.phase == "descend":
            return self.towards(target, OPEN, yaw)
        if self.phase == "close":
            return self.towards(self.spot, CLOSED, self.yaw)
        if self.phase == "raise":
            return self.towards(self.spot + np.array([0.0, 0.0, self.raised]), CLOSED, self.yaw)
        if self.phase == "shake":
            return self._shake()
        if self.phase == "lift":
            return self.towards(np.array([*self.arm.position[:2], self.spot[2] + LIFT + 0.03]), CLOSED, self.yaw)
        if self.phase == "rise":
            return self.towards(np.array([*self.arm.position[:2], 0.115]), OPEN, self.yaw)
        return self.towards(self.spot, CLOSED if self.phase == "lower" else OPEN, self.yaw)

    def _shake(self) -> NDArray[np.float32]:
        """To and fro across the fingers at full speed, while the height is kept."""
        action = self.towards(self.spot + np.array([0.0, 0.0, self.raised]), CLOSED, self.yaw)
        action[0] = 1.0 if (self.steps_in_phase // self.stroke) % 2 == 0 else -1.0
        return action

    def _yaw_of_box(self) -> float:
        """Turn that aligns the fingers with the box's sides, whichever of its faces it lies on."""
        axes = self.world.data.body(BOXES[self.box]).xmat.reshape(3, 3)
        level = axes[:, int(np.abs(axes[2]).argmin())]
        return float((np.arctan2(level[1], level[0]) + np.pi / 4) % (np.pi / 2) - np.pi / 4)


@dataclass(frozen=True)
class Contents:
    """What is in the boxes in one episode, left to right."""

    beads: tuple[int, ...]
    """How many beads are in each box."""
    materials: tuple[str, ...]
    """What each box's beads are made of."""
    target: int
    """The described box."""
    attributes: dict[str, str]
    """What the instruction says of it."""
    sounds: tuple[str, ...]
    """Class of each box's rattle."""


class Shake(Task):
    """Three closed boxes; the described one must be lifted by LIFT and held, no other by WRONG."""

    horizon = 320
    needs: ClassVar[dict[Sensor, float]] = {Sensor.AUDIO: 1 / 3}
    beads: ClassVar[tuple[str, ...]] = ("bead0", "bead1", "bead2")
    """Names of all beads; every episode distributes all of them."""

    @abstractmethod
    def fill(self, rng: np.random.Generator) -> Contents:
        """Draws what is in the boxes and what the instruction says."""

    def add_props(self, spec: mujoco.MjSpec) -> None:
        for name in BOXES:
            _add_box(spec, name)
        for name in self.beads:
            _add_bead(spec, name)

    def reset(self, world: World, rng: np.random.Generator, ranges: Ranges) -> Setup:
        contents = self.fill(rng)
        half, radius = spread(rng, ranges.split, *HALF), spread(rng, ranges.split, 0.0057, 0.0065)
        colors = [str(color) for color in rng.choice(list(COLORS), len(BOXES), replace=False)]
        mass, friction = around(rng, MASS, ranges.mass), around(rng, 1.0, ranges.friction)
        names, surfaces, sounds, voices = iter(self.beads), [], {}, {}
        for i, box in enumerate(BOXES):
            place = np.array([0.49 + rng.uniform(-0.04, 0.04), PITCH * (1 - i) + rng.uniform(-0.015, 0.015), half])
            yaw = rng.uniform(-0.35, 0.35)
            world.place(box, place, yaw)
            shell = _dress_box(world, box, half, COLORS[colors[i]], mass - BEAD_MASS * contents.beads[i], friction)
            surfaces.append(Surface(shell, around(rng, HARDNESS["hard"].modulus, 0.1)))
            sounds[box] = SoundSource("rubber", half)
            for offset in _spots(rng, contents.beads[i], radius):
                bead = next(names)
                _place_bead(world, bead, place, yaw, offset, radius)
                sounds[bead] = SoundSource(contents.materials[i], half, gain=GAINS[contents.materials[i]])
                voices[bead] = box
        return Setup(
            attributes=contents.attributes,
            target=BOXES[contents.target],
            others=tuple(box for box in BOXES if box != BOXES[contents.target]),
            surfaces=tuple(surfaces),
            sounds=sounds,
            voices=voices | dict.fromkeys(BOXES, ""),
            objects={box: self._words(contents, i, colors[i], half) for i, box in enumerate(BOXES)},
            combination=(*contents.attributes.values(), f"place{contents.target}"),
            secret=str(contents.target),
            privileged={"rest": half, "beads": contents.beads, "materials": contents.materials},
        )

    @staticmethod
    def _words(contents: Contents, place: int, color: str, half: float) -> Attributes:
        return Attributes(
            color=color,
            shape="box",
            size=size_word(half),
            hardness="hard",
            texture="smooth",
            material=contents.materials[place] if contents.beads[place] else "",
            sound=contents.sounds[place],
        )

    def status(self, world: World, setup: Setup) -> Status:
        rest = setup.privileged["rest"]
        assert isinstance(rest, float)
        reached = bool(np.linalg.norm(world.tcp_position - world.position(setup.target)) < 0.025)
        wrong = any(lifted(world, box, WRONG, rest) for box in setup.others)
        return Status(lifted(world, setup.target, LIFT, rest), reached, wrong)


def _add_box(spec: mujoco.MjSpec, name: str) -> None:
    body = spec.worldbody.add_body(name=name)
    body.add_freejoint(name=name)
    box = mujoco.mjtGeom.mjGEOM_BOX
    body.add_geom(name=f"{name}_shell", type=box, size=[LARGEST] * 3, condim=4, friction=[1, 0.01, 0.0005], mass=MASS)
    for part in ("lid", "band"):
        body.add_geom(name=f"{name}_{part}", type=box, size=[LARGEST] * 3, contype=0, conaffinity=0, mass=0)
    for axis in range(3):
        for side in (-1, 1):
            position, size = np.zeros(3), np.full(3, CAVITY + 2 * WALL)
            position[axis], size[axis] = side * (CAVITY + WALL), WALL
            body.add_geom(
                type=box,
                pos=position,
                size=size,
                contype=BEADS_ONLY,
                conaffinity=BEADS_ONLY,
                group=HIDDEN_GROUP,
                solref=[YIELD, 1.0],
                mass=0,
            )


def _add_bead(spec: mujoco.MjSpec, name: str) -> None:
    body = spec.worldbody.add_body(name=name)
    body.add_freejoint(name=name)
    bits = {"contype": BEADS_ONLY, "conaffinity": BEADS_ONLY}
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        size=[0.008, 0, 0],
        friction=[0.3, 0.001, 0.0001],
        mass=BEAD_MASS,
        solref=[YIELD, 1.0],
        **bits,
    )


def _dress_box(world: World, name: str, half: float, color: tuple[float, float, float], mass: float, friction: float) -> int:
    """Gives a box its size, colour, mass and friction for this episode; returns the id of its shell."""
    model = world.model
    shell, lid, band = (model.geom(f"{name}_{part}") for part in ("shell", "lid", "band"))
    shell.size[:] = half
    shell.friction[0] = friction
    shell.rgba[:] = (*color, 1.0)
    rim, height = half + 0.0008, 0.22 * half  # the lid stands out a little and ends above the finger pads
    lid.size[:], lid.pos[:] = (rim, rim, height), (0.0, 0.0, half - height + 0.0008)
    lid.rgba[:] = (*(0.55 * np.array(color)), 1.0)
    band.size[:], band.pos[:] = (0.18 * half, rim + 0.0004, half), (0.0, 0.0, 0.0014)
    band.rgba[:] = (0.93, 0.90, 0.82, 1.0)
    body = model.body(name)
    body.mass[:] = mass
    body.inertia[:] = 10 / 9 * mass * half**2  # of a hollow cube
    return int(shell.id)


def _spots(rng: np.random.Generator, count: int, radius: float) -> Iterator[NDArray[np.float64]]:
    """Where `count` beads are in a box (3,) [m], in its frame: four near the bottom's corners, a fifth above."""
    reach = CAVITY - radius - 0.001
    grid = np.array([[1, 1, -1], [-1, -1, -1], [1, -1, -1], [-1, 1, -1], [0, 0, 1]]) * reach
    yield from grid[:count] + rng.uniform(-0.0005, 0.0005, (count, 3))


def _place_bead(world: World, name: str, box: NDArray[np.float64], yaw: float, offset: NDArray[np.float64], radius: float) -> None:
    cosine, sine = np.cos(yaw), np.sin(yaw)
    turned = np.array([cosine * offset[0] - sine * offset[1], sine * offset[0] + cosine * offset[1], offset[2]])
    world.place(name, box + turned)
    world.model.geom(name).size[0] = radius
