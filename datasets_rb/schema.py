"""What a dataset of ours holds: the LeRobot v3 features, and the arguments a recording may not change halfway.

T time, N taxels. Every column is flat: LeRobot reads a flat column two to three times faster than the same values as a 2-D one.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from handsight.datasets_rb.affordance import FEATURES
from handsight.sensors.errors import HandsightError
from handsight.sensors.realism import Realism
from handsight.sensors.types import (
    ACTION,
    ACTION_NAMES,
    AUDIO,
    AUDIO_STEP,
    CONTACTS,
    CONTROL_HZ,
    GROUNDING,
    GROUNDING_SIZE,
    KEYFRAME,
    STATE,
    STATE_NAMES,
    TOUCH,
    TOUCH_SHAPE,
    WAYPOINTS,
    Sensor,
)

FPS: Final = CONTROL_HZ
SEED: Final = "episode_seed"
PHASE: Final = "expert_phase"
TOUCH_SIZE: Final = int(np.prod(TOUCH_SHAPE))
WHOLE_KEYS: Final = (TOUCH, AUDIO, CONTACTS, WAYPOINTS, GROUNDING)
"""Columns with one statistic for the whole key: one per taxel or per audio sample is meaningless and makes stats.json 0.5 MB."""


class DatasetSpec(Protocol):
    """What makes a dataset one: of a recording (RecordingSpec) or a conversion (convert_fuse.ConversionSpec)."""

    @property
    def fps(self) -> int: ...  # [Hz]

    @property
    def images(self) -> str: ...  # `video` if any camera is one

    def to_json(self) -> dict[str, Any]: ...  # the arguments that may not change halfway, by name

    def features(self) -> dict[str, dict[str, Any]]: ...  # without the five columns LeRobot adds itself


@dataclass(frozen=True)
class RecordingSpec:
    """What every episode of one dataset has in common; a recording is continued only with the same values."""

    task: str
    """`family/name` of the environment."""
    image_size: int = 128
    """Height and width of both cameras [pixel]."""
    sensors: Sensor = Sensor.ALL
    """What is recorded; the state is needed for the keyframe labels."""
    images: str = "video"
    """`video` (H.264 4:4:4) or `png` (lossless, in the parquet files)."""
    seed: int = 0
    """The first episode seed tried."""
    noise: bool = True
    """Whether the expert's commands were perturbed (the recorded labels never are)."""
    split: str = "any"
    """Which scenes were drawn (envs/splits.py)."""
    realism: str = "ideal"
    """Noise, gains, rates and delays of the robot (sensors/realism.py)."""
    prompt: str = ""
    """Senses that the instructions speak to; the task's own if empty (envs/instructions.py)."""
    affordance: bool = False
    """Whether contact points and waypoints are recorded (datasets_rb/affordance.py)."""
    grounding: bool = False
    """Whether it is recorded what each frame's senses have met (sensors/referent.py)."""

    def __post_init__(self) -> None:
        if Sensor.STATE not in self.sensors:
            raise HandsightError(f"expected the recorded sensors to include STATE, got {self.sensors}; add Sensor.STATE")
        if self.images not in ("video", "png"):
            raise HandsightError(f"expected --images=video or --images=png, got {self.images!r}")
        Realism.parse(self.realism)  # refuses what it does not know
        if self.image_size < 16 or self.image_size % 2:
            raise HandsightError(f"expected an even image size of at least 16 pixels, got {self.image_size}")

    @property
    def fps(self) -> int:
        """Steps a second [Hz]."""
        return FPS

    def to_json(self) -> dict[str, Any]:
        """Plain values, sensors by name in declaration order, realism in the one way to write it."""
        return {
            **dataclasses.asdict(self),
            "sensors": [str(sensor.name) for sensor in self.sensors],
            "realism": str(Realism.parse(self.realism)),
        }

    def features(self) -> dict[str, dict[str, Any]]:
        """The LeRobot features of this recording."""
        label = {GROUNDING: {"dtype": "int16", "shape": (GROUNDING_SIZE,), "names": None}}
        chosen = (FEATURES if self.affordance else {}) | (label if self.grounding else {})
        return features(self.image_size, self.sensors, self.images == "video") | chosen


def require_same(wanted: DatasetSpec, existing: dict[str, Any], root: str) -> None:
    """Raises HandsightError naming the first argument that differs from what `root` was recorded with."""
    recorded = _EARLIER | existing
    for name, value in wanted.to_json().items():
        if recorded.get(name) != value:
            raise HandsightError(
                f"expected --{_ARGUMENT.get(name, name)}={recorded.get(name)}, which {root} was recorded with, got {value}; "
                "use the same arguments to continue it, or another --root"
            )


_ARGUMENT: Final = {"task": "env.task", "split": "env.split", "realism": "env.realism", "prompt": "env.prompt"}
# of recordings from before there was a choice
_EARLIER: Final = {"split": "any", "realism": "ideal", "prompt": "", "affordance": False, "grounding": False}


def features(image_size: int, sensors: Sensor, use_videos: bool) -> dict[str, dict[str, Any]]:
    """The LeRobot v3 feature dictionary (without the five columns LeRobot adds itself).

    image_size: height and width [pixel]; sensors: which observation keys exist; use_videos: mp4 instead of PNG.
    """
    image = {"dtype": "video" if use_videos else "image", "shape": (image_size, image_size, 3), "names": ["height", "width", "channels"]}
    column: dict[str, dict[str, Any]] = {
        STATE: {"dtype": "float32", "shape": (len(STATE_NAMES),), "names": list(STATE_NAMES)},
        TOUCH: {"dtype": "float32", "shape": (TOUCH_SIZE,), "names": None},
        AUDIO: {"dtype": "int16", "shape": (AUDIO_STEP,), "names": None},
    }
    observed = {key: column.get(key) or dict(image) for key in sensors.keys}
    return {
        **observed,
        ACTION: {"dtype": "float32", "shape": (len(ACTION_NAMES),), "names": list(ACTION_NAMES)},
        KEYFRAME: {"dtype": "float32", "shape": (4,), "names": ["tcp_x", "tcp_y", "tcp_z", "kind"]},
        SEED: {"dtype": "int64", "shape": (1,), "names": None},
        PHASE: {"dtype": "int64", "shape": (1,), "names": None},
    }
