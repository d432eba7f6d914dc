"""Where a demonstration made contact and which way it took: the labels of affordance models and of trajectory policies.

A heatmap has a Gaussian blob at every contact point of the activity, as seen in the first picture of the front camera; a trajectory is 32
waypoints from the start to the end. (Zhang, Gupta et al., "Flow matching for affordance-based robot manipulation", 2024, section III.)
P points, T steps, N waypoints.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from handsight.sensors.types import ACTION_NAMES, STATE_NAMES, WAYPOINTS_SHAPE

Floats = NDArray[np.float64]
SPREAD: Final = 0.02  # standard deviation of a blob, as a share of the picture's side
METRES_PER_RADIAN: Final = 0.1  # how much of the way a turn counts for
METRES_PER_GRASP: Final = 0.05  # and the gripper's closing or opening
_GRIPPER: Final = ACTION_NAMES.index("gripper")
_ROTATION: Final = slice(STATE_NAMES.index("rot_xx"), STATE_NAMES.index("rot_yz") + 1)


@dataclass(frozen=True)
class Affordance:
    """What one demonstration teaches about where to act and how to get there."""

    points: Floats
    """(P, 3) contact points in the world [m], in the order of contact: the grip first, then the places that the activity touches."""
    pixels: Floats
    """(P, 2) column and row of each in the first picture of the front camera."""
    waypoints: Floats
    """(32, 10): tcp xyz [m], first two columns of its rotation, gripper (-1 open, +1 closed)."""


def heatmap(pixels: Floats, size: int, spread: float = SPREAD) -> NDArray[np.float32]:
    """(size, size) in [0, 1]: the largest of the Gaussians around the points (P, 2); `spread` is relative to `size`."""
    rows, columns = np.mgrid[:size, :size]
    distance = (columns - pixels[:, 0, None, None]) ** 2 + (rows - pixels[:, 1, None, None]) ** 2  # (P, size, size)
    blobs = np.exp(-0.5 * distance / (spread * size) ** 2)
    return np.asarray(blobs.max(axis=0), np.float32)


def waypoints(states: NDArray[np.float32], actions: NDArray[np.float32], count: int = WAYPOINTS_SHAPE[0]) -> Floats:
    """(count, 10) points at equal distances along the way of states (T, 15) and gripper commands of actions (T, 7).

    The way is measured in metres, to which turns and changes of the gripper add, so that a grasp in place keeps a waypoint of its own.
    """
    states, gripper = states.astype(np.float64), np.sign(actions[:, _GRIPPER]).astype(np.float64)
    position, rotation = states[:, :3], states[:, _ROTATION]
    moved = np.linalg.norm(np.diff(position, axis=0), axis=1)
    turned = np.linalg.norm(np.diff(rotation, axis=0), axis=1)  # the chord of a turn by phi is sqrt(2) phi or less
    grasped = np.abs(np.diff(gripper)) / 2
    way = np.concatenate([[0.0], np.cumsum(moved + METRES_PER_RADIAN * turned + METRES_PER_GRASP * grasped)])
    asked = np.linspace(0.0, way[-1], count)
    values = np.concatenate([position, rotation], axis=1)
    between = np.stack([np.interp(asked, way, column) for column in values.T], axis=1)
    held = gripper[np.searchsorted(way, asked, side="right") - 1]
    return np.concatenate([between, held[:, None]], axis=1)
