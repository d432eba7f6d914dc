"""Chi-square tests: known values of the distribution, and they find an association where there is one."""

import numpy as np
import pytest

from handsight.envs.independence import EXPECTED, chi_square, chi_square_tail, halves, independence, merged
from handsight.sensors.errors import HandsightError


@pytest.mark.parametrize(
    ("statistic", "freedom", "tail"),
    [(3.841459, 1, 0.05), (6.634897, 1, 0.01), (5.991465, 2, 0.05), (18.307038, 10, 0.05), (124.342113, 100, 0.05), (10.827566, 1, 0.001)],
)
def test_tail_has_the_tabulated_critical_values(statistic: float, freedom: int, tail: float) -> None:
    assert chi_square_tail(statistic, freedom) == pytest.approx(tail, rel=1e-5)


@pytest.mark.parametrize("statistic", [0.0, 0.3, 2.0, 9.0, 80.0, 700.0])
def test_tail_of_two_degrees_of_freedom_is_an_exponential(statistic: float) -> None:
    assert chi_square_tail(statistic, 2) == pytest.approx(np.exp(-statistic / 2), rel=1e-9)


@pytest.mark.parametrize(("statistic", "freedom"), [(1.0, 0), (-1.0, 3)])
def test_impossible_arguments_are_refused(statistic: float, freedom: int) -> None:
    with pytest.raises(HandsightError, match="expected degrees of freedom"):
        chi_square_tail(statistic, freedom)


def test_table_is_tested_as_pearson_did() -> None:
    table = np.array([[10, 20], [20, 10]])
    assert chi_square(table) == pytest.approx(chi_square_tail(100 / 15, 1))  # each cell is 5 off the expected 15
    assert chi_square(np.array([[3, 4, 5]])) == 1.0


def test_rare_values_are_merged_until_every_expected_count_will_do(rng: np.random.Generator) -> None:
    first, second = (merged([f"{value:02d}" for value in rng.integers(0, 64, 500)]) for _ in range(2))
    assert first.max() > 3
    rows, columns = np.bincount(first), np.bincount(second)
    assert np.outer(rows, columns).min() / 500 >= EXPECTED
    assert merged(["a", "b"]).tolist() == [0, 0]


def test_p_is_uniform_among_independent_features(rng: np.random.Generator) -> None:
    found = [independence(rng.choice(list("abc"), 300), {"one": rng.choice(list("xy"), 300)}).p for _ in range(400)]
    assert abs(np.mean(np.array(found) < 0.1) - 0.1) < 4 * np.sqrt(0.09 / 400)


def test_an_association_is_found_among_many_features(rng: np.random.Generator) -> None:
    secret = rng.choice(list("abc"), 300)
    noise = {f"noise {i}": halves(rng.normal(size=300)) for i in range(100)}
    assert independence(secret, noise).p > 0.01
    leak = halves(rng.normal(size=300) + (secret == "b"))
    result = independence(secret, noise | {"leak": leak})
    assert result.feature == "leak"
    assert result.p < 0.01
    assert (result.features, result.n) == (101, 300)


def test_nothing_to_test_is_an_error() -> None:
    with pytest.raises(HandsightError, match="at least one feature"):
        independence(["a"], {})
