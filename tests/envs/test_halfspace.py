"""The elastic half-space: Love's displacements against integration, and contact against its own conditions and an independent solver."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handsight.envs.halfspace import KPA_MM2, MAX_MOVES, HalfSpace, compliance

PAD = HalfSpace(16, 16, 1.125, 1.125)


def gaps(kind: str, rng: np.random.Generator) -> np.ndarray:
    """(256,) [mm]: of a ball, a tilted edge, a texture on a ball, or noise; some taxels face nothing."""
    rows, columns = (np.mgrid[:16, :16].reshape(2, -1) - 7.5 - rng.uniform(-4, 4, (2, 1))) * 1.125
    ball = (rows**2 + columns**2) / (2 * rng.uniform(3, 60))
    if kind == "texture":
        return ball + rng.uniform(0, 0.4) * np.sin(rows * 1.57) * np.cos(columns * 1.57)
    return {
        "ball": ball,
        "edge": np.where(columns < 0, rng.uniform(-0.2, 0.2) * rows, 1.0e6),
        "noise": rng.normal(size=256) * 10 ** rng.uniform(-3, 1),
    }[kind]


KINDS = ("ball", "edge", "texture", "noise")


@pytest.mark.parametrize(("row", "column"), [(0, 1), (1, 1), (3, 2), (15, 15)])
def test_love_against_integration(row: int, column: int) -> None:
    """u = integral of p / (pi E* r) over the rectangle, Boussinesq's point loads, by the midpoint rule."""
    height, width, fine = 1.0, 1.5, 200
    y, x = (np.mgrid[:fine, :fine] + 0.5) / fine - 0.5
    distance = np.hypot((row + y) * height, (column + x) * width)
    expected = (1 / distance).mean() * height * width / np.pi
    np.testing.assert_allclose(compliance(16, 16, height, width)[0, row * 16 + column], expected, rtol=1e-4)


def test_love_under_the_load() -> None:
    """The centre of a square of side 2c: u = 8 c log(1 + sqrt 2) p / (pi E*) (Johnson, equation 3.27)."""
    np.testing.assert_allclose(PAD.compliance[0, 0], 4 * 1.125 * np.log(1 + np.sqrt(2)) / np.pi)


@pytest.mark.parametrize("aspect", [0.25, 0.5, 1.0, 2.0, 4.0])
def test_inverse_has_the_signs_that_the_slow_path_needs(aspect: float) -> None:
    inverse = np.linalg.inv(compliance(16, 16, aspect, 1.0))
    assert (inverse[~np.eye(256, dtype=bool)] <= 0).all()
    assert inverse.sum(axis=1).min() > 0


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10**6), force=st.floats(1e-3, 60.0), modulus=st.floats(50.0, 5000.0))
@settings(max_examples=25, deadline=None)
def test_contact_conditions(kind: str, seed: int, force: float, modulus: float) -> None:
    """Pressure pushes, sums to the force exactly, closes the gap where it is and leaves none negative elsewhere."""
    gap = gaps(kind, np.random.default_rng(seed))
    pressure = PAD.press(gap, force, modulus)
    np.testing.assert_allclose(pressure.sum() * PAD.area, force * KPA_MM2, rtol=1e-9)
    assert (pressure >= 0).all()
    opening = PAD.compliance @ pressure / modulus + gap
    approach = opening[pressure > 0].mean()
    tolerance = 1e-7 * (approach - gap.min())
    np.testing.assert_allclose(opening[pressure > 0], approach, rtol=0, atol=tolerance)
    assert (opening[pressure == 0] > approach - tolerance).all()


@pytest.mark.parametrize("kind", KINDS)
def test_fast_path_equals_slow_path(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    cases = [(gaps(kind, rng), 10 ** rng.uniform(-2, 1.5), 10 ** rng.uniform(2, 3.5)) for _ in range(20)]
    slow = [PAD.press(*case, fast=False) for case in cases]
    with monkeypatch.context() as patch:
        patch.setattr(PAD, "_from_all", None)  # the fast path must not fall back
        fast = [PAD.press(*case) for case in cases]
    for one, other in zip(fast, slow, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9 * one.max())


def test_falls_back_when_taxels_keep_moving(monkeypatch: pytest.MonkeyPatch) -> None:
    gap = gaps("texture", np.random.default_rng(0))
    expected = PAD.press(gap, 5.0, 300.0)
    assert MAX_MOVES > 1
    monkeypatch.setattr("handsight.envs.halfspace.MAX_MOVES", 1)
    assert PAD._from_guess((gap - gap.min()) * 300.0, 5.0 * KPA_MM2 / PAD.area) is None
    np.testing.assert_allclose(PAD.press(gap, 5.0, 300.0), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["ball", "texture"])
def test_against_projected_gradient(kind: str) -> None:
    """An independent way: the pressure minimises p S p / 2 + E* g p over p >= 0 with the given sum (accelerated projected gradient)."""
    gap = gaps(kind, np.random.default_rng(5))
    load, shape = 4.0 * KPA_MM2 / PAD.area, (gap - gap.min()) * 400.0
    step = 1 / np.linalg.eigvalsh(PAD.compliance)[-1]
    pressure = ahead = np.full(256, load / 256)
    for k in range(600):
        new = project(ahead - step * (PAD.compliance @ ahead + shape), load)
        pressure, ahead = new, new + k / (k + 3) * (new - pressure)
    np.testing.assert_allclose(PAD.press(gap, 4.0, 400.0), pressure, atol=1e-4 * pressure.max())


def project(point: np.ndarray, total: float) -> np.ndarray:
    """Closest point with no negative entry and the given sum."""
    ordered = np.sort(point)[::-1]
    level = (np.cumsum(ordered) - total) / np.arange(1, len(point) + 1)
    return np.maximum(point - level[np.count_nonzero(ordered > level) - 1], 0)


def test_large_and_small_contacts_are_solved_alike() -> None:
    """One quarter of a pad, small for itself, and three quarters, of which the others are small; both against the plain linear system."""
    rng = np.random.default_rng(1)
    for count in (64, 192):
        touching = np.zeros(256, bool)
        touching[rng.permutation(256)[:count]] = True
        shape = rng.normal(size=256)
        inside = np.flatnonzero(touching)
        punch, sunk = PAD._respond(touching, shape)
        np.testing.assert_allclose(PAD.compliance[np.ix_(inside, inside)] @ punch[inside], 1.0)
        np.testing.assert_allclose(PAD.compliance[np.ix_(inside, inside)] @ sunk[inside], shape[inside], atol=1e-9)
        assert not punch[~touching].any()
        assert not sunk[~touching].any()


def test_a_scaled_problem_has_the_scaled_answer() -> None:
    """Twice the force on a surface twice as stiff: twice the pressure on the same taxels."""
    gap = gaps("texture", np.random.default_rng(7))
    np.testing.assert_allclose(PAD.press(gap, 6.0, 800.0), 2 * PAD.press(gap, 3.0, 400.0), rtol=1e-9)


def test_a_reading_does_not_depend_on_the_one_before() -> None:
    """Same bytes in any order: an episode must not depend on what was felt before it."""
    rng = np.random.default_rng(2)
    cases = [(gaps(kind, rng), 5.0, 400.0) for kind in KINDS]
    forward = [PAD.press(*case).tobytes() for case in cases]
    assert [PAD.press(*case).tobytes() for case in cases[::-1]] == forward[::-1]
