"""Finished episodes on their way into a dataset: one safetensors file each, written to a temporary name and renamed.

A file is there whole or not at all, so a killed recording loses only the episode it was writing. Simulation workers write these files
themselves (images already encoded, statistics computed) and import neither torch nor LeRobot. T time.
"""

import errno
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save

from handsight.datasets_rb.affordance import Affordance, affordance_columns
from handsight.datasets_rb.keyframe import keyframe
from handsight.datasets_rb.schema import FPS, PHASE, SEED, RecordingSpec
from handsight.datasets_rb.statistics import Statistics, column_statistics, image_statistics
from handsight.sensors.errors import HandsightError
from handsight.sensors.pcm import float_to_int16
from handsight.sensors.types import ACTION, AUDIO, GROUNDING, GROUNDING_SIZE, KEYFRAME, STATE

CODEC: Final = "h264"
PIXEL_FORMAT: Final = "yuv444p"
CODEC_OPTIONS: Final = {"g": "2", "crf": "18", "preset": "ultrafast"}
"""Measured on rendered 128 px frames, one thread: 0.20 ms a frame and 44.8 dB PSNR; LeRobot's default (AV1 4:2:0, crf 30) 2.17 ms and
36.2 dB, because 4:2:0 halves the resolution of colour, which is what instructions name objects by."""
_SUFFIX: Final = ".safetensors"


class Episode(Protocol):
    """What is recorded: `handsight.envs.rollout.Episode`, or anything with these fields."""

    @property
    def seed(self) -> int: ...

    @property
    def instruction(self) -> str: ...

    @property
    def commands(self) -> tuple[tuple[int, str], ...]: ...  # first step and text of each that replaced the instruction

    @property
    def success(self) -> bool: ...

    @property
    def observations(self) -> Mapping[str, NDArray[Any]]: ...  # key -> (T, ...)

    @property
    def actions(self) -> NDArray[np.float32]: ...  # (T, 7)

    @property
    def phases(self) -> NDArray[np.int64]: ...  # (T,) index into phase_names

    @property
    def phase_names(self) -> tuple[str, ...]: ...

    @property
    def affordance(self) -> Affordance | None: ...

    @property
    def grounding(self) -> NDArray[np.int16] | None: ...  # (T, 10)


@dataclass(frozen=True)
class PackedEpisode:
    """One episode as the dataset stores it."""

    seed: int
    instruction: str
    phase_names: tuple[str, ...]
    length: int
    columns: dict[str, NDArray[Any]]
    """Every feature that is not an image, (T,) or (T, D), in its stored dtype."""
    encoded: dict[str, list[bytes]]
    """Per camera: one mp4, or T pictures as PNG or JPEG."""
    statistics: dict[str, Statistics]
    commands: tuple[tuple[int, str], ...] = ()
    """First step and text of each command that replaced the instruction."""
    attributes: dict[str, str | int | float] = field(default_factory=dict)
    """What is true of the whole episode; columns of LeRobot's episode table."""

    @property
    def tasks(self) -> list[str]:
        """Every instruction and command, once."""
        return list(dict.fromkeys([self.instruction, *(text for _, text in self.commands)]))

    def task_at(self) -> list[str]:
        """The instruction or command of each step, `length` of them."""
        texts = [self.instruction] * self.length
        for start, text in self.commands:
            texts[start:] = [text] * (self.length - start)
        return texts


def pack(spec: RecordingSpec, episode: Episode) -> PackedEpisode:
    """Encodes the images and computes labels and statistics; the expensive half of recording, done by whoever simulated.

    Raises HandsightError if an observation is missing or has another length or size than expected.
    """
    features = spec.features()
    length = len(episode.actions)
    columns: dict[str, NDArray[Any]] = {
        ACTION: np.asarray(episode.actions, np.float32),
        KEYFRAME: keyframe(episode.actions, episode.observations[STATE]),
        SEED: np.full(length, episode.seed, np.int64),
        PHASE: np.asarray(episode.phases, np.int64),
    }
    if spec.affordance:
        columns |= affordance_columns(episode.affordance, spec.image_size, length)
    if spec.grounding:
        columns[GROUNDING] = _labels(episode)
    encoded, statistics = {}, {}
    for key in spec.sensors.keys:
        value = _observation(episode, key, length)
        if features[key]["dtype"] in ("video", "image"):
            _require_shape(key, value.shape[1:], features[key]["shape"])
            encoded[key] = [encode_video(value)] if spec.images == "video" else [encode_png(image) for image in value]
            statistics[key] = image_statistics(value)
        else:
            flat = (float_to_int16(value) if key == AUDIO else value.astype(np.float32)).reshape(length, -1)
            _require_shape(key, flat.shape[1:], features[key]["shape"])
            columns[key] = flat
    statistics |= {key: column_statistics(key, column) for key, column in columns.items()}
    names, commands = tuple(episode.phase_names), tuple(episode.commands)
    return PackedEpisode(episode.seed, episode.instruction, names, length, columns, encoded, statistics, commands)


