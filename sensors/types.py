"""Keys, shapes and units of everything that passes between a robot (simulated or real) and a policy.

    Reading(t, value) --sync--> Observation --processor steps--> Batch --policy.forward--> (loss, metrics)
          ^                         |
          |                         +--processor steps--> policy.select_action --> action
     envs/observe (MuJoCo)                                                           |
     robot driver  <--------------------------- guard <------------------------------+

An observation is a flat dictionary of NumPy arrays with these keys; a batch has a leading B (and T where a history is asked for):

| key | observation (env, robot) | dataset column | batch (float32) | unit, range |
|---|---|---|---|---|
| observation.images.front, .wrist | (H, W, 3) uint8 | video or PNG | (B, 3, H, W) | [0, 1] in a batch |
| observation.state | (15,) float32 | (15,) float32 | (B, T, 15) | see STATE_NAMES |
| observation.touch | (2, 3, 16, 16) float32 | (1536,) float32 | (B, T, 2, 3, 16, 16) | kPa; left, right pad; normal, shear x, shear z |
| observation.audio | (800,) float32 | (800,) int16 | (B, T, 800) | PCM in [-1, 1], the 50 ms before this step |
| action | (7,) float32 | (7,) float32 | (B, chunk, 7) | see ACTION_NAMES, [-1, 1] |
| task | str | task | list[str] | the instruction |
| observation.label.keyframe | never | (4,) float32 | (B, 4) | hindsight: tcp xyz [m] at the next gripper change or press, kind |
| observation.label.contacts | never | (48,) float32 | (B, 48) | hindsight, 16 x 3: x, y in the first front picture [0, 1], present |
| observation.label.waypoints | never | (320,) float32 | (B, 320) | hindsight, 32 x 10: tcp xyz [m], rot_xx ... rot_yz, gripper |
| observation.label.grounding | never | (10,) int16 | (B, 10) int64 | what was last touched or heard: sensors/referent.py |
"""

import enum
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

CONTROL_HZ: Final = 20
AUDIO_RATE: Final = 16_000
AUDIO_STEP: Final = AUDIO_RATE // CONTROL_HZ
TOUCH_SHAPE: Final = (2, 3, 16, 16)

FRONT: Final = "observation.images.front"
WRIST: Final = "observation.images.wrist"
STATE: Final = "observation.state"
TOUCH: Final = "observation.touch"
AUDIO: Final = "observation.audio"
ACTION: Final = "action"
TASK: Final = "task"
LABEL_PREFIX: Final = "observation.label."
KEYFRAME: Final = LABEL_PREFIX + "keyframe"
CONTACTS: Final = LABEL_PREFIX + "contacts"  # of activities that make contact somewhere, as are:
WAYPOINTS: Final = LABEL_PREFIX + "waypoints"
GROUNDING: Final = LABEL_PREFIX + "grounding"
CONTACTS_SHAPE: Final = (16, 3)
WAYPOINTS_SHAPE: Final = (32, 10)
GROUNDING_SIZE: Final = 10

STATE_NAMES: Final = (
    *("tcp_x", "tcp_y", "tcp_z"),  # [m], base frame
    *("rot_xx", "rot_xy", "rot_xz", "rot_yx", "rot_yy", "rot_yz"),  # first two columns of the tcp rotation matrix
    "finger_opening",  # [m], 0 closed to 0.08
    *("tcp_vx", "tcp_vy", "tcp_vz"),  # [m/s]
    *("force_left", "force_right"),  # normal force on each pad [N]
)
ACTION_NAMES: Final = (
    *("dx", "dy", "dz"),  # tcp displacement in the base frame, 1 = TRANSLATION_STEP
    *("droll", "dpitch", "dyaw"),  # tcp rotation in the base frame, 1 = ROTATION_STEP
    "gripper",  # -1 open, +1 closed; the sign decides
)
TRANSLATION_STEP: Final = 0.0125  # [m]
ROTATION_STEP: Final = 0.05  # [rad]


class Sensor(enum.Flag):
    """What a robot can sense; combinations are written with `|`."""

    FRONT = enum.auto()
    WRIST = enum.auto()
    STATE = enum.auto()
    TOUCH = enum.auto()
    AUDIO = enum.auto()
    CAMERAS = FRONT | WRIST
    ALL = FRONT | WRIST | STATE | TOUCH | AUDIO

    @property
    def keys(self) -> tuple[str, ...]:
        """The observation keys of every sensor in this combination, in declaration order."""
        return tuple(key for sensor, key in KEY_OF_SENSOR.items() if sensor in self)


KEY_OF_SENSOR: Final = {
    Sensor.FRONT: FRONT,
    Sensor.WRIST: WRIST,
    Sensor.STATE: STATE,
    Sensor.TOUCH: TOUCH,
    Sensor.AUDIO: AUDIO,
}
SENSOR_OF_KEY: Final = {key: sensor for sensor, key in KEY_OF_SENSOR.items()}


class KeyframeKind(enum.IntEnum):
    """What happens at the next keyframe of a demonstration."""

    CLOSE = 0
    OPEN = 1
    END = 2
    PRESS = 3
    """The lowest point of a movement with fingers that are shut on nothing."""


Observation = dict[str, NDArray[Any]]


class Environment(Protocol):
    """What a rollout needs of a simulated or real robot (a subset of gymnasium.Env)."""

    task_description: str

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]: ...

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]: ...

    def render(self) -> NDArray[np.uint8]: ...

    def close(self) -> None: ...


class Policy(Protocol):
    """What a rollout needs of a policy: LeRobot's own two methods. `batch` is preprocessed; the action is (B, 7)."""

    def reset(self) -> None: ...

    def select_action(self, batch: dict[str, Any]) -> Any: ...
