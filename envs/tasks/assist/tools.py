"""The things of daily life that the assistance tasks handle: ten kinds in three variants each, of primitives.

A tool stands on the table with its grip, a block between the finger pads, above its origin; its working end points along +x. Every variant
is a scaled copy: the model is compiled at the largest scale, so that collision bounds stay valid.
"""

from dataclasses import dataclass
from typing import Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.envs.props import COLORS, HARDNESS
from handsight.envs.world import World

Triple = tuple[float, float, float]

STEEL, WHITE, DARK, WATER, FOOD = (0.78, 0.80, 0.83), (0.96, 0.96, 0.95), (0.22, 0.17, 0.14), (0.45, 0.70, 0.92), (0.80, 0.55, 0.25)
_TYPE: Final = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
}
DENSITY: Final = 500.0  # [kg/m^3]


@dataclass(frozen=True)
class Part:
    """One primitive, in the tool's frame."""

    shape: str
    position: Triple
    """[m]"""
    size: Triple
    """Half extents [m]; a cylinder's are radius, half length, 0."""
    color: Triple | None = None
    """None: the variant's."""
    yaw: float = 0.0
    """[rad]"""
    solid: bool = True
    """Whether it collides and weighs."""


@dataclass(frozen=True)
class Variant:
    """One of the three looks of a tool; the last one occurs in the split of new objects alone."""

    color: Triple
    scale: Triple = (1.0, 1.0, 1.0)
    """Along x, y, z, at most 1; x and y alike for tools with cylinders."""


@dataclass(frozen=True)
class Tool:
    """A kind of thing."""

    name: str
    parts: tuple[Part, ...]
    variants: tuple[Variant, Variant, Variant]
    grip: Triple
    """Where the pads close, at scale 1 [m]."""
    tip: Triple
    """What does the work, at scale 1 [m]."""
    material: str
    """Of its sound."""
    size: str = "small"
    shape: str = "long"
    hardness: str = "hard"


def _handle(height: float = 0.022, base: bool = True) -> tuple[Part, ...]:
    """A grip block on a foot that keeps a narrow tool upright."""
    grip = Part("box", (0.0, 0.0, 0.008 + height), (0.011, 0.009, height))
    return (grip, Part("box", (0.0, 0.0, 0.004), (0.014, 0.024, 0.004), DARK)) if base else (grip,)


def _ring(radius: float, bottom: float, height: float, count: int = 8, color: Triple | None = None) -> tuple[Part, ...]:
    """A hollow wall of boxes: what primitives offer for a hat or a cover. Every other one is solid, which halves its contacts."""
    half = radius * np.tan(np.pi / count)
    angles = [2 * np.pi * (i + 0.5) / count for i in range(count)]
    return tuple(
        Part(
            "box",
            (radius * np.cos(a), radius * np.sin(a), bottom + height / 2),
            (0.003, half + 0.001, height / 2),
            color,
            yaw=float(a),
            solid=i % 2 == 0,
        )
        for i, a in enumerate(angles)
    )


def _colors(*colors: Triple) -> tuple[Variant, Variant, Variant]:
    first, second, third = colors
    return Variant(first), Variant(second, (0.95, 0.95, 0.96)), Variant(third, (0.90, 0.90, 0.92))


RED, GREEN, BLUE, YELLOW, PURPLE = (COLORS[name] for name in ("red", "green", "blue", "yellow", "purple"))
ORANGE, CYAN, PINK = (0.96, 0.48, 0.06), (0.10, 0.75, 0.80), (0.95, 0.50, 0.68)
COLOR_WORDS: Final = {color: name for name, color in COLORS.items()} | {ORANGE: "orange", CYAN: "cyan", PINK: "pink"}

