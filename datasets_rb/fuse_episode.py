"""One FuSe episode as a dataset of ours stores it. T steps; T - 1 frames, because the last step has no action."""

import io
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handsight.datasets_rb import fuse_layout, journal
from handsight.datasets_rb.fuse_spec import ConversionSpec
from handsight.datasets_rb.journal import PackedEpisode
from handsight.datasets_rb.reached_action import reached_actions
from handsight.datasets_rb.statistics import IMAGE_STRIDE, Statistics, column_statistics, image_statistics
from handsight.datasets_rb.tfds_features import Decoded
from handsight.sensors.errors import HandsightError
from handsight.sensors.pcm import float_to_int16, int16_to_float
from handsight.sensors.resample import resample
from handsight.sensors.types import ACTION, AUDIO

CLIPPED: Final = "audio_clipped"
"""In the episode table: how many samples were louder than full scale."""


def pack(spec: ConversionSpec, number: int, episode: dict[str, Decoded]) -> PackedEpisode | None:
    """episode: the fields of `spec.layout` by name. None if there are fewer than two steps, so no action.

    Raises HandsightError: an image that cannot be decoded or has another size than features.json says, or an instruction that
    is not in the language table.
    """
    states, commands = _array(episode, fuse_layout.STATE_FIELD), _array(episode, fuse_layout.ACTION_FIELD)
    length = len(states) - 1
    if length < 1:
        return None
    columns: dict[str, NDArray[Any]] = {key: _array(episode, name)[:-1].reshape(length, -1) for name, key in spec.layout.columns.items()}
    columns[ACTION] = reached_actions(states, commands)
    attributes = {key: _attribute(episode[name]) for name, key in spec.layout.attributes.items()}
    if AUDIO in columns:
        columns[AUDIO], attributes[CLIPPED] = _audio(columns[AUDIO], spec.sample_rate)
    if fuse_layout.HAS_MIC_FIELD in attributes:
        columns[fuse_layout.HAS_MIC] = np.full((length, 1), attributes[fuse_layout.HAS_MIC_FIELD], dtype=bool)
    instruction = _list(episode, spec.layout.task)[0].decode()
    if spec.language is not None:
        columns[fuse_layout.LANGUAGE_VALID] = np.repeat(spec.language.validity([instruction]), length, axis=0)
    statistics = {key: column_statistics(key, column) for key, column in columns.items()}
    encoded = {}
    for name, key in spec.layout.images.items():
        encoded[key], statistics[key] = _images(spec, name, _list(episode, name)[:-1], f"{name!r} of episode {number}")
    scalars = {key: column[:, 0] for key, column in columns.items() if column.shape[1] == 1}
    return PackedEpisode(number, instruction, (), length, columns | scalars, encoded, statistics, attributes=attributes)


def _array(episode: dict[str, Decoded], name: str) -> NDArray[Any]:
    values = episode[name]
    assert isinstance(values, np.ndarray)  # what Field.decode makes of a tensor
    return values


def _list(episode: dict[str, Decoded], name: str) -> list[bytes]:
    values = episode[name]
    assert isinstance(values, list)
    return values


def _attribute(value: Decoded) -> str | int | float:
    return value[0].decode() if isinstance(value, list) else value.item()


def _audio(samples: NDArray[Any], rate: int) -> tuple[NDArray[np.int16], int]:
    """(T, S) windows at the source's rate, float or int16 -> (T, S') int16 at `rate`, and how many samples were clipped."""
    floats = int16_to_float(samples) if samples.dtype == np.int16 else samples
    resampled = resample(floats, fuse_layout.SOURCE_RATE, rate)
    return float_to_int16(resampled), int((np.abs(resampled) > 1.0).sum())


def _images(spec: ConversionSpec, name: str, images: Sequence[bytes], where: str) -> tuple[list[bytes], Statistics]:
    """What is stored of one camera, and its statistics."""
    if not spec.is_video(name) and not spec.image_size:
        sample = np.stack([_decoded(image, spec, name, where) for image in images[::IMAGE_STRIDE]])
        return list(images), image_statistics(sample, stride=1)
    frames = np.stack([_decoded(image, spec, name, where) for image in images])
    encoded = [journal.encode_video(frames, spec.fps)] if spec.is_video(name) else [journal.encode_png(frame) for frame in frames]
    return encoded, image_statistics(frames)


def _decoded(image: bytes, spec: ConversionSpec, name: str, where: str) -> NDArray[np.uint8]:
    """(H, W, 3) in the dataset's size."""
    try:
        picture = Image.open(io.BytesIO(image)).convert("RGB")
    except OSError as error:  # of which Pillow's own errors are kinds
        raise HandsightError(f"expected {where} to be a JPEG or PNG, got bytes that Pillow cannot read ({error})") from error
    height, width, _ = spec.image_shape(name)
    if spec.image_size:
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    if picture.size != (width, height):
        raise HandsightError(f"expected {where} to have {width} x {height} pixels as in features.json, got {picture.size}")
    return np.asarray(picture)
