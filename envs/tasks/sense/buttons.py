"""What the button tasks share: spring-loaded buttons on a panel, a lever that commits, tones, and what was pressed in an episode.

A button is a cap on a spring inside a ring; it counts as pressed beyond PRESSED and again only after it came back above RELEASED. The
tones are virtual sources (`Status.struck`): a press is a blow on its button's chime.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.envs.randomize import Ranges, around
from handsight.envs.sound import SoundSource
from handsight.envs.splits import spread
from handsight.envs.tasks.base import Setup, Task
from handsight.envs.world import World
from handsight.sensors.grounding import Attributes

Color = tuple[float, float, float]

TONES: Final = {"low": 330.0, "middle": 523.0, "high": 880.0, "very high": 1480.0}
"""Frequency of each tone [Hz]; neighbours are 8 to 10 semitones apart, which people tell apart without practice."""
BLOW: Final = 8.0  # strength of a press as a blow on its source [N]
BUTTONS: Final = ("button0", "button1", "button2", "button3")  # the robot's left to its right, as the bag's compartments
LEVER: Final = "lever"

PITCH: Final = 0.10  # distance between neighbours [m]; the fingers are 0.03 m wide when closed
ROW: Final = (0.632, 0.0)  # middle of the row [m]; out of reach of a hand that only drops from where it starts
AWAY: Final = 0.465  # x of what stands apart from the row [m]
RADIUS: Final = (0.018, 0.022)  # of caps [m]
LARGEST: Final = 0.0235  # radius with which caps are compiled [m]
PLATE: Final = 0.006  # height of panels [m]
RING: Final = 0.018  # height of the ring's upper edge [m]
TOP: Final = 0.030  # height of a cap's face [m]
TRAVEL: Final = 0.008  # of a cap [m]
ROW_JITTER: Final = (0.010, 0.020)  # of the row along x and y [m]
JITTER: Final = 0.005  # of each button in the row [m]

LEVER_LENGTH: Final = 0.050  # from the hinge to the middle of the paddle [m]
LEVER_TOP: Final = 0.044  # height of the paddle at rest [m]
LEVER_TRAVEL: Final = 0.45  # [rad]
STOP: Final = (0.004, 1.0)  # time constant [s] and damping ratio of the ends of travel: as hard as the time step allows

DARK: Final = (0.15, 0.16, 0.19)
METAL: Final = (0.44, 0.46, 0.50)
ORANGE: Final = (0.98, 0.50, 0.08)
YELLOW: Final = (1.00, 0.82, 0.10)
_CYLINDER, _BOX, _CAPSULE = mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CAPSULE
# touched by hand and objects, never by each other or the table
_SOLID: Final = {"contype": 0, "conaffinity": 1}
_PAINT: Final = {"contype": 0, "conaffinity": 0}


@dataclass(frozen=True)
class Switch:
    """What is pressed: a joint at 0 that goes down against its spring."""

    pressed: float
    """Travel beyond which it is pressed [m or rad]."""
    released: float
    """Travel below which it can be pressed again."""
    depth: float
    """How far below its face at rest the fingertips go to press it [m]."""


BUTTON_SWITCH: Final = Switch(pressed=0.004, released=0.002, depth=0.0075)
LEVER_SWITCH: Final = Switch(pressed=0.25, released=0.12, depth=0.020)


def switch_of(name: str) -> Switch:
    """How the button or lever of this name works."""
    return LEVER_SWITCH if name == LEVER else BUTTON_SWITCH


@dataclass
class Presses:
    """What was pressed so far in an episode, in order; `Setup.memory` of the button tasks."""

    order: list[str] = field(default_factory=list)
    down: set[str] = field(default_factory=set)

    def update(self, world: World, names: Iterable[str]) -> tuple[str, ...]:
        """Those of `names` that went down in the control step that just ended."""
        new = []
        for name in names:
            travel, switch = -float(world.data.joint(name).qpos[0]), switch_of(name)
            if name in self.down and travel < switch.released:
                self.down.discard(name)
            elif name not in self.down and travel > switch.pressed:
                self.down.add(name)
                new.append(name)
        self.order += new
        return tuple(new)

    def last(self, names: Sequence[str]) -> str:
        """Which of `names` was pressed last; empty if none was."""
        return next((name for name in reversed(self.order) if name in names), "")

    def committed(self, names: Sequence[str], after: str = "") -> str:
        """Which of `names` was the last one before the lever first went down; empty as long as it has committed nothing.

        after: a press before which neither the lever nor any button counts.
        """
        begun, last = not after, ""
        for name in self.order:
            begun = begun or name == after
            if name == LEVER and last:
                return last
            if begun and name in names:
                last = name
        return ""


def blows(pressed: Iterable[str]) -> dict[str, float]:
    """`Status.struck` of what has just been pressed."""
    return dict.fromkeys(pressed, BLOW)


def tone_source(tone: str) -> SoundSource:
    """The chime of a tone."""
    return SoundSource("chime", frequency=TONES[tone])


def shuffled_tones(rng: np.random.Generator) -> tuple[str, ...]:
    """Every tone once, in a random order."""
    return tuple(str(tone) for tone in rng.permutation(list(TONES)))


CLICK: Final = SoundSource("plastic", size=0.02)  # a button without a tone
CLACK: Final = SoundSource("wood", size=0.05)  # the lever


def add_plate(spec: mujoco.MjSpec, name: str, half: tuple[float, float], color: Color = DARK) -> mujoco.MjsBody:
    """A flat panel of `half` extents along x and y [m], to be placed at reset."""
    body = spec.worldbody.add_body(name=name)
    body.add_geom(name=name, type=_BOX, pos=[0, 0, PLATE / 2], size=[*half, PLATE / 2], rgba=[*color, 1], **_SOLID)
    return body


def add_button(spec: mujoco.MjSpec, name: str, ring: Color = METAL, mark: Color | None = None) -> None:
    """A button: the cap is the body `name`, its ring and the place to move it are the body `<name>_base`; a dot of colour `mark` on it."""
    base = spec.worldbody.add_body(name=f"{name}_base")
    height = (RING - PLATE) / 2
    size = [LARGEST + 0.005, height, 0]
    base.add_geom(name=f"{name}_ring", type=_CYLINDER, pos=[0, 0, PLATE + height], size=size, rgba=[*ring, 1], **_SOLID)
    cap = base.add_body(name=name, pos=[0, 0, TOP - 0.010])
    cap.add_joint(
        name=name,
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=[0, 0, 1],
        range=[-TRAVEL, 0],
        solref_limit=STOP,
        stiffness=[350.0, 0.0, 0.0],
        springref=0.003,  # 1 N holds it up
        damping=[3.0, 0.0, 0.0],
    )
    cap.add_geom(name=name, type=_CYLINDER, size=[LARGEST, 0.010, 0], mass=0.03, **_SOLID)
    if mark:
        cap.add_geom(type=_CYLINDER, pos=[0, 0, 0.010], size=[0.009, 0.001, 0], rgba=[*mark, 1], mass=0.0, **_PAINT)


def add_lever(spec: mujoco.MjSpec) -> None:
    """The lever that commits: a paddle that points away from the robot and goes down when it is pressed."""
    base = spec.worldbody.add_body(name=f"{LEVER}_base")
    base.add_geom(name=f"{LEVER}_plate", type=_BOX, pos=[0, 0, PLATE / 2], size=[0.042, 0.030, PLATE / 2], rgba=[*DARK, 1], **_SOLID)
    for side in (-1, 1):
        base.add_geom(type=_BOX, pos=[-0.024, side * 0.016, 0.016], size=[0.008, 0.005, 0.016], rgba=[*METAL, 1], **_SOLID)
    arm = base.add_body(name=LEVER, pos=[-0.024, 0, 0.026])
    arm.add_joint(
        name=LEVER,
        type=mujoco.mjtJoint.mjJNT_HINGE,
        axis=[0, -1, 0],  # down is negative, as for a button
        range=[-LEVER_TRAVEL, 0],
        solref_limit=STOP,
        stiffness=[0.25, 0.0, 0.0],
        springref=0.15,
        damping=[0.004, 0.0, 0.0],
        armature=1e-4,
    )
    up = LEVER_TOP - 0.026 - 0.005
    arm.add_geom(type=_CAPSULE, fromto=[0, 0, 0, LEVER_LENGTH, 0, up], size=[0.006, 0, 0], rgba=[*METAL, 1], mass=0.01, **_SOLID)
    paddle = [LEVER_LENGTH, 0, up]
    arm.add_geom(name=LEVER, type=_BOX, pos=paddle, size=[0.016, 0.024, 0.005], rgba=[*ORANGE, 1], mass=0.02, **_SOLID)


def put(world: World, body: str, x: float, y: float) -> None:
    """Moves a body without a joint; the environment updates what depends on it after reset."""
    world.model.body(body).pos[:2] = (x, y)


def dress_button(world: World, name: str, color: Color, rng: np.random.Generator, ranges: Ranges, radius: float) -> None:
    """Gives a cap its colour, radius [m], mass, friction and spring for this episode."""
    cap, ring = world.model.geom(name), world.model.geom(f"{name}_ring")
    cap.rgba[:3], cap.size[0], ring.size[0] = color, radius, radius + 0.005
    cap.friction[0] = around(rng, 1.0, ranges.friction)
    world.model.body(name).mass[:] = around(rng, 0.03, ranges.mass)
    world.model.joint(name).stiffness[0] = around(rng, 350.0, ranges.mass)


def cap_radius(rng: np.random.Generator, ranges: Ranges) -> float:
    """Of all the buttons of an episode [m]."""
    return spread(rng, ranges.split, *RADIUS)


def press_point(world: World, name: str) -> NDArray[np.float64]:
    """Where a button or the lever is pressed: the middle of its face at rest, (3,) [m]."""
    x, y, _ = world.position(f"{name}_base")
    if name == LEVER:
        return np.array([x - 0.024 + LEVER_LENGTH, y, LEVER_TOP])
    return np.array([x, y, TOP])


def at_button(world: World, name: str) -> bool:
    """Whether the fingertips are over a button's cap, less than 20 mm above it."""
    across = world.tcp_position - press_point(world, name)
    return bool(np.hypot(across[0], across[1]) < LARGEST and across[2] < 0.029)