TOOLS: Final = {
    tool.name: tool
    for tool in (
        Tool(
            "brush",
            (
                *_handle(0.024, base=False),
                Part("box", (0.0, 0.0, 0.006), (0.050, 0.010, 0.006)),
                Part("box", (0.0, 0.006, 0.010), (0.050, 0.004, 0.010), FOOD),
                Part("box", (0.047, 0.020, 0.010), (0.003, 0.016, 0.010), FOOD),
                Part("box", (-0.047, 0.020, 0.010), (0.003, 0.016, 0.010), FOOD),
            ),
            _colors(GREEN, RED, BLUE),
            (0.0, 0.0, 0.036),
            (0.0, 0.012, 0.010),
            "wood",
        ),
        Tool(
            "cup",
            (
                Part("cylinder", (0.0, 0.0, 0.036), (0.026, 0.036, 0.0)),
                Part("cylinder", (0.0, 0.0, 0.0735), (0.022, 0.0012, 0.0), WATER, solid=False),
            ),
            _colors(BLUE, RED, PURPLE),
            (0.0, 0.0, 0.036),
            (0.0, 0.0, 0.0),
            "glass",
            shape="round",
        ),
        Tool(
            "towel",
            (
                Part("box", (0.0, 0.0, 0.098), (0.016, 0.007, 0.016)),
                Part("box", (0.0, 0.0, 0.078), (0.042, 0.024, 0.004)),
                Part("box", (0.0, 0.021, 0.037), (0.042, 0.003, 0.037)),
                Part("box", (0.0, -0.021, 0.037), (0.042, 0.003, 0.037)),
                *(Part("box", (0.0, -0.0243, z), (0.042, 0.0005, 0.003), WHITE, solid=False) for z in (0.010, 0.022)),
            ),
            _colors(CYAN, PINK, ORANGE),
            (0.0, 0.0, 0.098),
            (0.0, 0.0, 0.074),
            "rubber",
            "large",
            "flat",
            "soft",
        ),
        Tool(
            "hat",
            (
                *_ring(0.058, 0.0, 0.034),
                Part("cylinder", (0.0, 0.0, 0.037), (0.060, 0.003, 0.0)),
                Part("box", (0.0, 0.0, 0.056), (0.011, 0.009, 0.016)),
                Part("box", (0.0, -0.0615, 0.010), (0.024, 0.0006, 0.006), WHITE, solid=False),
            ),
            _colors(RED, PURPLE, YELLOW),
            (0.0, 0.0, 0.057),
            (0.0, 0.0, 0.034),
            "rubber",
            "large",
            "round",
        ),
        Tool(
            "cover",
            (
                *_ring(0.056, 0.0, 0.036, color=STEEL),
                Part("cylinder", (0.0, 0.0, 0.039), (0.058, 0.003, 0.0)),
                Part("box", (0.0, 0.0, 0.058), (0.011, 0.009, 0.016)),
            ),
            _colors(GREEN, CYAN, ORANGE),
            (0.0, 0.0, 0.059),
            (0.0, 0.0, 0.0),
            "metal",
            "large",
            "round",
        ),
        Tool(
            "tissue",
            (
                *_handle(),
                Part("box", (0.045, 0.0, 0.013), (0.040, 0.004, 0.004), WHITE),
                Part("ellipsoid", (0.092, 0.0, 0.013), (0.014, 0.014, 0.013), WHITE),
            ),
            _colors(PINK, CYAN, GREEN),
            (0.0, 0.0, 0.036),
            (0.104, 0.0, 0.013),
            "rubber",
        ),
        Tool(
            "sponge",
            (*_handle(0.030, base=False), Part("box", (0.0, 0.0, 0.011), (0.030, 0.022, 0.011))),
            _colors(YELLOW, ORANGE, PINK),
            (0.0, 0.0, 0.048),
            (0.0, 0.0, 0.0),
            "rubber",
            shape="box",
            hardness="soft",
        ),
        Tool(
            "spoon",
            (
                *_handle(),
                Part("box", (0.040, 0.0, 0.012), (0.038, 0.004, 0.003), STEEL),
                Part("ellipsoid", (0.090, 0.0, 0.012), (0.017, 0.012, 0.005), STEEL),
                Part("ellipsoid", (0.090, 0.0, 0.018), (0.010, 0.008, 0.006), FOOD, solid=False),
            ),
            _colors(PURPLE, BLUE, RED),
            (0.0, 0.0, 0.036),
            (0.106, 0.0, 0.013),
            "metal",
        ),
        Tool(
            "comb",
            (
                *_handle(),
                Part("box", (0.055, 0.0, 0.024), (0.046, 0.004, 0.006)),
                *(Part("box", (0.020 + 0.0155 * i, 0.0, 0.010), (0.004, 0.003, 0.010), solid=i == 5) for i in range(6)),
            ),
            _colors(ORANGE, GREEN, PURPLE),
            (0.0, 0.0, 0.036),
            (0.060, 0.0, 0.0),
            "plastic",
        ),
        Tool(
            "toothbrush",
            (
                *_handle(),
                Part("box", (0.050, 0.0, 0.012), (0.050, 0.005, 0.004)),
                Part("box", (0.098, 0.0, 0.022), (0.010, 0.005, 0.007), WHITE),
            ),
            _colors(BLUE, RED, CYAN),
            (0.0, 0.0, 0.036),
            (0.108, 0.0, 0.020),
            "plastic",
        ),
    )
}


