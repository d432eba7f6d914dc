"""Sound as samples: conversion to and from the dataset's int16, and the ring buffer behind a microphone. NumPy only.

One scale, 32767, in both directions and in every folder: +1 and -1 are representable, silence is 0, and int16 -> float -> int16 is exact.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from handsight.sensors.types import AUDIO_RATE

PCM_SCALE: Final = 32_767


def float_to_int16(samples: NDArray[np.floating[Any]]) -> NDArray[np.int16]:
    """Samples in [-1, 1], any shape -> the nearest int16; louder ones are clipped. The error is at most half a step, 1.6e-5."""
    return np.asarray(np.rint(np.clip(samples, -1.0, 1.0) * PCM_SCALE), dtype=np.int16)


def int16_to_float(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """int16 samples, any shape -> float32 in [-1, 1]."""
    if samples.dtype != np.int16:
        raise ValueError(f"expected int16 samples, got {samples.dtype}; floats need no conversion")
    return np.divide(samples, np.float32(PCM_SCALE), dtype=np.float32)


class AudioRing:
    """The last second of a microphone, fed in blocks of any length. Before the first sample there was silence.

    Args:
        length: samples kept.
    """

    def __init__(self, length: int = AUDIO_RATE) -> None:
        if length < 1:
            raise ValueError(f"expected a ring of at least one sample, got {length}")
        self._samples = np.zeros(length, dtype=np.float32)
        self._end = 0  # where the next sample goes

    def clear(self) -> None:
        """Silence, as before the first sample."""
        self._samples[:] = 0.0

    def push(self, block: NDArray[np.float32]) -> None:
        """Appends (n,) samples, oldest first; of a block longer than the ring only the end is kept."""
        if block.ndim != 1:
            raise ValueError(f"expected one block of mono samples (n,), got shape {block.shape}; mix the channels first")
        length = len(self._samples)
        block = block[-length:]
        first = min(len(block), length - self._end)
        self._samples[self._end : self._end + first] = block[:first]
        self._samples[: len(block) - first] = block[first:]
        self._end = (self._end + len(block)) % length

    def latest(self, count: int | None = None) -> NDArray[np.float32]:
        """A copy of the last `count` samples (all by default), oldest first."""
        length = len(self._samples)
        count = length if count is None else count
        if not 0 <= count <= length:
            raise ValueError(f"expected between 0 and {length} samples, got {count}; build a longer ring")
        return np.take(self._samples, np.arange(self._end - count, self._end), mode="wrap")