def button_words(color: str, radius: float, sound: str = "") -> Attributes:
    """What a button is like: the name of its colour, its cap's radius [m] and what it sounds like when it is pressed.

    It has no material: that would be what one hears, and a chime sounds like none.
    """
    size = "small" if radius < sum(RADIUS) / 2 else "large"
    return Attributes(color, "button", size, hardness="hard", texture="smooth", sound=sound)


LEVER_WORDS: Final = Attributes(color="orange", shape="lever", hardness="hard", texture="smooth", material="wood")


def tone_words(tone: str) -> str:
    """The class of sound of a tone."""
    return f"{tone} tone"


class ButtonTask(Task):
    """Four buttons in a row on a panel, out of sight of nothing; what they mean is the task's."""

    buttons: ClassVar[tuple[str, ...]] = BUTTONS

    def add_props(self, spec: mujoco.MjSpec) -> None:
        add_plate(spec, "panel", (0.042, 0.5 * PITCH * len(self.buttons) - 0.006))
        for name in self.buttons:
            add_button(spec, name)

    def arrange(self, world: World, rng: np.random.Generator, ranges: Ranges, colors: Sequence[Color]) -> float:
        """Places and colours the row; returns the radius of the caps [m]."""
        x, y = np.array(ROW) + rng.uniform(-1, 1, 2) * ROW_JITTER
        put(world, "panel", x, y)
        radius = cap_radius(rng, ranges)
        middle = 0.5 * (len(self.buttons) - 1)
        for i, (name, color) in enumerate(zip(self.buttons, colors, strict=True)):
            dx, dy = rng.uniform(-JITTER, JITTER, 2)
            put(world, name + "_base", x + dx, y + PITCH * (middle - i) + dy)
            dress_button(world, name, color, rng, ranges, radius)
        return radius

    def commit_by_ear(self, tones: dict[str, str], target: str, color: str, radius: float, attributes: dict[str, str]) -> Setup:
        """An episode in which buttons look alike and sound by `tones`: only its tone tells `target`, which the lever commits."""
        words = {name: button_words(color, radius, tone_words(tone)) for name, tone in tones.items()}
        place = self.buttons.index(target)
        return Setup(
            attributes=attributes,
            target=target,
            others=self.others(target),
            sounds={name: tone_source(tone) for name, tone in tones.items()} | {LEVER: CLACK},
            objects=words | {LEVER: LEVER_WORDS},
            combination=(tones[target], f"place{place}"),
            secret=str(place),
            privileged={"tone": tones[target], "tones": tones},
            memory=Presses(),
        )

    def others(self, target: str) -> tuple[str, ...]:
        """The buttons that are not meant."""
        return tuple(name for name in self.buttons if name != target)


def place_apart(world: World, rng: np.random.Generator, body: str, y: float) -> None:
    """Puts a lever, a sample or a loudspeaker between the row and the robot, around `y` [m]."""
    dx, dy = rng.uniform(-1, 1, 2) * (0.010, 0.020)
    put(world, body, AWAY + dx, y + dy)