def add_tool(spec: mujoco.MjSpec, tool: Tool) -> None:
    """A free body with the tool's parts at scale 1."""
    body = spec.worldbody.add_body(name=tool.name)
    body.add_freejoint(name=tool.name)
    for i, part in enumerate(tool.parts):
        quaternion = [np.cos(part.yaw / 2), 0.0, 0.0, np.sin(part.yaw / 2)]
        geom = body.add_geom(name=f"{tool.name}{i}", type=_TYPE[part.shape], pos=part.position, size=part.size, quat=quaternion)
        geom.friction, geom.condim, geom.solref = [1.0, 0.01, 0.0005], 4, HARDNESS["hard"].solref
        geom.density = DENSITY if part.solid else 0.0
        geom.contype = geom.conaffinity = int(part.solid)


@dataclass(frozen=True)
class Dressed:
    """A tool as it is in one episode."""

    tool: Tool
    variant: Variant

    @property
    def grip(self) -> NDArray[np.float64]:
        """Where the pads close, (3,) in the body's frame [m]."""
        return np.array(self.tool.grip) * self.variant.scale

    @property
    def tip(self) -> NDArray[np.float64]:
        """What does the work, (3,) in the body's frame [m]."""
        return np.array(self.tool.tip) * self.variant.scale


class Wardrobe:
    """Remembers how the tools were compiled and gives them their variant of an episode."""

    def __init__(self, world: World) -> None:
        model = world.model
        self._bodies = {name: model.body(name).id for name in TOOLS}
        fields = ("body_mass", "body_inertia", "body_ipos", "geom_size", "geom_pos", "geom_friction")
        self._compiled: dict[str, NDArray[np.float64]] = {field: getattr(model, field).copy() for field in fields}

    def undress(self, world: World) -> None:
        """Every tool as compiled: one that is put away must not differ from one episode to the next, not by a rounding."""
        for field, compiled in self._compiled.items():
            getattr(world.model, field)[:] = compiled

    def dress(self, world: World, dressed: Dressed, mass: float, friction: float) -> None:
        """Scales, colours and weighs a tool; `mass` and `friction` are factors."""
        model, name, scale = world.model, dressed.tool.name, np.array(dressed.variant.scale)
        for i, part in enumerate(dressed.tool.parts):
            geom = model.geom(f"{name}{i}").id
            round_scale = scale if part.shape != "cylinder" else scale[[0, 2, 2]]
            model.geom_size[geom] = self._compiled["geom_size"][geom] * round_scale
            model.geom_pos[geom] = self._compiled["geom_pos"][geom] * scale
            model.geom_rgba[geom, :3] = part.color or dressed.variant.color
            model.geom_friction[geom, 0] = friction
        body, volume = self._bodies[name], float(np.prod(scale))
        model.body_mass[body] = self._compiled["body_mass"][body] * volume * mass
        model.body_inertia[body] = self._compiled["body_inertia"][body] * volume * mass * float(scale.mean()) ** 2
        model.body_ipos[body] = self._compiled["body_ipos"][body] * scale
