"""Intervals against their definitions: Wilson's solves its equation, the bootstrap's agrees with the normal one for many pairs."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handsight.launch.metrics import EpisodeResult, paired_difference, wilson
from handsight.sensors.errors import HandsightError

Z = NormalDist().inv_cdf(0.975)
outcomes = st.lists(st.booleans(), min_size=1, max_size=300)


@given(outcomes)
def test_wilson_ends_solve_the_score_equation(successes: list[bool]) -> None:
    rate = wilson(successes)
    assert 0 <= rate.low <= rate.mean <= rate.high <= 1
    assert rate.n == len(successes)
    for end in (rate.low, rate.high):
        if 0 < end < 1:  # |mean - p| = z sqrt(p (1 - p) / n)
            assert abs(rate.mean - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / rate.n), rel=1e-9)


@given(outcomes)
def test_wilson_of_failures_mirrors_wilson_of_successes(successes: list[bool]) -> None:
    rate, mirrored = wilson(successes), wilson([not success for success in successes])
    assert rate.low == pytest.approx(1 - mirrored.high)
    assert rate.high == pytest.approx(1 - mirrored.low)


def test_wilson_against_published_values() -> None:
    rate = wilson([True] * 8 + [False] * 2)
    assert (rate.low, rate.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Brown, Cai, DasGupta 2001
    assert wilson([True] * 10).low == pytest.approx(10 / (10 + Z**2))
    assert wilson([True] * 10).high == 1


@given(outcomes, st.integers(0, 1000))
def test_no_difference_from_itself(successes: list[bool], seed: int) -> None:
    values = [float(success) for success in successes]
    difference = paired_difference(values, values, np.random.default_rng(seed), draws=50)
    assert (difference.mean, difference.low, difference.high) == (0, 0, 0)
    assert not difference.excludes_zero


@given(outcomes)
def test_difference_changes_sign_with_the_order(successes: list[bool]) -> None:
    ours, theirs = [float(success) for success in successes], [0.25] * len(successes)
    forth = paired_difference(ours, theirs, np.random.default_rng(0), draws=200)
    back = paired_difference(theirs, ours, np.random.default_rng(0), draws=200)
    assert forth.mean == pytest.approx(-back.mean)
    assert forth.low <= forth.mean + 1e-12
    assert forth.mean - 1e-12 <= forth.high


def test_bootstrap_agrees_with_the_normal_interval() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = (rng.random(2000) < 0.7).astype(float), (rng.random(2000) < 0.6).astype(float)
    difference = paired_difference(ours.tolist(), theirs.tolist(), rng)
    half = Z * np.std(ours - theirs) / math.sqrt(2000)
    assert (difference.low, difference.high) == pytest.approx((difference.mean - half, difference.mean + half), abs=0.05 * half)
    assert difference.excludes_zero


def test_nothing_to_count_is_refused() -> None:
    with pytest.raises(HandsightError, match="at least one episode"):
        wilson([])
    with pytest.raises(HandsightError, match="same seeds"):
        paired_difference([1.0], [1.0, 0.0], np.random.default_rng(0))


@pytest.mark.parametrize(
    ("success", "reached", "wrong", "outcome"),
    [
        (True, True, False, "success"),
        (False, True, True, "wrong object"),
        (False, True, False, "reached, then failed"),
        (False, False, False, "never reached"),
    ],
)
def test_outcomes(success: bool, reached: bool, wrong: bool, outcome: str) -> None:
    assert EpisodeResult(0, "", success, reached, wrong, 1).outcome == outcome
