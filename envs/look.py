"""Reading colours off the front camera at places that are known: how the scripted experts see."""

import numpy as np
from numpy.typing import NDArray

from handsight.envs.pinhole import Pinhole
from handsight.envs.world import World
from handsight.sensors.types import FRONT, Observation

PATCH = 1  # half width of what is averaged [pixel]
DARK = 8.0  # mean grey level below which nothing can be said


def likeness(
    world: World, observation: Observation, points: NDArray[np.float64], color: tuple[float, float, float]
) -> NDArray[np.float64] | None:
    """How alike each of the `points` (K, 3) [m] looks to `color`: cosine of the angle between the two in RGB, which shading leaves alone.

    (K,); 0 for points outside the picture or in the dark; None if the environment has no front camera.
    """
    image = observation.get(FRONT)
    if image is None:
        return None
    pixels = Pinhole.of(world, "front", image.shape[0]).project(points)
    return np.array([_cosine(patch(image, pixel), np.asarray(color)) for pixel in pixels])


def patch(image: NDArray[np.uint8], pixel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean colour (3,) around a pixel (column, row); black outside the picture."""
    if not np.isfinite(pixel).all():
        return np.zeros(3)
    column, row = np.rint(pixel).astype(int)
    inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
    window = image[max(row - PATCH, 0) : row + PATCH + 1, max(column - PATCH, 0) : column + PATCH + 1]
    return np.asarray(window.reshape(-1, 3).mean(axis=0)) if inside else np.zeros(3)


def _cosine(seen: NDArray[np.float64], color: NDArray[np.float64]) -> float:
    if seen.mean() < DARK:
        return 0.0
    return float(seen @ color / (np.linalg.norm(seen) * np.linalg.norm(color)))
