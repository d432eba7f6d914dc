"""Success rates with Wilson intervals, paired differences with bootstrap intervals, and the result of an episode."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

from handsight.sensors.errors import HandsightError


@dataclass(frozen=True)
class Rate:
    """A proportion with its confidence interval: `mean` = successes / n, `low` and `high` by Wilson."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """Mean of a paired difference over `n` seeds with its bootstrap percentile interval."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class EpisodeResult:
    """How one episode ended; `video` is a file name relative to the result folder."""

    seed: int
    instruction: str
    success: bool
    reached: bool
    wrong_object: bool
    steps: int
    video: str | None = None
    said: list[str] = field(default_factory=list)
    """What the policy said of the things that it met, a line each (launch/narrate.py)."""
    stage: str = ""
    """How far the episode got, in a task that has stages."""

    @property
    def outcome(self) -> str:
        """One of "success", "wrong object", "reached, then failed", "never reached"."""
        if self.success:
            return "success"
        if self.wrong_object:
            return "wrong object"
        return "reached, then failed" if self.reached else "never reached"


def wilson(outcomes: Sequence[bool], confidence: float = 0.95) -> Rate:
    """Wilson score interval of a proportion (Wilson 1927, eq. 4): the p with |p_hat - p| <= z sqrt(p (1 - p) / n).

    Raises HandsightError when there are no outcomes.
    """
    n = len(outcomes)
    if n == 0:
        raise HandsightError("expected at least one episode, got none; run with --episodes=1 or more")
    mean = sum(outcomes) / n
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    # the exact ends are 0 and 1 when nothing or everything succeeded; rounding must not move them, nor cross the mean
    low = 0.0 if mean == 0 else max(0.0, centre - half)
    high = 1.0 if mean == 1 else min(1.0, centre + half)
    return Rate(mean, low, high, n)


def paired_difference(
    first: Sequence[float], second: Sequence[float], rng: np.random.Generator, confidence: float = 0.95, draws: int = 10_000
) -> Difference:
    """Mean of first - second over the same seeds, with the percentile bootstrap interval (Efron 1979) of `draws` resamples of the pairs.

    Raises HandsightError when the two do not pair up.
    """
    if len(first) != len(second) or not first:
        got = f"{len(first)} and {len(second)} episodes"
        raise HandsightError(f"expected the same seeds in both arms, got {got}; use the same --seed and --episodes")
    difference = np.asarray(first, float) - np.asarray(second, float)
    values, counts = np.unique(difference, return_counts=True)
    # resampling n pairs with replacement = drawing how often each distinct difference occurs
    resampled = rng.multinomial(len(difference), counts / len(difference), size=draws) @ values / len(difference)
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Difference(float(difference.mean()), float(low), float(high), len(difference))
