"""Episodes of an RLDS dataset as TensorFlow Datasets writes it, without TensorFlow.

    DIR/features.json       what an episode holds, as a tree of features
    DIR/dataset_info.json   splits and, for each shard, how many episodes it holds
    DIR/NAME-SPLIT.tfrecord-00000-of-01024 ...   an episode is one tf.train.Example

(Ramos et al. 2021, "RLDS: an ecosystem to generate, share and use datasets in reinforcement learning").
"""

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from handsight.datasets_rb.tf_example import Values, parse_example
from handsight.datasets_rb.tfds_features import Decoded, Field, read_features, read_json
from handsight.datasets_rb.tfrecord import read_records
from handsight.sensors.errors import HandsightError

_SHARD: Final = re.compile(r"(?P<name>.+)-(?P<split>[^-]+)\.tfrecord-(?P<number>\d{5})-of-(?P<count>\d{5})")
_RAGGED: Final = re.compile(r"/ragged_(flat_values|row_lengths_\d+)$")


@dataclass(frozen=True)
class Shard:
    """One file of a split."""

    path: Path
    first: int | None
    """Number of its first episode in the split, where dataset_info.json tells."""
    length: int | None
    """How many episodes it holds, where dataset_info.json tells."""


@dataclass(frozen=True)
class Source:
    """One split on disk."""

    name: str
    """`digit_dataset 1.0.0 train`."""
    fields: dict[str, Field]
    unreadable: dict[str, str]
    """Features that this reader does not decode, and why."""
    shards: tuple[Shard, ...]

    @property
    def episodes(self) -> int | None:
        """In the shards at hand, where dataset_info.json tells."""
        lengths = [shard.length for shard in self.shards if shard.length is not None]
        return sum(lengths) if len(lengths) == len(self.shards) else None

    def read(self, skip: set[int], keep: set[str]) -> Iterator[tuple[int, dict[str, Decoded]]]:
        """(number in the split, the fields named in `keep`) of every episode whose number is not in `skip`.

        Raises:
            HandsightError: a damaged file, or one that does not hold what features.json and dataset_info.json say.
        """
        first = 0
        for shard in self.shards:
            first = first if shard.first is None else shard.first
            if shard.length is not None and skip.issuperset(range(first, first + shard.length)):
                continue
            count = 0
            for record in read_records(shard.path):
                if first + count not in skip:
                    yield first + count, self._decode(parse_example(record), keep, f"episode {count} of {shard.path}")
                count += 1
            if shard.length not in (None, count):
                raise HandsightError(f"expected {shard.length} episodes in {shard.path}, got {count}; download it again")
            first += count

    def _decode(self, example: Mapping[str, Values], keep: set[str], where: str) -> dict[str, Decoded]:
        for name in example:
            if _RAGGED.sub("", name) not in self.fields.keys() | self.unreadable.keys():
                raise HandsightError(f"expected only what features.json names, got {name!r} in {where}; the files are of two datasets")
        decoded = {}
        for name in sorted(keep):
            if name not in example:
                raise HandsightError(f"expected {name!r}, which features.json names, got none in {where}; leave it out with --skip")
            try:
                decoded[name] = self.fields[name].decode(example[name])
            except (ValueError, zlib.error) as error:
                raise HandsightError(f"expected {name!r} as features.json declares it, got {error} in {where}") from error
        lengths = {name: len(values) for name, values in decoded.items() if self.fields[name].per_step}
        if len(set(lengths.values())) > 1:
            raise HandsightError(f"expected as many values of every field of a step, got {lengths} in {where}")
        return decoded


def open_source(folder: Path, split: str, partial: bool = False) -> Source:
    """The split of the dataset in `folder` (where features.json is); with `partial`, of the shards that are there.

    Raises:
        HandsightError: no features.json, no such split, shards missing.
    """
    fields, unreadable = read_features(_existing(folder, "features.json"))
    info = read_json(_existing(folder, "dataset_info.json"))
    return Source(
        name=f"{info.get('name', 'dataset')} {info.get('version', '')} {split}",
        fields=fields,
        unreadable=unreadable,
        shards=_shards(folder, split, info, partial),
    )


def _shards(folder: Path, split: str, info: Mapping[str, Any], partial: bool) -> tuple[Shard, ...]:
    found = {path: match for path in sorted(folder.iterdir()) if (match := _SHARD.fullmatch(path.name))}
    paths = {int(match["number"]): path for path, match in found.items() if match["split"] == split}
    if not paths:
        splits = ", ".join(sorted({match["split"] for match in found.values()})) or "no *.tfrecord-* files at all"
        raise HandsightError(f"expected files of split {split!r} in {folder}, got {splits}; choose another --split or --source")
    count = max(int(match["count"]) for path, match in found.items() if match["split"] == split)
    missing = sorted(set(range(count)) - set(paths))
    if missing and not partial:
        raise HandsightError(
            f"expected {count} files of split {split!r} in {folder}, got {len(paths)} (no number {missing[0]}); download the rest, "
            "or convert what is there with --partial"
        )
    lengths = _lengths(info, split, count)
    starts = None if lengths is None else np.concatenate([[0], np.cumsum(lengths)])
    if missing and starts is None:
        raise HandsightError(f"expected shardLengths of {split!r} in dataset_info.json, got none; without them --partial cannot count")
    return tuple(
        Shard(path, None, None) if lengths is None or starts is None else Shard(path, int(starts[number]), lengths[number])
        for number, path in sorted(paths.items())
    )


def _lengths(info: Mapping[str, Any], split: str, count: int) -> list[int] | None:
    """Episodes of each shard, if dataset_info.json tells."""
    entries = [entry for entry in info.get("splits", []) if entry.get("name") == split]
    lengths = [int(length) for length in entries[0].get("shardLengths", [])] if entries else []
    return lengths if len(lengths) == count else None


def _existing(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise HandsightError(f"expected --source to be a folder with {name}, got {folder}, which is none")
    if not (folder / name).exists():
        below = sorted(str(path.parent) for path in folder.glob(f"**/{name}"))
        advice = f"did you mean --source={below[0]}?" if below else f"download {name}, which lies beside the *.tfrecord-* files"
        raise HandsightError(f"expected {name} in {folder}, got none; {advice}")
    return folder / name