def _observation(episode: Episode, key: str, length: int) -> NDArray[Any]:
    value = episode.observations.get(key)
    if value is None or len(value) != length:
        found = "nothing" if value is None else f"{len(value)} frames"
        raise HandsightError(f"expected {length} frames of {key} in the episode with seed {episode.seed}, got {found}; fix the environment")
    return value


def _labels(episode: Episode) -> NDArray[np.int16]:
    labels, expected = episode.grounding, (len(episode.actions), GROUNDING_SIZE)
    found = None if labels is None else labels.shape
    if labels is None or found != expected:
        raise HandsightError(
            f"expected grounding labels of shape {expected} in the episode with seed {episode.seed}, got {found}; "
            "record this task with --grounding=false"
        )
    return labels.astype(np.int16)


def _require_shape(key: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != tuple(expected):
        raise HandsightError(
            f"expected {key} of shape {tuple(expected)}, got {shape}; make the environment with the recording's image size"
        )


def encode_video(images: NDArray[np.uint8], fps: int = FPS) -> bytes:
    """images (T, H, W, 3) -> an mp4 of T frames at `fps` [Hz]; no B-frames, so that packets are in display order and can be copied."""
    quiet_libav()
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream(CODEC, fps, options={**CODEC_OPTIONS, "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = images.shape[1], images.shape[2], PIXEL_FORMAT
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def quiet_libav() -> None:
    """x264 prints its statistics after every video, once LeRobot has reset libav's log."""
    av.logging.set_libav_level(av.logging.ERROR)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """image (H, W, 3) -> PNG, at the fastest compression level."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def write(folder: Path, packed: PackedEpisode) -> None:
    """Commits one episode to the journal. Raises HandsightError if the disk is full (nothing half-written stays)."""
    tensors = {f"column/{key}": column for key, column in packed.columns.items()}
    for key, parts in packed.encoded.items():
        tensors[f"bytes/{key}"] = np.frombuffer(b"".join(parts), np.uint8)
        tensors[f"sizes/{key}"] = np.array([len(part) for part in parts], np.int64)
    for key, statistics in packed.statistics.items():
        tensors |= {f"statistics/{key}/{name}": value for name, value in statistics.items()}
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    header = {"instruction": packed.instruction, "length": str(packed.length), "phase_names": json.dumps(packed.phase_names)}
    header |= {"attributes": json.dumps(packed.attributes), "commands": json.dumps(packed.commands)}
    write_atomically(_episode_file(folder, packed.seed), save(tensors, header))


def read(folder: Path, seed: int) -> PackedEpisode:
    """The episode that `write` committed under this seed."""
    columns: dict[str, NDArray[Any]] = {}
    encoded: dict[str, list[bytes]] = {}
    statistics: dict[str, Statistics] = {}
    with safe_open(_episode_file(folder, seed), "numpy") as file:
        header = file.metadata()
        for name in file.keys():  # noqa: SIM118 - a safetensors handle is not iterable
            kind, key, *rest = name.split("/")
            if kind == "column":
                columns[key] = file.get_tensor(name)
            elif kind == "bytes":
                ends = np.cumsum(file.get_tensor(f"sizes/{key}"))
                whole = file.get_tensor(name).tobytes()
                encoded[key] = [whole[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
            elif kind == "statistics":
                statistics.setdefault(key, {})[rest[0]] = file.get_tensor(name)
    names = tuple(json.loads(header["phase_names"]))
    attributes = json.loads(header.get("attributes", "{}"))
    commands = tuple((start, text) for start, text in json.loads(header.get("commands", "[]")))
    return PackedEpisode(seed, header["instruction"], names, int(header["length"]), columns, encoded, statistics, commands, attributes)


def write_failure(folder: Path, seed: int) -> None:
    """Remembers that the expert failed on this seed, so that a continued run does not try it again."""
    write_atomically(folder / f"failed-{seed:09d}", b"")


def forget(folder: Path, seed: int) -> None:
    """Removes a seed that the dataset itself now remembers."""
    _episode_file(folder, seed).unlink(missing_ok=True)
    (folder / f"failed-{seed:09d}").unlink(missing_ok=True)


def outcomes(folder: Path) -> dict[int, bool]:
    """Seed -> success, of every attempt in the journal."""
    successes = {int(path.name[len("seed-") : -len(_SUFFIX)]): True for path in folder.glob(f"seed-*{_SUFFIX}")}
    failures = {int(path.name[len("failed-") :]): False for path in folder.glob("failed-*")}
    return failures | successes


def write_atomically(path: Path, content: bytes) -> None:
    """Writes under a temporary name, flushes to the disk and renames. Raises HandsightError if the disk is full."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with full_disk_explained(path.parent):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Turns "no space left" into one line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise HandsightError(
            f"expected free space on the disk of {folder}, got '{os.strerror(error.errno)}'; free some and run the same "
            "command to continue, finished episodes are kept"
        ) from error


def _episode_file(folder: Path, seed: int) -> Path:
    return folder / f"seed-{seed:09d}{_SUFFIX}"
