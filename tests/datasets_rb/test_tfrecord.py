"""TFRecord framing and tf.train.Example against a writer of the test's own (tests/fakes/fake_rlds.py)."""

from pathlib import Path

import numpy as np
import pytest
from fake_rlds import crc32c, example, framed
from hypothesis import given, settings
from hypothesis import strategies as st

from handsight.datasets_rb.tf_example import parse_example
from handsight.datasets_rb.tfrecord import masked_crc, read_records
from handsight.sensors.errors import HandsightError

RECORDS = [b"", b"a", bytes(range(256)) * 3]

floats = st.lists(st.floats(width=32, allow_nan=False), min_size=1)
integers = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1)
texts = st.lists(st.binary(max_size=8), min_size=1)


def test_the_writer_of_the_test_computes_the_published_checksums() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


@given(st.binary(max_size=64))
def test_checksums_agree(data: bytes) -> None:
    assert masked_crc(data) == int.from_bytes(framed(data)[-4:], "little")


def test_records_come_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"".join(map(framed, RECORDS)))
    assert list(read_records(path)) == RECORDS


def test_a_file_without_records_has_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert list(read_records(tmp_path / "file")) == []


@pytest.mark.parametrize("position", range(0, 12 + 40 + 4, 5))
def test_any_changed_byte_is_found(tmp_path: Path, position: int) -> None:
    content = bytearray(framed(bytes(40)))
    content[position] ^= 16
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(HandsightError, match=r"checksum of record 0|ends inside record 0"):
        list(read_records(tmp_path / "file"))


@pytest.mark.parametrize("length", range(1, 12 + 40 + 4, 5))
def test_any_truncation_is_found(tmp_path: Path, length: int) -> None:
    (tmp_path / "file").write_bytes(framed(b"first") + framed(bytes(40))[:length])
    read = read_records(tmp_path / "file")
    assert next(read) == b"first"
    with pytest.raises(HandsightError, match="ends inside record 1; download it again"):
        next(read)


@pytest.mark.parametrize("packed", [True, False])
@given(st.dictionaries(st.text(max_size=8), st.one_of(floats, integers, texts), max_size=4))
@settings(max_examples=30)
def test_examples_come_back(packed: bool, values: dict[str, list[float] | list[int] | list[bytes]]) -> None:
    read = parse_example(example(values, packed))
    assert read.keys() == values.keys()
    for name, items in values.items():
        if isinstance(items[0], bytes):
            assert read[name] == items
        else:
            np.testing.assert_array_equal(read[name], np.array(items, np.float32 if isinstance(items[0], float) else np.int64))


def test_an_empty_list_is_an_empty_array() -> None:
    assert len(parse_example(example({"none": []}))["none"]) == 0


def test_what_is_no_example_is_refused() -> None:
    with pytest.raises(HandsightError, match=r"expected a tf\.train\.Example"):
        parse_example(b"\xff\xff\xff")
