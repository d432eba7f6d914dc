"""TFRecord files, without TensorFlow: a sequence of byte strings, each with its length and checksums.

    uint64 length | uint32 masked crc(length) | data | uint32 masked crc(data)        little-endian

The checksum is CRC-32C, masked (rotated right by 15 bits, plus a constant) because CRCs of data that holds CRCs are weak. Layout as in
tensorflow/core/lib/io/record_writer.h and tensorflow.org/tutorials/load_data/tfrecord.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from handsight.sensors.errors import HandsightError

try:
    import google_crc32c
except ModuleNotFoundError as error:
    raise HandsightError(
        "expected google-crc32c, which TFRecord files are checked with, got none; run: pip install 'lerobot_policy_handsight[convert]'"
    ) from error

_HEADER: Final = struct.Struct("<QI")
_FOOTER: Final = struct.Struct("<I")
_MASK: Final = 0xA282EAD8


def read_records(path: Path) -> Iterator[bytes]:
    """The records of one file, in order.

    Raises:
        HandsightError: the file ends inside a record, or a checksum is wrong.
    """
    with path.open("rb") as file:
        number = 0
        while header := file.read(_HEADER.size):
            if len(header) < _HEADER.size:
                raise _truncated(path, number)
            length, length_crc = _HEADER.unpack(header)
            if masked_crc(header[:8]) != length_crc:
                raise _damaged(path, number)
            data = _read(file, length, path, number)
            (data_crc,) = _FOOTER.unpack(_read(file, _FOOTER.size, path, number))
            if masked_crc(data) != data_crc:
                raise _damaged(path, number)
            yield data
            number += 1


def masked_crc(data: bytes) -> int:
    """The 32 bits that follow `data` in a file."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def _read(file: BinaryIO, length: int, path: Path, number: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise _truncated(path, number)
    return data


def _truncated(path: Path, number: int) -> HandsightError:
    return HandsightError(f"expected a whole TFRecord file, got {path}, which ends inside record {number}; download it again")


def _damaged(path: Path, number: int) -> HandsightError:
    return HandsightError(f"expected the checksum of record {number} of {path} to be right, got another; download the file again")
