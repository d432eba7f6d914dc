"""One compiled MuJoCo world per environment: the arm, the table and a task's props. A reset moves bodies; it never compiles again."""

from collections import deque
from collections.abc import Callable
from importlib.resources import files

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.sensors.types import CONTROL_HZ

ARM_JOINTS = tuple(f"joint{i}" for i in range(1, 8))
HOME = np.array([0.0, 0.05, 0.0, -2.25, 0.0, 2.30, 0.7854])  # tcp at (0.49, 0, 0.24) [m], fingers pointing down, opening along y
OPEN_FINGERS = 0.04  # opening of one finger [m]
CONTACTS_HEARD = 8  # strongest contacts of a body that sound

AddProps = Callable[[mujoco.MjSpec], None]


def _listen_to_free_bodies(spec: mujoco.MjSpec) -> tuple[str, ...]:
    """Adds a sensor of the strongest contacts to every free body, the first sensors of the model.

    Each contact by itself: the net force of a grasped object is near 0, and would be silent when the pads close on it.
    """
    names = tuple(body.name for body in spec.bodies if any(joint.type == mujoco.mjtJoint.mjJNT_FREE for joint in body.joints))
    force_bit, strongest = 1 << 1, 2  # MuJoCo's contact sensor: which data, how contacts are reduced
    for name in names:
        spec.add_sensor(
            name=f"contact_{name}",
            type=mujoco.mjtSensor.mjSENS_CONTACT,
            objtype=mujoco.mjtObj.mjOBJ_BODY,
            objname=name,
            intprm=[force_bit, strongest, CONTACTS_HEARD],
        )
    return names


class World:
    """Model, data and the few names that every task needs.

    Args:
        add_props: adds a task's bodies and sensors to the specification before it is compiled.
        actuator_delay_s: age at which a command reaches the actuators [s], in whole ticks of the physics.
    """

    def __init__(self, add_props: AddProps, actuator_delay_s: float = 0.0) -> None:
        spec = mujoco.MjSpec.from_string(files("handsight.envs").joinpath("assets/arm.xml").read_text())
        add_props(spec)
        self.free_bodies = _listen_to_free_bodies(spec)
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self.substeps = round(1 / (CONTROL_HZ * self.model.opt.timestep))
        self.tcp = self.model.site("tcp").id
        self.arm_qpos = np.array([self.model.joint(name).qposadr[0] for name in ARM_JOINTS])
        self.arm_dofs = np.array([self.model.joint(name).dofadr[0] for name in ARM_JOINTS])
        self.finger_qpos = np.array([self.model.joint(f"{side}_finger").qposadr[0] for side in ("left", "right")])
        self.gripper = self.model.actuator("gripper").id
        self._delay = round(actuator_delay_s / self.model.opt.timestep)
        self._commands: deque[NDArray[np.float64]] = deque()  # under way to the actuators, oldest first

    def reset(self) -> None:
        """Arm at HOME with open fingers, everything else at its compiled pose, all velocities 0."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self.arm_qpos] = HOME
        self.data.qpos[self.finger_qpos] = OPEN_FINGERS
        self.data.ctrl[: len(HOME)] = HOME
        self.data.ctrl[self.gripper] = OPEN_FINGERS
        self._commands.clear()

    def simulate(self) -> NDArray[np.float64]:
        """One control step of physics; returns the summed normal contact forces on each free body, (substeps, bodies) [N].

        `data.ctrl` is what is commanded now; the first command of an episode has been standing for long.
        """
        shape = (self.substeps, len(self.free_bodies), CONTACTS_HEARD, 3)
        contacts = np.empty((self.substeps, int(np.prod(shape[1:]))))
        latest = self.data.sensordata[: contacts.shape[1]]  # a view
        command = self.data.ctrl.copy()
        if not self._commands:
            self._commands.extend([command] * self._delay)
        for substep in range(self.substeps):
            self._commands.append(command)
            self.data.ctrl[:] = self._commands.popleft()
            mujoco.mj_step(self.model, self.data)
            contacts[substep] = latest
        self.data.ctrl[:] = command
        normal = contacts.reshape(shape)[..., 0]  # the first axis of a contact's frame
        return np.asarray(np.abs(normal).sum(axis=2))

    def place(self, body: str, position: NDArray[np.float64], yaw: float = 0.0) -> None:
        """Puts a free body at `position` [m] (base frame), turned by `yaw` [rad] about the vertical, at rest."""
        joint = self.model.joint(self.model.body(body).jntadr[0])
        start = joint.qposadr[0]
        self.data.qpos[start : start + 7] = [*position, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
        self.data.qvel[joint.dofadr[0] : joint.dofadr[0] + 6] = 0.0

    def position(self, body: str) -> NDArray[np.float64]:
        """Position of a body's origin in the base frame, (3,) [m]."""
        return self.data.body(body).xpos.copy()

    @property
    def tcp_position(self) -> NDArray[np.float64]:
        """(3,) [m], base frame."""
        return self.data.site_xpos[self.tcp].copy()

    @property
    def tcp_rotation(self) -> NDArray[np.float64]:
        """(3, 3), tcp axes as columns in the base frame."""
        return self.data.site_xmat[self.tcp].reshape(3, 3).copy()

    @property
    def finger_opening(self) -> float:
        """Distance between the two pads [m], 0 to 0.08."""
        return float(self.data.qpos[self.finger_qpos].sum())
