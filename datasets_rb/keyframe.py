"""Hindsight labels: where the gripper will be when it next closes or opens. T time."""

import numpy as np
from numpy.typing import NDArray

from handsight.sensors.types import KeyframeKind


def keyframe(actions: NDArray[np.float32], states: NDArray[np.float32]) -> NDArray[np.float32]:
    """actions (T, 7), states (T, 15) -> (T, 4): tcp xyz [m] at the next keyframe, KeyframeKind.

    A keyframe is a frame whose commanded gripper has another sign than the frame before (0 counts as open), strictly after the labelled
    frame; where none is left it is the last frame, of kind END. Keyframes at gripper changes: James and Davison 2022, Q-attention.
    """
    closed = actions[:, 6] > 0
    last = len(actions) - 1
    changes = np.flatnonzero(closed[1:] != closed[:-1]) + 1
    position = np.searchsorted(changes, np.arange(len(actions)), side="right")
    target = np.append(changes, last)[position]
    kinds = np.where(closed[changes], KeyframeKind.CLOSE, KeyframeKind.OPEN)
    kind = np.append(kinds, KeyframeKind.END)[position]
    return np.concatenate([states[target, :3], kind[:, None]], axis=1, dtype=np.float32)
