"""From observations step by step to chunks, and from chunks back to actions step by step.

Axes: B batch, T time (oldest first), A action dimension.
"""

from collections import deque
from collections.abc import Mapping

import torch
from torch import Tensor

from handsight.sensors.history import StridedHistory


class ChunkQueue:
    """Executes the first `n_action_steps` actions of each chunk, then asks for the next chunk."""

    def __init__(self, n_action_steps: int) -> None:
        self.n_action_steps = n_action_steps
        self._actions: deque[Tensor] = deque()

    def __len__(self) -> int:
        return len(self._actions)

    def push(self, chunk: Tensor) -> None:
        """Replace what is left by the head of `chunk` (B, chunk, A)."""
        self._actions = deque(chunk[:, : self.n_action_steps].unbind(dim=1))

    def pop(self) -> Tensor:
        """The next action (B, A)."""
        return self._actions.popleft()


class HistoryRing:
    """One StridedHistory of batches for each key that has a history: training and rollout see the same windows."""

    def __init__(self, offsets: Mapping[str, tuple[int, ...]]) -> None:
        self._histories = {
            key: StridedHistory[Tensor](value, lambda frames: torch.stack(frames, dim=1)) for key, value in offsets.items() if value != (0,)
        }
        self._seen: set[str] = set()

    def push(self, batch: Mapping[str, Tensor | None]) -> None:
        """Append the current frame (B, ...) of every key; a key that is missing or None (no such sensor) is skipped."""
        for key, history in self._histories.items():
            frame = batch.get(key)
            if frame is not None:
                history.push(frame)
                self._seen.add(key)

    def windows(self) -> dict[str, Tensor]:
        """Windows (B, T, ...) of every key that has frames."""
        return {key: self._histories[key].read()[0] for key in self._seen}


def select_offsets(x: Tensor, have: tuple[int, ...], want: tuple[int, ...]) -> Tensor:
    """Pick from x (B, len(have), ...) the frames at the offsets `want`, a subset of `have`, oldest first."""
    if have == want:
        return x
    return x[:, [have.index(offset) for offset in want]]
