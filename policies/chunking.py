"""From observations step by step to chunks, and from chunks back to actions step by step.

Axes: B batch, T time (oldest first), A action dimension.
"""

from collections import deque
from collections.abc import Mapping

import torch
from torch import Tensor

from handsight.sensors.errors import HandsightError
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


def fit_window(key: str, x: Tensor, frame_dims: int, want: tuple[int, ...], union: tuple[int, ...]) -> Tensor:
    """The window (B, len(want), ...) of one sensor from what a reader or a rollout gives.

    x is one frame (B, ...) of `frame_dims` axes, the window itself, or a window (B, len(union), ...) at the offsets of all sensors
    together, as LeRobot's own reader gives. Raises HandsightError for any other number of frames.
    """
    if x.dim() == 1 + frame_dims:
        x = x.unsqueeze(1)
    if x.shape[1] == len(want):
        return x
    if x.shape[1] == 1:  # nothing is known of the past: the current frame stands in for it
        return x.expand(-1, len(want), *x.shape[2:])
    if x.shape[1] == len(union):
        return select_offsets(x, union, want)
    raise HandsightError(
        f"expected {key} with 1, {len(want)} or {len(union)} frames, got {x.shape[1]}; see history_of in the configuration"
    )
