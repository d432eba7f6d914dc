"""Sample rates: against scipy's polyphase filter with our taps, sines against themselves, and what would be mirrored is gone."""

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from handsight.sensors.resample import lowpass, resample

CD, OURS = 44_100, 16_000


@given(st.integers(1, 3000), st.sampled_from([(CD, OURS), (48_000, OURS), (8_000, OURS), (22_050, OURS), (OURS, CD)]), st.integers(0, 9))
@settings(max_examples=30)
def test_equals_scipy(length: int, rates: tuple[int, int], seed: int) -> None:
    source, target = rates
    divisor = np.gcd(source, target)
    up, down = target // divisor, source // divisor
    samples = np.random.default_rng(seed).uniform(-1, 1, length)
    expected = scipy.signal.resample_poly(samples, up, down, window=lowpass(up, down))
    np.testing.assert_allclose(resample(samples, source, target), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("frequency", [50.0, 1000.0, 7000.0])
def test_a_sine_stays_one(frequency: float) -> None:
    resampled = resample(np.sin(2 * np.pi * frequency * np.arange(CD) / CD), CD, OURS)
    expected = np.sin(2 * np.pi * frequency * np.arange(OURS) / OURS)
    assert resampled.shape == expected.shape
    middle = slice(100, -100)  # beyond both ends there is silence
    np.testing.assert_allclose(resampled[middle], expected[middle], atol=1e-4)


@pytest.mark.parametrize("frequency", [8800.0, 12_000.0, 20_000.0])
def test_what_would_be_mirrored_is_gone(frequency: float) -> None:
    resampled = resample(np.sin(2 * np.pi * frequency * np.arange(CD) / CD), CD, OURS)
    assert np.abs(resampled[100:-100]).max() < 10 ** (-85 / 20)


def test_the_same_rate_changes_nothing(rng: np.random.Generator) -> None:
    samples = rng.normal(size=(3, 50))
    np.testing.assert_array_equal(resample(samples, OURS, OURS), samples)


def test_windows_are_resampled_each_by_itself(rng: np.random.Generator) -> None:
    samples = rng.normal(size=(2, 3, 882))
    together = resample(samples, CD, OURS)
    assert together.shape == (2, 3, 320)
    np.testing.assert_allclose(together[1, 2], resample(samples[1, 2], CD, OURS), atol=1e-14)


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 Hz"):
        resample(np.zeros(3), 0, OURS)
