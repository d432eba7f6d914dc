"""A history equals LeRobot's clamped indexing at every step of an episode."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from handsight.sensors.history import StridedHistory

OFFSETS = st.lists(st.integers(-12, 0), min_size=1, max_size=6, unique=True).map(lambda offsets: tuple(sorted(offsets)))


@given(OFFSETS, st.integers(1, 30))
def test_equals_clamped_indexing(offsets: tuple[int, ...], length: int) -> None:
    episode = np.random.default_rng(0).normal(size=(length, 2, 3)).astype(np.float32)
    history = StridedHistory[np.ndarray](offsets)
    for index, reading in enumerate(episode):
        history.push(reading)
        frames, is_pad = history.read()
        # LeRobot 0.6.1, dataset_reader.py: _get_query_indices, with the episode's start at 0
        np.testing.assert_array_equal(frames, episode[[max(0, min(length - 1, index + delta)) for delta in offsets]])
        np.testing.assert_array_equal(is_pad, [(index + delta < 0) | (index + delta >= length) for delta in offsets])
        assert is_pad.dtype == np.bool_
        assert frames.dtype == np.float32


def test_serves_tensors() -> None:
    history = StridedHistory[torch.Tensor]((-1, 0), stack=torch.stack)
    history.push(torch.zeros(3))
    history.push(torch.ones(3))
    assert torch.equal(history.read()[0], torch.tensor([[0.0] * 3, [1.0] * 3]))


def test_a_reused_buffer_does_not_rewrite_the_past() -> None:
    history, buffer = StridedHistory[np.ndarray]((-1, 0)), np.zeros(2)
    for value in (1.0, 2.0):
        buffer[:] = value
        history.push(buffer)
    np.testing.assert_array_equal(history.read()[0], [[1, 1], [2, 2]])


def test_clear_forgets_the_last_episode() -> None:
    history = StridedHistory[np.ndarray]((-2, 0))
    for value in (1.0, 2.0, 3.0):
        history.push(np.array(value))
    history.clear()
    history.push(np.array(9.0))
    frames, is_pad = history.read()
    np.testing.assert_array_equal(frames, [9, 9])
    np.testing.assert_array_equal(is_pad, [True, False])


@pytest.mark.parametrize("offsets", [(), (0, -1), (-1, 1), (-1, -1, 0)])
def test_bad_offsets_are_named(offsets: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        StridedHistory[np.ndarray](offsets)


def test_reading_before_pushing_is_named() -> None:
    with pytest.raises(ValueError, match="push the present"):
        StridedHistory[np.ndarray]((0,)).read()


@pytest.mark.parametrize("module", ["sensors.history", "sensors.pcm", "sensors.types", "envs.touch", "envs.sound"])
def test_workers_stay_free_of_torch(module: str) -> None:
    code = f"import sys, handsight.{module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
