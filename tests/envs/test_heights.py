"""Closed-form heights against MuJoCo's ray caster, from far outside and from within."""

import mujoco
import numpy as np
import pytest

from handsight.envs.heights import HEIGHT_OF_TYPE, MISS

SIZE = np.array([0.02, 0.03, 0.015])
FAR = 0.5  # [m]


def ray(kind: int, origin: np.ndarray, direction: np.ndarray) -> float:
    """MuJoCo's distance to the first surface, -1 if there is none."""
    return float(mujoco.mju_rayGeom(np.zeros(3), np.eye(3).ravel(), SIZE, origin, direction, kind, None))


@pytest.mark.parametrize("kind", [kind for kind in HEIGHT_OF_TYPE if kind != mujoco.mjtGeom.mjGEOM_PLANE])
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_against_mujoco(kind: int, axis: int | None) -> None:
    rng = np.random.default_rng(kind)
    direction = rng.normal(size=3) if axis is None else np.eye(3)[axis]
    direction /= np.linalg.norm(direction)
    origins = rng.uniform(-0.04, 0.04, (500, 3))  # near, within and around the geom
    expected = np.array([ray(kind, origin - FAR * direction, direction) for origin in origins])
    heights = HEIGHT_OF_TYPE[kind](origins, direction, SIZE)
    hit = expected >= 0
    assert 20 < hit.sum() < 480
    np.testing.assert_array_equal(heights >= MISS / 2, ~hit)
    np.testing.assert_allclose(heights[hit], expected[hit] - FAR, atol=1e-9)


def test_plane_is_met_from_above_only() -> None:
    plane = HEIGHT_OF_TYPE[int(mujoco.mjtGeom.mjGEOM_PLANE)]
    origins = np.array([[0.0, 0.0, 0.01], [1.0, 0.0, -0.02]])
    np.testing.assert_allclose(plane(origins, np.array([0.0, 0.6, -0.8]), SIZE), [0.0125, -0.025])
    assert np.all(plane(origins, np.array([1.0, 0.0, 0.0]), SIZE) == MISS)
    assert np.all(plane(origins, np.array([0.0, 0.0, 1.0]), SIZE) == MISS)
