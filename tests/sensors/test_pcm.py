"""Samples survive int16, and the ring buffer is the tail of everything pushed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handsight.sensors.pcm import AudioRing, float_to_int16, int16_to_float


def test_int16_survives_the_round_trip() -> None:
    every = np.arange(-32_767, 32_768, dtype=np.int16)
    np.testing.assert_array_equal(float_to_int16(int16_to_float(every)), every)


def test_float_round_trip_is_within_half_a_step_and_clips() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32)
    np.testing.assert_allclose(int16_to_float(float_to_int16(samples)), samples, atol=0.5001 / 32_767)
    np.testing.assert_array_equal(float_to_int16(np.array([-3.0, -1.0, 0.0, 1.0, 3.0])), [-32_767, -32_767, 0, 32_767, 32_767])
    assert int16_to_float(np.array([5], dtype=np.int16)).dtype == np.float32


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 25))
def test_ring_is_the_tail_of_all_blocks(lengths: list[int], size: int) -> None:
    ring = AudioRing(size)
    stream = np.arange(1, sum(lengths) + 1, dtype=np.float32)
    for block in np.split(stream, np.cumsum(lengths)[:-1]) if lengths else []:
        ring.push(block)
    padded = np.concatenate([np.zeros(size, dtype=np.float32), stream])
    np.testing.assert_array_equal(ring.latest(), padded[-size:])
    for count in (0, 1, size):
        np.testing.assert_array_equal(ring.latest(count), padded[len(padded) - count :])


def test_ring_clears_and_copies() -> None:
    ring = AudioRing(4)
    ring.push(np.ones(3, dtype=np.float32))
    before = ring.latest()
    ring.clear()
    np.testing.assert_array_equal(before, [0, 1, 1, 1])
    assert not ring.latest().any()


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="int16"):
        int16_to_float(np.zeros(3, dtype=np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mono"):
        AudioRing().push(np.zeros((2, 3), dtype=np.float32))
    with pytest.raises(ValueError, match="16000"):
        AudioRing().latest(16_001)
    with pytest.raises(ValueError, match="at least one"):
        AudioRing(0)
