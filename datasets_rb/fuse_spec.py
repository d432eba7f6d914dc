"""The arguments of a conversion of FuSe data, and the LeRobot features they lead to."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from handsight.datasets_rb import fuse_layout
from handsight.datasets_rb.fuse_layout import Layout
from handsight.datasets_rb.language import SLOTS, LanguageTable
from handsight.datasets_rb.rlds import Source
from handsight.datasets_rb.tfds_features import Field
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import ACTION, AUDIO, STATE

ENCODINGS: Final = ("video", "lossless")
_NAMES: Final = {STATE: list(fuse_layout.POSE_NAMES), ACTION: list(fuse_layout.MOTION_NAMES)}


@dataclass(frozen=True)
class ConversionSpec:
    """What all episodes of a conversion have in common; it is continued only with the same values."""

    source: str
    """Name, version and split of what is converted."""
    fields: Mapping[str, Field]
    layout: Layout
    cameras: str = "video"
    """RGB cameras as `video` (H.264 4:4:4) or `lossless` (the source's own bytes, or PNG if they are resized)."""
    tactile: str = "lossless"
    """The same for DIGIT images: contact is a difference of a few grey levels, which is what a video codec's error is."""
    image_size: int = 0
    """Height and width of every image [pixel], as the public code resizes: the aspect is not kept. 0: as in the source."""
    sample_rate: int = 16_000
    """Of the audio [Hz]; 44100 is the source's, without resampling."""
    fps: int = 5
    """Steps a second [Hz]; RLDS does not store it."""
    instruction: str = "language_instruction"
    skip: tuple[str, ...] = ()
    language: LanguageTable | None = None
    """Which of the nine texts of an instruction are true, if that is to be in every frame."""

    @classmethod
    def of(cls, source: Source, *, instruction: str = "language_instruction", skip: tuple[str, ...] = (), **options: Any) -> Self:
        """The conversion of `source`; options: the fields below `layout`. Raises HandsightError."""
        layout = fuse_layout.plan(source.fields, source.unreadable, instruction, skip)
        return cls(source.name, source.fields, layout, instruction=instruction, skip=skip, **options)

    def __post_init__(self) -> None:
        for name, value in (("cameras", self.cameras), ("tactile", self.tactile)):
            if value not in ENCODINGS:
                raise HandsightError(f"expected --{name} to be {' or '.join(ENCODINGS)}, got {value!r}")
        if self.image_size and self.image_size < 16:
            raise HandsightError(f"expected --image_size of at least 16 pixels, or 0, got {self.image_size}")
        if self.sample_rate < 1 or self.fps < 1:
            raise HandsightError(f"expected --sample_rate and --fps of at least 1 Hz, got {self.sample_rate} and {self.fps}")
        self.features()  # refuses images of unknown size

    @property
    def images(self) -> str:
        """`video` if any camera is one, as LeRobot asks."""
        return "video" if any(map(self.is_video, self.layout.images)) else "png"

    def is_video(self, name: str) -> bool:
        """Whether the images of this field become an mp4."""
        is_tactile = name.rpartition("/")[2] in fuse_layout.TACTILE
        return (self.tactile if is_tactile else self.cameras) == "video"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        names = ("source", "cameras", "tactile", "image_size", "sample_rate", "fps", "instruction")
        return {name: getattr(self, name) for name in names} | {"skip": sorted(self.skip), "language": self._language_digest()}

    def features(self) -> dict[str, dict[str, Any]]:
        """LeRobot's feature dictionary."""
        features: dict[str, dict[str, Any]] = {}
        for name, key in self.layout.images.items():
            dtype = "video" if self.is_video(name) else "image"
            features[key] = {"dtype": dtype, "shape": self.image_shape(name), "names": ["height", "width", "channels"]}
        for name, key in self.layout.columns.items():
            field = self.fields[name]
            features[key] = {"dtype": field.stored_dtype, "shape": (field.size,), "names": _NAMES.get(key)}
        if AUDIO in features:
            length = -(-features[AUDIO]["shape"][0] * self.sample_rate // fuse_layout.SOURCE_RATE)
            features[AUDIO] |= {"dtype": "int16", "shape": (length,)}
        if fuse_layout.HAS_MIC_FIELD in self.layout.attributes:
            features[fuse_layout.HAS_MIC] = {"dtype": "bool", "shape": (1,), "names": None}
        if self.language is not None:
            features[fuse_layout.LANGUAGE_VALID] = {"dtype": "bool", "shape": (SLOTS,), "names": None}
        return features

    def _language_digest(self) -> str:
        """Tells one table from another; empty without one."""
        if self.language is None:
            return ""
        content = json.dumps([dict(self.language.texts), dict(self.language.valid)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def image_shape(self, name: str) -> tuple[int, int, int]:
        """(H, W, 3) in the dataset."""
        height, width, _ = self.fields[name].shape
        if self.image_size:
            return (self.image_size, self.image_size, 3)
        if height < 0 or width < 0:
            raise HandsightError(f"expected {name!r} of a size that features.json tells, got {self.fields[name].shape}; give --image_size")
        return (height, width, 3)
