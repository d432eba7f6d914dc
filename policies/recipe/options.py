"""What fuse_act, fuse_diffusion and fuse_smolvla have in their configurations beside the host's own fields."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from handsight.policies.fuse.configuration_fuse import STRIDED
from handsight.policies.fuse.language import LanguageOptions
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import COMBINATIONS
from handsight.sensors.names import parse_sensors
from handsight.sensors.touch import TAXELS
from handsight.sensors.types import AUDIO, AUDIO_STEP, KEY_OF_SENSOR, LABEL_PREFIX, SENSOR_OF_KEY, TOUCH, TOUCH_SHAPE, Sensor

OURS = {"touch": TOUCH, "audio": AUDIO}
"""Sensors that hosts do not know, by name."""
_SHAPES = {TOUCH: ((TAXELS,), TOUCH_SHAPE), AUDIO: ((AUDIO_STEP,),)}


@dataclass
class SensorOptions:
    """Stands before the host's configuration among the bases; every field can be set on the command line, for instance
    `--policy.sensors=cameras,state` for the host with the instruction alone.
    """

    host: str = ""
    """Folder or hub id of a checkpoint of the stock policy whose weights training starts from; empty: the host's own initialisation."""

    # -- sensors
    sensors: str = "all"
    """Sensors that the policy may use, comma-separated: front, wrist, state, touch, audio, cameras, all. Other columns are the host's."""
    masked: str = ""
    """Sensors out of touch, audio treated as missing; an ablation at evaluation time."""
    sensor_dropout: dict[str, float] = field(default_factory=lambda: {"touch": 0.1, "audio": 0.1})
    """Probability, per sample and sensor, of training with that sensor missing."""
    touch_history: tuple[int, ...] = STRIDED
    """Frame offsets (steps, <= 0, oldest first) of touch."""
    audio_history: tuple[int, ...] = tuple(range(-19, 1))
    """Frame offsets of audio; contiguous: they are joined to one waveform, one second by default."""

    # -- adapter
    read_instruction: bool = True
    """Whether the host is given a token of the instruction; for hosts that read none themselves."""
    token_width: int = 64
    """Width of the sensor encoders' tokens."""
    text_width: int = 64
    """Width of the instruction embedding."""
    text_buckets: int = 2048
    """Number of word buckets of the instruction."""
    max_words: int = 24
    """Longest instruction in words."""
    word_insert: float = 0.15
    """Highest rate at which pad positions become random words in training."""
    word_replace: float = 0.02
    """Rate at which words become random words in training."""
    word_drop: float = 0.02
    """Rate at which words are dropped in training."""
    adapter_lr: float = 5e-4
    """Learning rate of everything that the host does not have; the host's is `optimizer_lr`."""

    # -- language losses, as in the fuse policy (fuse/language.py); a dataset needs observation.label.grounding for them
    contrastive_weight: float = 0.0
    """Weight of the contrastive loss between all sensors and what each combination of senses can say; 1 in FuSe."""
    generation_weight: float = 0.0
    """Weight of the generation loss, which trains the decoder of descriptions; 1 in FuSe."""
    generation_combinations: int = 1
    """Combinations of senses that are generated for each row."""
    memory_bank: int = 1024
    """Samples of earlier batches that the contrastive loss also contrasts with."""
    contrastive_width: int = 64
    """Width of the contrastive embedding; 512 in FuSe."""
    upstream_compat: bool = False
    """The losses, heads and decoder of FuSe's public code, with its quirks."""

    push_to_hub: bool = False
    """Whether LeRobot uploads the trained policy."""

    if TYPE_CHECKING:  # of LeRobot's PreTrainedConfig, which follows among the bases
        input_features: dict[str, Any] | None = None

        @property
        def image_features(self) -> dict[str, Any]: ...
        @property
        def robot_state_feature(self) -> Any: ...

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc] # the host's
        parse_sensors(self.sensors)
        if parse_sensors(self.masked) & ~(Sensor.TOUCH | Sensor.AUDIO):
            raise HandsightError(f"expected masked out of touch, audio, got {self.masked!r}; the host cannot do without its own sensors")
        for name in ("touch_history", "audio_history"):
            offsets = list(getattr(self, name))
            if not offsets or offsets[-1] != 0 or offsets != sorted(set(offsets)):
                raise HandsightError(f"expected {name} as increasing offsets that end in 0, got {offsets}")
        if not 1 <= self.generation_combinations <= len(COMBINATIONS):
            raise HandsightError(f"expected generation_combinations from 1 to {len(COMBINATIONS)}, got {self.generation_combinations}")
        if list(self.audio_history) != list(range(self.audio_history[0], 1)):
            raise HandsightError(f"expected contiguous audio_history, got {list(self.audio_history)}; the frames form one waveform")

    @property
    def language(self) -> LanguageOptions:
        """The language losses."""
        return LanguageOptions(
            contrastive_weight=self.contrastive_weight,
            generation_weight=self.generation_weight,
            combinations=self.generation_combinations,
            memory_bank=self.memory_bank,
            upstream_compat=self.upstream_compat,
            embedding=self.contrastive_width,
        )

    @property
    def our_keys(self) -> dict[str, str]:
        """Name -> key of the sensors that the adapter encodes."""
        features = self.input_features or {}
        allowed = parse_sensors(self.sensors).keys
        return {name: key for name, key in OURS.items() if key in features and key in allowed}

    @property
    def histories(self) -> dict[str, tuple[int, ...]]:
        """Name -> frame offsets of the sensors that the adapter encodes."""
        return {name: self.history_of(key) for name, key in self.our_keys.items()}

    @property
    def host_history(self) -> tuple[int, ...]:
        """Frame offsets of the host's own observations."""
        own = super().observation_delta_indices  # type: ignore[misc] # the host's
        return tuple(own or (0,))

    def history_of(self, key: str) -> tuple[int, ...]:
        """Offsets [steps] at which the policy reads `key`, at most 0, oldest first; labels are of now."""
        if key.startswith(LABEL_PREFIX):
            return (0,)
        return {TOUCH: self.touch_history, AUDIO: self.audio_history}.get(key, self.host_history)

    @property
    def observation_delta_indices(self) -> list[int] | None:
        """Union of all histories: LeRobot's own reader applies one list to every observation key. None: now alone, no time axis."""
        ours = [key for key in OURS.values() if key in parse_sensors(self.sensors).keys]
        union = sorted({*self.host_history, *(offset for key in ours for offset in self.history_of(key))})
        return None if union == [0] else union

    def validate_features(self) -> None:
        """Drop labels and unused sensors from `input_features`; reject shapes that no encoder exists for; then the host's own checks."""
        unused = {key for sensor, key in KEY_OF_SENSOR.items() if sensor not in parse_sensors(self.sensors)}
        features = self.input_features or {}
        self.input_features = {key: f for key, f in features.items() if key not in unused and not key.startswith(LABEL_PREFIX)}
        for key in self.our_keys.values():
            if tuple(self.input_features[key].shape) not in _SHAPES[key]:
                wanted = " or ".join(map(str, _SHAPES[key]))
                raise HandsightError(f"expected {key} of shape {wanted}, got {tuple(self.input_features[key].shape)}")
        if not self.our_keys and not self.read_instruction:
            raise HandsightError(
                "expected touch, audio or read_instruction=true, got none: that is the stock policy; train it by its own type"
            )
        super().validate_features()  # type: ignore[misc] # the host's


def frame_dims(key: str) -> int:
    """Axes of one frame of an observation key."""
    if key.startswith("observation.image"):
        return 3
    return len(TOUCH_SHAPE) if SENSOR_OF_KEY.get(key) is Sensor.TOUCH else 1
