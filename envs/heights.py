"""Height of a primitive's surface over a plane, in closed form: where parallel rays first meet it.

N rays; all coordinates in the geom's own frame (MuJoCo's convention: cylinders and capsules along z), lengths in [m].
Every function returns the entry distance (N,) along the common unit direction, negative behind the origin and `MISS` where the ray
passes by. Rays are lines: a surface that has already penetrated the plane has a negative height.
"""

from collections.abc import Callable
from typing import Final

import mujoco
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Height = Callable[[Floats, Floats, Floats], Floats]

MISS: Final = 1.0e3  # [m]; finite, so that sorted prefix sums stay free of inf - inf
_PARALLEL: Final = 1.0e-12  # a direction component below this is parallel to the slab


def _quadratic_interval(square: float, half: Floats, constant: Floats) -> tuple[Floats, Floats]:
    """Both roots of `square t^2 + 2 half t + constant = 0`; (MISS, -MISS), an empty interval, where there is none."""
    discriminant = half * half - square * constant
    hit = discriminant > 0.0
    root = np.sqrt(np.where(hit, discriminant, 0.0))
    return np.where(hit, (-half - root) / square, MISS), np.where(hit, (-half + root) / square, -MISS)


def _slab_interval(origin: Floats, direction: Floats, size: Floats) -> tuple[Floats, Floats]:
    """Interval of the ray inside |coordinate| <= size, for every coordinate: two (N, K) arrays."""
    safe = np.where(np.abs(direction) < _PARALLEL, _PARALLEL, direction)
    first, second = (-size - origin) / safe, (size - origin) / safe
    return np.minimum(first, second), np.maximum(first, second)


def sphere(origin: Floats, direction: Floats, size: Floats) -> Floats:
    constant = np.einsum("nk,nk->n", origin, origin) - size[0] ** 2
    return _quadratic_interval(1.0, origin @ direction, constant)[0]


def ellipsoid(origin: Floats, direction: Floats, size: Floats) -> Floats:
    scaled, along = origin / size, direction / size
    constant = np.einsum("nk,nk->n", scaled, scaled) - 1.0
    return _quadratic_interval(float(along @ along), scaled @ along, constant)[0]


def box(origin: Floats, direction: Floats, size: Floats) -> Floats:
    low, high = _slab_interval(origin, direction, size)
    enter, leave = low.max(axis=1), high.min(axis=1)
    return np.where(enter <= leave, enter, MISS)


def _tube_interval(origin: Floats, direction: Floats, radius: float) -> tuple[Floats, Floats]:
    """Interval inside the endless cylinder around z."""
    square = float(direction[0] ** 2 + direction[1] ** 2)
    constant = origin[:, 0] ** 2 + origin[:, 1] ** 2 - radius**2
    if square < _PARALLEL:  # along the axis: inside for ever or never
        inside = constant < 0.0
        return np.where(inside, -MISS, MISS), np.where(inside, MISS, -MISS)
    return _quadratic_interval(square, origin[:, :2] @ direction[:2], constant)


def cylinder(origin: Floats, direction: Floats, size: Floats) -> Floats:
    enter, leave = _tube_interval(origin, direction, float(size[0]))
    low, high = _slab_interval(origin[:, 2:], direction[2:], size[1:2])
    enter, leave = np.maximum(enter, low[:, 0]), np.minimum(leave, high[:, 0])
    return np.where(enter <= leave, enter, MISS)


def capsule(origin: Floats, direction: Floats, size: Floats) -> Floats:
    """A union, so the earliest of its three parts."""
    cap = np.array([0.0, 0.0, size[1]])
    ends = np.minimum(sphere(origin - cap, direction, size), sphere(origin + cap, direction, size))
    return np.asarray(np.minimum(ends, cylinder(origin, direction, size)))


def plane(origin: Floats, direction: Floats, size: Floats) -> Floats:
    """The half-space z < 0, met only from above."""
    if direction[2] > -_PARALLEL:
        return np.full(len(origin), MISS)
    height: Floats = -origin[:, 2] / direction[2]
    return height


HEIGHT_OF_TYPE: Final[dict[int, Height]] = {
    int(mujoco.mjtGeom.mjGEOM_PLANE): plane,
    int(mujoco.mjtGeom.mjGEOM_SPHERE): sphere,
    int(mujoco.mjtGeom.mjGEOM_CAPSULE): capsule,
    int(mujoco.mjtGeom.mjGEOM_ELLIPSOID): ellipsoid,
    int(mujoco.mjtGeom.mjGEOM_CYLINDER): cylinder,
    int(mujoco.mjtGeom.mjGEOM_BOX): box,
}
