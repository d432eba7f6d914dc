"""Cartesian control of the arm: an action moves a commanded tcp pose; damped least squares turns it into joint targets.

The commanded pose, not the measured one, is integrated, so that a servo's lag does not shrink the steps; a leash keeps it near the arm.
"""

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.envs.world import HOME, OPEN_FINGERS, World
from handsight.sensors.types import CONTROL_HZ, ROTATION_STEP, TRANSLATION_STEP

Array = NDArray[np.float64]
SETTLE = 8  # solutions of a few iterations each until a far pose is met


@dataclass(frozen=True)
class ArmConfig:
    """Limits of the Cartesian controller."""

    damping: float = 0.05
    """Damping of the least squares [m and rad per rad]."""
    iterations: int = 3
    """Newton steps a control step."""
    posture_gain: float = 0.05
    """Pull of the null space towards HOME, per iteration."""
    leash: float = 0.06
    """Largest distance of the commanded from the measured tcp [m]."""
    lowest: tuple[float, float, float] = (0.25, -0.40, 0.008)
    """Lower corner of the commanded tcp's workspace in the base frame [m]."""
    highest: tuple[float, float, float] = (0.75, 0.40, 0.50)
    """Upper corner [m]."""
    finger_speed: float = 0.08
    """Speed of the finger target [m/s]; slow enough for a squeeze to be felt as a ramp."""


def rotation_vector(rotation: Array) -> Array:
    """Logarithm of a (3, 3) rotation: axis times angle, (3,) [rad]."""
    quaternion = np.empty(4)
    vector = np.empty(3)
    mujoco.mju_mat2Quat(quaternion, rotation.ravel())
    mujoco.mju_quat2Vel(vector, quaternion, 1.0)
    return vector


def rotation_of(vector: Array) -> Array:
    """Exponential: (3,) axis times angle [rad] -> (3, 3)."""
    angle = float(np.linalg.norm(vector))
    quaternion = np.empty(4)
    matrix = np.empty(9)
    mujoco.mju_axisAngle2Quat(quaternion, vector / angle if angle > 0 else np.array([1.0, 0, 0]), angle)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)


class Kinematics:
    """Inverse kinematics of the tcp on a copy of the state: dq = J^T (J J^T + damping^2 I)^-1 e + (I - J^+ J) k (home - q).

    Source: Buss, "Introduction to inverse kinematics with Jacobian transpose, pseudoinverse and damped least squares
    methods" (2004), eq. 11.
    """

    def __init__(self, world: World, config: ArmConfig) -> None:
        self._world = world
        self._config = config
        self._data = mujoco.MjData(world.model)
        self._range = world.model.jnt_range[[world.model.joint(f"joint{i}").id for i in range(1, 8)]]
        self._jacobian = np.zeros((6, world.model.nv))

    def reset(self, joints: Array) -> None:
        """Starts from `joints` (7,) [rad]."""
        self._data.qpos[:] = self._world.data.qpos
        self._data.qpos[self._world.arm_qpos] = joints

    def solve(self, position: Array, rotation: Array) -> Array:
        """Joint angles (7,) [rad] that bring the tcp towards `position` (3,) [m] and `rotation` (3, 3) in the base frame."""
        joints = self._data.qpos[self._world.arm_qpos]
        for _ in range(self._config.iterations):
            joints = np.clip(joints + self._step(position, rotation, joints), self._range[:, 0], self._range[:, 1])
            self._data.qpos[self._world.arm_qpos] = joints
        return joints

    def _step(self, position: Array, rotation: Array, joints: Array) -> Array:
        model, data, site = self._world.model, self._data, self._world.tcp
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_jacSite(model, data, self._jacobian[:3], self._jacobian[3:], site)
        jacobian = self._jacobian[:, self._world.arm_dofs]
        turn = rotation_vector(rotation @ data.site_xmat[site].reshape(3, 3).T)
        error = np.concatenate([position - data.site_xpos[site], turn])
        inverse = np.linalg.solve(jacobian @ jacobian.T + self._config.damping**2 * np.eye(6), jacobian).T
        posture = self._config.posture_gain * (HOME - joints)
        return inverse @ (error - jacobian @ posture) + posture


class Arm:
    """Turns actions (7,) in [-1, 1] into actuator targets."""

    def __init__(self, world: World, config: ArmConfig | None = None) -> None:
        self._world = world
        self._config = config or ArmConfig()
        self._kinematics = Kinematics(world, self._config)
        self._finger_step = self._config.finger_speed / CONTROL_HZ
        self.reset()

    def reset(self) -> None:
        """Commands the pose in which the world stands now."""
        mujoco.mj_kinematics(self._world.model, self._world.data)
        self.position = self._world.tcp_position
        self.rotation = self._world.tcp_rotation
        self._finger = OPEN_FINGERS
        self._kinematics.reset(self._world.data.qpos[self._world.arm_qpos])

    def start_at(self, offset: Array) -> None:
        """Stands the arm at rest with its tcp displaced by `offset` (3,) [m] from where it is now, then commands that pose."""
        world, goal = self._world, self.position + offset
        for _ in range(SETTLE):
            joints = self._kinematics.solve(goal, self.rotation)
        world.data.qpos[world.arm_qpos] = joints
        world.data.ctrl[: len(HOME)] = joints
        mujoco.mj_forward(world.model, world.data)
        self.reset()

    def command(self, action: NDArray[np.float32]) -> None:
        """Moves the commanded pose by one action and writes joint and finger targets into the actuators."""
        step = np.clip(action.astype(np.float64), -1.0, 1.0)
        config, measured = self._config, self._world.tcp_position
        target = np.clip(self.position + TRANSLATION_STEP * step[:3], config.lowest, config.highest)
        offset = target - measured
        distance = float(np.linalg.norm(offset))
        self.position = measured + offset * min(1.0, config.leash / distance) if distance > 0 else target
        self.rotation = rotation_of(ROTATION_STEP * step[3:6]) @ self.rotation
        goal = 0.0 if step[6] > 0 else OPEN_FINGERS
        self._finger += float(np.clip(goal - self._finger, -self._finger_step, self._finger_step))
        control = self._world.data.ctrl
        control[: len(HOME)] = self._kinematics.solve(self.position, self.rotation)
        control[self._world.gripper] = self._finger
