"""A few past readings of a sensor, at fixed offsets, exactly as a LeRobot dataset serves them in training.

LeRobot clamps `index + offset` to the episode (dataset_reader.py, `_get_query_indices`), so before its start the first reading repeats, and
marks those entries in `<key>_is_pad`. The same must hold on a robot or in a rollout, where only the present is at hand. NumPy only, but a
`stack` of another library (torch.stack) makes it serve that library's arrays.
"""

import copy
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class StridedHistory[A]:
    """Ring of past readings.

    Args:
        offsets: steps relative to now, at most 0, oldest first, for instance (-10, -5, 0).
        stack: joins T readings to one array with a new first axis; numpy.stack by default.
    """

    def __init__(self, offsets: Sequence[int], stack: Callable[[list[A]], Any] = np.stack) -> None:  # type: ignore[assignment]
        if not offsets or any(offset > 0 for offset in offsets) or list(offsets) != sorted(set(offsets)):
            raise ValueError(f"expected offsets of at most 0, ascending, without repeats, got {list(offsets)}; write them as (-10, -5, 0)")
        self.offsets = tuple(offsets)
        self._stack = stack
        self._readings: deque[A] = deque(maxlen=1 - self.offsets[0])

    def clear(self) -> None:
        """Begins a new episode."""
        self._readings.clear()

    def push(self, reading: A) -> None:
        """Appends the reading of the next step; it is copied, since drivers reuse their buffers."""
        self._readings.append(copy.deepcopy(reading))

    def read(self) -> tuple[Any, NDArray[np.bool_]]:
        """(T, ...) readings at the offsets, and (T,) whether each lies before the episode's start and repeats the first reading."""
        if not self._readings:
            raise ValueError("expected at least one reading in the history, got none; push the present before reading")
        present = len(self._readings) - 1
        # Once the ring is full no offset reaches beyond it, so its oldest entry is only repeated while it is the episode's first.
        indices = [present + offset for offset in self.offsets]
        return self._stack([self._readings[max(0, index)] for index in indices]), np.array([index < 0 for index in indices])
