"""Bodies that tasks place on the table: a free body that can be a box, a cylinder or a sphere from one reset to the next."""

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.envs.randomize import Ranges, around
from handsight.envs.splits import spread
from handsight.envs.touch import MODULUS
from handsight.envs.world import World

SHAPES = {"box": mujoco.mjtGeom.mjGEOM_BOX, "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER, "sphere": mujoco.mjtGeom.mjGEOM_SPHERE}
LARGEST = 0.028  # half extent [m] with which shapes are compiled; collision bounds stay valid for every smaller size
MIDDLE = 0.020  # half extent [m] that tells small from large
COLORS = {
    "red": (0.85, 0.10, 0.10),
    "green": (0.10, 0.62, 0.18),
    "blue": (0.10, 0.22, 0.85),
    "yellow": (0.95, 0.85, 0.10),
    "purple": (0.55, 0.12, 0.70),
    "white": (0.96, 0.96, 0.96),
}


@dataclass(frozen=True)
class Hardness:
    """How a material gives way: MuJoCo's contact softness and the modulus of the taxel model."""

    solref: tuple[float, float]
    """Negative: mass-normalised stiffness and damping; positive: time constant [s] and damping ratio."""
    modulus: float
    """Contact modulus E* of pad and object in series [kPa]."""


HARDNESS = {
    "soft": Hardness((-20_000.0, -283.0), MODULUS["soft"]),
    "medium": Hardness((-60_000.0, -490.0), MODULUS["medium"]),
    "hard": Hardness((0.004, 1.0), MODULUS["hard"]),
}


@dataclass(frozen=True)
class Look:
    """What a free body is in one episode."""

    shape: str
    radius: float
    """Half extent in every direction [m]."""
    color: tuple[float, float, float]
    mass: float
    """[kg]"""
    friction: float = 1.0
    hardness: str = "hard"
    material: str = "plastic"


def size_word(radius: float) -> str:
    """`small` or `large` for a half extent [m]."""
    return "small" if radius < MIDDLE else "large"


def add_body(spec: mujoco.MjSpec, name: str) -> None:
    """A free body with one geom per shape; `dress` shows exactly one of them."""
    body = spec.worldbody.add_body(name=name)
    body.add_freejoint(name=name)
    for shape, kind in SHAPES.items():
        size = [LARGEST] * 3
        body.add_geom(name=f"{name}_{shape}", type=kind, size=size, condim=4, friction=[1, 0.01, 0.0005], mass=0.02)


def _inertia(look: Look) -> NDArray[np.float64]:
    square = look.mass * look.radius**2
    if look.shape == "sphere":
        return np.full(3, 0.4 * square)
    if look.shape == "box":
        return np.full(3, 2 / 3 * square)
    return square * np.array([0.25 + 1 / 3, 0.25 + 1 / 3, 0.5])


def dress(world: World, name: str, look: Look) -> int:
    """Gives the body its shape, size, colour, mass and surface for this episode; returns the id of the geom that is shown."""
    model = world.model
    for shape in SHAPES:
        geom = model.geom(f"{name}_{shape}")
        shown = shape == look.shape
        geom.contype[:] = geom.conaffinity[:] = int(shown)
        geom.rgba[:] = (*look.color, float(shown))
        geom.size[:] = look.radius
        geom.friction[0] = look.friction
        geom.solref[:] = HARDNESS[look.hardness].solref
    body = model.body(name)
    body.mass[:] = look.mass
    body.inertia[:] = _inertia(look)
    return int(model.geom(f"{name}_{look.shape}").id)


def top(world: World, name: str) -> float:
    """Height of the highest point of a body that `dress` has dressed [m]."""
    shape = next(shape for shape in SHAPES if world.model.geom(f"{name}_{shape}").rgba[3] > 0)
    geom = world.data.geom(f"{name}_{shape}")
    x, y, z = np.abs(geom.xmat.reshape(3, 3)[2])  # how far each axis of the geom points upwards
    reach = {"sphere": 1.0, "cylinder": z + np.hypot(x, y), "box": x + y + z}[shape]
    return float(geom.xpos[2] + world.model.geom(f"{name}_{shape}").size[0] * reach)


def table_look(rng: np.random.Generator, color: str, ranges: Ranges) -> Look:
    """A hard thing of random shape, size, mass, friction and material, as they lie about on the table."""
    return Look(
        shape=str(rng.choice(list(SHAPES))),
        radius=spread(rng, ranges.split, 0.019, 0.023),
        color=COLORS[color],
        mass=around(rng, 0.06, ranges.mass),
        friction=around(rng, 1.0, ranges.friction),
        material=str(rng.choice(["wood", "plastic", "metal"])),
    )


def scatter(rng: np.random.Generator, count: int, low: NDArray[np.float64], high: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """`count` points (count, 2) uniform in a rectangle [m], every two at least `gap` [m] apart (rejection sampling)."""
    while True:
        points = rng.uniform(low, high, size=(count, 2))
        apart = np.linalg.norm(points[:, None] - points[None], axis=-1) + gap * np.eye(count)
        if apart.min() >= gap:
            return points
