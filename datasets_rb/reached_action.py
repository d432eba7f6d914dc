"""Actions from the poses that were reached. T steps.

A teleoperated command is not always carried out; what was reached one step later always was. This is what Octo and FuSe train on
(octo/data/oxe/oxe_standardization_transforms.py and octo/data/utils/data_utils.py of the public code).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

POSE: Final = 6  # x, y, z [m], roll, pitch, yaw [rad]
_OPEN: Final = 0.95
_CLOSED: Final = 0.05


def reached_actions(states: NDArray[np.float32], commands: NDArray[np.float32]) -> NDArray[np.float32]:
    """states (T, 7) pose and gripper, commands (T, 7) -> (T - 1, 7): the pose of the next step minus this step's, and the binary gripper.

    The last step has no action. Angles are differences on the circle, so in [-pi, pi]; the public code subtracts only, which is the same
    number unless a reading jumps by 2 pi.
    """
    moved = states[1:, :POSE] - states[:-1, :POSE]
    turns = np.rint(moved[:, 3:] / (2 * np.pi))
    moved[:, 3:] -= (turns * 2 * np.pi).astype(moved.dtype)
    return np.concatenate([moved, binary_gripper(commands[:, -1])[:-1, None]], axis=1)


def binary_gripper(commands: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T,) from 0 closed to 1 open -> 0 or 1: a value in between becomes what it is on the way to.

    In between is 0.05 to 0.95. Where nothing decided follows, the last command is kept as it is, as in the public code.
    """
    steps = np.arange(len(commands))
    decided = (commands > _OPEN) | (commands < _CLOSED)
    following = np.minimum.accumulate(np.where(decided, steps, len(commands))[::-1])[::-1]  # the next decided step, or T
    is_open = np.append(commands > _OPEN, commands[-1:])  # at T: the last command
    return is_open[following].astype(np.float32)
