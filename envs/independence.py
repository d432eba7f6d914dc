"""Whether what a sensor must find out can be read off something else at reset: chi-square tests of independence.

N resets, F features, R by C contingency tables.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from handsight.sensors.errors import HandsightError

EXPECTED: Final = (
    5  # least expected count of a cell for which the chi-square approximation is trusted (Cochran, "The chi-square test", 1952)
)
TERMS: Final = 10_000  # of a series or continued fraction, far more than any needs
PRECISION: Final = 1e-15


@dataclass(frozen=True)
class Independence:
    """The closest association of the secret with any feature."""

    p: float
    """Chance of one as close among independent features: the smallest p times their number (Bonferroni), at most 1."""
    feature: str
    features: int
    n: int


def chi_square_tail(statistic: float, freedom: int) -> float:
    """P(X >= statistic) for X of the chi-square distribution, Q(freedom / 2, statistic / 2) of the regularised incomplete gamma function.

    By its power series below a + 1 and Legendre's continued fraction above (Abramowitz and Stegun, 6.5.29 and 6.5.31).
    """
    if freedom < 1 or statistic < 0:
        raise HandsightError(f"expected degrees of freedom of at least 1 and a statistic of at least 0, got {freedom} and {statistic}")
    if statistic == 0:
        return 1.0
    a, x = freedom / 2, statistic / 2
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    return 1.0 - scale * _series(a, x) if x < a + 1 else scale * _fraction(a, x)


def _series(a: float, x: float) -> float:
    term = total = 1 / a
    for n in range(1, TERMS):
        term *= x / (a + n)
        total += term
        if term < PRECISION * total:
            break
    return total


def _fraction(a: float, x: float) -> float:
    """Evaluated by Lentz's method; no denominator vanishes for x > a + 1."""
    b = x + 1 - a
    c, d = math.inf, 1 / b
    value = d
    for n in range(1, TERMS):
        step, b = -n * (n - a), b + 2
        d = 1 / (step * d + b)
        c = b + step / c
        value *= c * d
        if abs(c * d - 1) < PRECISION:
            break
    return value


def chi_square(table: NDArray[np.int64]) -> float:
    """p of Pearson's test of independence of rows and columns; 1 for a table (R, C) with a single row or column."""
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    if freedom < 1:
        return 1.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    return chi_square_tail(float(((table - expected) ** 2 / expected).sum()), freedom)


def merged(values: Sequence[str]) -> NDArray[np.int64]:
    """(N,) class of each value: neighbours in alphabetical order share one until each class is held by sqrt(EXPECTED N) of them.

    Two variables that are merged so have an expected count of at least EXPECTED in every cell of their table.
    """
    names, index, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    least = math.sqrt(EXPECTED * len(values))
    classes, held, current = np.zeros(len(names), np.int64), 0, 0
    for name, count in enumerate(counts):
        if held >= least:
            current, held = current + 1, 0
        classes[name] = current
        held += count
    if held < least and current:
        classes[classes == current] = current - 1
    return classes[index]


def halves(values: NDArray[np.floating]) -> list[str]:
    """Below or above the median; all alike if the value never changes."""
    return [str(above) for above in values > np.median(values)]


def independence(secret: Sequence[str], features: Mapping[str, Sequence[str]]) -> Independence:
    """Tests the secrets (N,) against every feature (N,)."""
    if not features or len(secret) == 0:
        raise HandsightError("expected at least one feature and one reset to test the secret against, got none")
    rows, found = merged(secret), []
    for name, values in features.items():
        columns = merged(values)
        table = np.zeros((rows.max() + 1, columns.max() + 1), np.int64)
        np.add.at(table, (rows, columns), 1)
        found.append((chi_square(table), name))
    smallest, name = min(found)
    return Independence(min(1.0, smallest * len(found)), name, len(found), len(secret))
