"""Hindsight labels: where the gripper will be when it next closes, opens or presses. T time."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks  # type: ignore[import-untyped] # has no annotations

from handsight.sensors.types import STATE_NAMES, KeyframeKind

SHUT: Final = 0.012
"""Opening of fingers that hold nothing between them [m]."""
STROKE: Final = 0.015
"""How far the hand comes down to a press and rises after it, at least [m]."""
_HEIGHT: Final = STATE_NAMES.index("tcp_z")
_OPENING: Final = STATE_NAMES.index("finger_opening")


def keyframe(actions: NDArray[np.float32], states: NDArray[np.float32]) -> NDArray[np.float32]:
    """actions (T, 7), states (T, 15) -> (T, 4): tcp xyz [m] at the next keyframe, KeyframeKind.

    A keyframe is a frame whose commanded gripper has another sign than the frame before (0 counts as open), or a press, strictly after the
    labelled frame; where none is left it is the last frame, of kind END. Keyframes at gripper changes: James and Davison 2022, Q-attention;
    they also take those where the arm stands still, of which presses are what remains for a hand that is always closed.
    """
    closed = actions[:, 6] > 0
    kinds = np.full(len(actions), -1)  # of the keyframe at each frame; -1: none
    lowest, _ = find_peaks(-states[:, _HEIGHT], prominence=STROKE)
    kinds[lowest[states[lowest, _OPENING] < SHUT]] = KeyframeKind.PRESS
    changes = np.flatnonzero(closed[1:] != closed[:-1]) + 1
    kinds[changes] = np.where(closed[changes], KeyframeKind.CLOSE, KeyframeKind.OPEN)
    frames = np.flatnonzero(kinds >= 0)
    position = np.searchsorted(frames, np.arange(len(actions)), side="right")
    target = np.append(frames, len(actions) - 1)[position]
    kind = np.append(kinds[frames], KeyframeKind.END)[position]
    return np.concatenate([states[target, :3], kind[:, None]], axis=1, dtype=np.float32)
