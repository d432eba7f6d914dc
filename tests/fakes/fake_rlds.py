"""A small RLDS dataset in the format of the public FuSe data, written byte by byte: neither protobuf nor a CRC library takes part."""

import io
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CAMERA: Final = (24, 32)  # height, width
DIGIT: Final = (20, 26)
IMAGES: Final = {
    "image_0": CAMERA,
    "image_1": CAMERA,
    "digit_0": DIGIT,
    "digit_0_background": DIGIT,
    "digit_1": DIGIT,
    "digit_1_background": DIGIT,
}
SAMPLES: Final = 4410
TENSORS: Final = {"mic": (SAMPLES,), "state": (7,), "imu": (3, 3)}
INSTRUCTIONS: Final = ("Grab the green frog", "Push the blue button")
NAME: Final = "digit_dataset"


@dataclass(frozen=True)
class RldsEpisode:
    """What one Example holds. T steps."""

    images: dict[str, list[bytes]]  # T JPEGs each
    tensors: dict[str, NDArray[np.float32]]  # (T, ...)
    actions: NDArray[np.float32]  # (T, 7)
    instruction: str
    has_mic: bool
    path: str


def episode(seed: int, steps: int | None = None) -> RldsEpisode:
    """Smooth pictures, poses that move a little, a sine of a frequency of its own."""
    rng = np.random.default_rng(seed)
    length = 4 + seed % 3 if steps is None else steps
    time = np.arange(length)[:, None] / 5 + np.arange(SAMPLES) / 44_100
    gripper = np.where(np.arange(length) < length / 2, 1.0, 0.0)
    return RldsEpisode(
        images={name: [_picture(rng, *size) for _ in range(length)] for name, size in IMAGES.items()},
        tensors={
            "mic": (0.5 * np.sin(2 * np.pi * (300 + 100 * seed) * time)).astype(np.float32),
            "state": np.cumsum(rng.normal(0, 0.05, (length, 7)), axis=0).astype(np.float32),
            "imu": rng.normal(size=(length, 3, 3)).astype(np.float32),
        },
        actions=np.column_stack([rng.normal(0, 0.05, (length, 6)), gripper]).astype(np.float32),
        instruction=INSTRUCTIONS[seed % 2],
        has_mic=bool(seed % 2),
        path=f"raw/traj{seed}",
    )


def _picture(rng: np.random.Generator, height: int, width: int) -> bytes:
    coarse = Image.fromarray(rng.integers(40, 216, (3, 4, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()


def write_split(folder: Path, split: str, shards: Sequence[Sequence[int]]) -> Path:
    """One file for each list of episode seeds; features.json and dataset_info.json as TensorFlow Datasets writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, seeds in enumerate(shards):
        path = folder / f"{NAME}-{split}.tfrecord-{number:05d}-of-{len(shards):05d}"
        path.write_bytes(b"".join(framed(example(values_of(episode(seed)))) for seed in seeds))
    (folder / "features.json").write_text(json.dumps(features()))
    info = folder / "dataset_info.json"
    content = json.loads(info.read_text()) if info.exists() else {"name": NAME, "version": "1.0.0", "fileFormat": "tfrecord", "splits": []}
    content["splits"].append({"name": split, "shardLengths": [str(len(seeds)) for seeds in shards]})
    info.write_text(json.dumps(content))
    return folder


def values_of(made: RldsEpisode) -> dict[str, Sequence[Any]]:
    """Feature -> its values, all steps one after another."""
    length = len(made.actions)
    return {
        **{f"steps/observation/{name}": images for name, images in made.images.items()},
        **{f"steps/observation/{name}": values.ravel().tolist() for name, values in made.tensors.items()},
        "steps/action": made.actions.ravel().tolist(),
        "steps/language_instruction": [made.instruction.encode()] * length,
        "steps/is_first": [int(step == 0) for step in range(length)],
        "steps/is_last": [int(step == length - 1) for step in range(length)],
        "episode_metadata/has_mic": [int(made.has_mic)],
        "episode_metadata/file_path": [made.path.encode()],
    }


def features() -> dict[str, Any]:
    """The tree of features.json."""
    observation = {
        name: {"image": {"shape": _shape((*size, 3)), "dtype": "uint8", "encodingFormat": "jpeg"}} for name, size in IMAGES.items()
    }
    observation |= {name: _tensor(shape, "float32") for name, shape in TENSORS.items()}
    observation["words"] = {"pythonClassName": "features.sequence_feature.Sequence", "sequence": {"feature": {"text": {}}, "length": "-1"}}
    step = {
        "observation": _tree(observation),
        "action": _tensor((7,), "float32"),
        "language_instruction": {"text": {}},
        "is_first": _tensor((), "bool"),
        "is_last": _tensor((), "bool"),
    }
    metadata = {"has_mic": _tensor((), "bool"), "file_path": {"text": {}}}
    return _tree({"steps": {"sequence": {"feature": _tree(step), "length": "-1"}}, "episode_metadata": _tree(metadata)})


def _tree(children: Mapping[str, Any]) -> dict[str, Any]:
    return {"pythonClassName": "features.features_dict.FeaturesDict", "featuresDict": {"features": dict(children)}}


def _tensor(shape: tuple[int, ...], dtype: str) -> dict[str, Any]:
    return {"tensor": {"shape": _shape(shape), "dtype": dtype, "encoding": "none"}}


def _shape(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"dimensions": [str(size) for size in shape]} if shape else {}


def framed(data: bytes) -> bytes:
    """One record of a TFRecord file."""
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32)


def crc32c(data: bytes) -> int:
    """CRC-32C by its definition, a byte at a time: reflected polynomial 0x82F63B78 (RFC 3720, B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _REMAINDERS[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _remainder(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc


_REMAINDERS: Final = [_remainder(byte) for byte in range(256)]


def example(values: Mapping[str, Sequence[Any]], packed: bool = True) -> bytes:
    """The bytes of a tf.train.Example; with `packed` false, numbers one by one, as a parser must also take them."""
    entries = [_message(1, _message(1, name.encode()) + _message(2, _feature(items, packed))) for name, items in values.items()]
    return _message(1, b"".join(entries))


def _feature(items: Sequence[Any], packed: bool) -> bytes:
    if items and isinstance(items[0], bytes):
        return _message(1, b"".join(_message(1, item) for item in items))
    if items and isinstance(items[0], float):
        parts = [struct.pack("<f", item) for item in items]
        return _message(2, _message(1, b"".join(parts)) if packed else b"".join(varint(1 << 3 | 5) + part for part in parts))
    parts = [varint(item) for item in items]
    return _message(3, _message(1, b"".join(parts)) if packed else b"".join(varint(1 << 3) + part for part in parts))


def _message(number: int, payload: bytes) -> bytes:
    """A field of protobuf's wire type 2."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; negative numbers as 64-bit two's complement."""
    value &= 2**64 - 1
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])
