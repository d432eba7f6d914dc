"""From observations step by step to chunks, and from chunks back to actions step by step.

Axes: B batch, T time (oldest first), A action dimension.
"""

from collections import deque
from collections.abc import Mapping

import torch
from torch import Tensor


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
    """Keeps the last frames of some keys and stacks the frames at the wanted offsets.

    Before an offset is reached the oldest frame stands in, as LeRobot's dataset repeats an episode's first frame: training
    and rollout see the same windows.
    """

    def __init__(self, offsets: Mapping[str, tuple[int, ...]]) -> None:
        self._offsets = {key: value for key, value in offsets.items() if value != (0,)}
        self._frames: dict[str, deque[Tensor]] = {key: deque(maxlen=1 - min(value)) for key, value in self._offsets.items()}

    def push(self, batch: Mapping[str, Tensor | None]) -> None:
        """Append the current frame (B, ...) of every key; a key that is None (no such sensor) is skipped."""
        for key, frames in self._frames.items():
            frame = batch.get(key)
            if frame is not None:
                frames.append(frame)

    def windows(self) -> dict[str, Tensor]:
        """Windows (B, T, ...) of every key that has frames."""
        return {key: self._window(frames, self._offsets[key]) for key, frames in self._frames.items() if frames}

    @staticmethod
    def _window(frames: deque[Tensor], offsets: tuple[int, ...]) -> Tensor:
        return torch.stack([frames[max(0, len(frames) - 1 + offset)] for offset in offsets], dim=1)


def select_offsets(x: Tensor, have: tuple[int, ...], want: tuple[int, ...]) -> Tensor:
    """Pick from x (B, len(have), ...) the frames at the offsets `want`, a subset of `have`, oldest first."""
    if have == want:
        return x
    return x[:, [have.index(offset) for offset in want]]
