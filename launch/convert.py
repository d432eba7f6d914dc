"""`handsight convert fuse`: the public FuSe data (RLDS) into a LeRobotDataset v3; run it again to continue."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from handsight.datasets_rb.convert_fuse import Converted, convert
from handsight.datasets_rb.fuse_layout import Layout
from handsight.datasets_rb.fuse_spec import ConversionSpec
from handsight.datasets_rb.language import LanguageTable
from handsight.datasets_rb.rlds import open_source
from handsight.launch.arguments import parse
from handsight.sensors.errors import HandsightError

FORMATS: Final = ("fuse",)


@dataclass(frozen=True)
class ConvertArguments:
    """Arguments of `handsight convert`."""

    format: str = ""
    """What is converted: fuse."""
    source: str = ""
    """Folder with features.json, dataset_info.json and the *.tfrecord-* files, as downloaded from `oier-mees/FuSe`."""
    root: str = ""
    """Folder of the dataset, new or to be continued."""
    split: str = "train"
    """Which split: train or val."""
    limit: int = 0
    """How many episodes the dataset holds in the end; 0: all."""
    partial: bool = False
    """Whether to convert the shards that are there although others of the split are missing."""
    cameras: str = "video"
    """RGB cameras as `video` (H.264 4:4:4) or `lossless` (the source's own bytes, or PNG if they are resized)."""
    tactile: str = "lossless"
    """The same for DIGIT images, where contact is a difference of a few grey levels."""
    image_size: int = 0
    """Height and width of every image [pixel], as the public code resizes: the aspect is not kept. 0: as in the source."""
    sample_rate: int = 16_000
    """Of the audio [Hz]; 44100 is the source's, without resampling."""
    fps: int = 5
    """Steps a second [Hz], which RLDS does not store."""
    instruction: str = "language_instruction"
    """The field of a step that becomes the task."""
    language: str = ""
    """JSON file with nine texts and validity bits for each instruction (datasets_rb/language.py); needs --rephrasings."""
    rephrasings: str = ""
    """JSON file with 20 rephrasings of each of these texts."""
    skip: tuple[str, ...] = ()
    """Fields to leave out, by their last name: --skip="[mel_spectro, imu]"."""

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise HandsightError(f"expected --limit of at least 0, got {self.limit}")
        if bool(self.language) != bool(self.rephrasings):
            raise HandsightError("expected --language=FILE and --rephrasings=FILE together, got one of them; they are one table")


def main(argv: list[str]) -> int:
    """Parses, says what is left out, converts, says what was written."""
    arguments = parse(ConvertArguments, argv, "handsight convert", __doc__ or "", positional="format")
    if arguments.format not in FORMATS:
        raise HandsightError(f"expected `handsight convert {FORMATS[0]} --key=value ...`, got {arguments.format!r}")
    if not arguments.source or not arguments.root:
        raise HandsightError("expected --source=DIR and --root=DIR, got no value for one of them; see `handsight convert --help`")
    source = open_source(Path(arguments.source), arguments.split, arguments.partial)
    spec = ConversionSpec.of(
        source,
        instruction=arguments.instruction,
        skip=arguments.skip,
        language=_table(arguments),
        cameras=arguments.cameras,
        tactile=arguments.tactile,
        image_size=arguments.image_size,
        sample_rate=arguments.sample_rate,
        fps=arguments.fps,
    )
    print(_left_out(spec.layout))
    converted = convert(arguments.root, spec, source, arguments.limit)
    print(_summary(arguments.root, converted))
    return 0


def _table(arguments: ConvertArguments) -> LanguageTable | None:
    return LanguageTable.read(Path(arguments.language), Path(arguments.rephrasings)) if arguments.language else None


def _left_out(layout: Layout) -> str:
    """Every field that does not get into the dataset, once."""
    lines = [f"  {name}: {reason}" for name, reason in sorted(layout.skipped.items())]
    return "\n".join(["left out:", *lines, "  the last step of each episode: it has no action"])


def _summary(root: str, converted: Converted) -> str:
    lines = [f"{root}: {converted.episodes} episodes; this run converted {converted.frames} frames"]
    if converted.too_short:
        lines.append(f"left out: {converted.too_short} episodes of a single step, which have no action")
    if converted.clipped:
        lines.append(f"clipped: {converted.clipped} audio samples louder than full scale")
    return "\n".join([*lines, f"next: handsight train --policy.type=act --dataset.root={shlex.quote(root)}"])
