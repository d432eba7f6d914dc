"""Which field of a FuSe episode becomes which column of a LeRobotDataset.

| FuSe (below steps/) | LeRobot | what happens |
|---|---|---|
| observation/image_0, image_1 | observation.images.front, .wrist | |
| observation/digit_0, digit_1 | observation.images.digit_left, .digit_right | |
| observation/digit_0_background, digit_1_background | observation.images.digit_left_background, .digit_right_background | |
| observation/state (7,) | observation.state | x, y, z [m], roll, pitch, yaw [rad], gripper |
| action (7,) | action | made of the poses that were reached: reached_action.py |
| observation/mic (44100,) | observation.audio int16 | the last second at 44.1 kHz, resampled: sensors/resample.py |
| language_instruction | task | of the first step |
| observation/NAME, any number | observation.NAME | flat, as it is |
| NAME, any number | NAME | flat, as it is |
| of the episode: episode_metadata/NAME | the episode table, under that name | numbers and texts |
| with a language table | language_valid | which of its nine texts are true of the instruction: language.py |
| of the episode: episode_metadata/has_mic | has_mic, too | whether the audio is one: a bool in every frame |

Names from octo_digit/scripts/configs/fuse_config.py of the public code, which trains on mel_spectro instead of mic: that is a number, too.
"""

from dataclasses import dataclass
from typing import Final

from handsight.datasets_rb.tfds_features import STEPS, Field
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import ACTION, AUDIO, FRONT, STATE, WRIST

OBSERVATION: Final = STEPS + "observation/"
CAMERAS: Final = {"image_0": FRONT, "image_1": WRIST}
TACTILE: Final = {
    "digit_0": "observation.images.digit_left",
    "digit_0_background": "observation.images.digit_left_background",
    "digit_1": "observation.images.digit_right",
    "digit_1_background": "observation.images.digit_right_background",
}
STATE_FIELD: Final = OBSERVATION + "state"
ACTION_FIELD: Final = STEPS + "action"
AUDIO_FIELD: Final = OBSERVATION + "mic"
HAS_MIC_FIELD: Final = "episode_metadata/has_mic"
HAS_MIC: Final = "has_mic"
LANGUAGE_VALID: Final = "language_valid"
SOURCE_RATE: Final = 44_100  # [Hz]
POSE_NAMES: Final = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
MOTION_NAMES: Final = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
_IMAGES: Final = CAMERAS | TACTILE
_KEYS: Final = {STATE_FIELD: STATE, ACTION_FIELD: ACTION, AUDIO_FIELD: AUDIO}
_REDUNDANT: Final = {STEPS + name: "the frame index says it" for name in ("is_first", "is_last", "is_terminal")}


@dataclass(frozen=True)
class Layout:
    """Field -> its key in the dataset, for each kind of field; and what is left out."""

    task: str
    """The field with the instruction."""
    images: dict[str, str]
    columns: dict[str, str]
    attributes: dict[str, str]
    """Of the whole episode; the keys are columns of LeRobot's episode table."""
    skipped: dict[str, str]
    """Field -> why."""

    @property
    def wanted(self) -> set[str]:
        """Every field that is read."""
        return {self.task, *self.images, *self.columns, *self.attributes}


def plan(fields: dict[str, Field], unreadable: dict[str, str], instruction: str, skip: tuple[str, ...]) -> Layout:
    """The table above, for the fields at hand.

    instruction: the text field that becomes the task; skip: fields to leave out; both named without their path.
    Raises HandsightError: a field that is needed or named is not there.
    """
    task = STEPS + instruction
    _require(fields, task, skip, unreadable)
    places: dict[str, dict[str, str]] = {"image": {}, "column": {}, "attribute": {}, "skipped": dict(unreadable)}
    for name, found in fields.items():
        if name != task:
            kind, key = _place(found, skip)
            places[kind][name] = key
    return Layout(task, places["image"], places["column"], places["attribute"], places["skipped"])


def _place(found: Field, skip: tuple[str, ...]) -> tuple[str, str]:
    """(kind, key) of a field, or ("skipped", why)."""
    short = found.name.rpartition("/")[2]
    if short in skip:
        return "skipped", "as asked"
    if found.name in _REDUNDANT:
        return "skipped", _REDUNDANT[found.name]
    if found.kind == "image":
        size_known = len(found.shape) == 3 and found.shape[2] == 3
        image = found.per_step and size_known
        return ("image", _IMAGES.get(short, f"observation.images.{short}")) if image else ("skipped", "an image of the episode, or not RGB")
    if not found.per_step:
        return ("attribute", found.name) if not found.shape else ("skipped", "more than one number for an episode")
    if found.kind == "text":
        return "skipped", "a text that is not the instruction"
    return "column", _KEYS.get(found.name, found.name.removeprefix(STEPS).replace("/", "."))


def _require(fields: dict[str, Field], task: str, skip: tuple[str, ...], unreadable: dict[str, str]) -> None:
    known = fields.keys() | unreadable.keys()
    for name, size in ((STATE_FIELD, 7), (ACTION_FIELD, 7)):
        if name not in fields or fields[name].shape != (size,):
            found = fields[name].shape if name in fields else unreadable.get(name, "none")
            raise HandsightError(f"expected {name!r} of shape ({size},) in features.json, got {found}; --source is no FuSe dataset")
    if task not in fields or fields[task].kind != "text":
        texts = sorted(name.removeprefix(STEPS) for name, found in fields.items() if found.kind == "text" and found.per_step)
        raise HandsightError(
            f"expected --instruction to name a text of features.json ({', '.join(texts)}), got {task.removeprefix(STEPS)!r}"
        )
    for short in skip:
        if not any(name.rpartition("/")[2] == short for name in known):
            raise HandsightError(f"expected --skip to name fields of features.json, got {short!r}; they are {', '.join(sorted(known))}")
        if STEPS + "observation/" + short == STATE_FIELD or STEPS + short in (ACTION_FIELD, task):
            raise HandsightError(f"expected --skip to leave state, action and instruction, got {short!r}")
