"""Several recordings read as one: the concatenation of cached datasets, drawn from with a share for each.

P parts (recordings), E episodes, B indices asked for at once.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped] # has no annotations
import torch
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.datasets.compute_stats import aggregate_stats
from numpy.typing import NDArray

from handsight.datasets_rb.cache import CachedDataset, Item
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import LABEL_PREFIX


class MixedDataset(torch.utils.data.Dataset[Item]):
    """The parts one after another: items are the parts' own, but for `index`, `episode_index` and `task_index`, which are the mixture's.

    Label columns that not every part has are left out. What the trainer reads of a dataset (`meta` with the features, the instructions and
    the statistics of all parts, `num_frames`, ...) is that of the concatenation.

    Args:
        parts: datasets with the same columns, read with the same options.
        shares: how often each part is drawn by `MixedSampler`, relative to the others; equally often by default.

    Raises:
        HandsightError: parts that differ in frame rate or in a column that is no label.
    """

    episodes: None = None  # every one: parts choose theirs, and `meta.episodes` lists only those
    absolute_to_relative_idx: None = None

    def __init__(self, parts: Sequence[CachedDataset], shares: Sequence[float] | None = None) -> None:
        super().__init__()
        self.parts = tuple(parts)
        weights = np.ones(len(parts)) if shares is None else np.asarray(shares, float)
        self.shares: NDArray[np.float64] = weights / weights.sum()
        """(P,) summing to 1."""
        self._features = _common_features(self.parts)
        self._ends = np.cumsum([len(part) for part in self.parts])
        self.meta = self._metadata()
        frames, episodes = ([getattr(part.meta, total) for part in parts] for total in ("total_frames", "total_episodes"))
        self._shifts = [
            {"index": frame, "episode_index": episode} for frame, episode in zip(_before(frames), _before(episodes), strict=True)
        ]
        self._tasks = {str(task): place for place, task in enumerate(self.meta.tasks.index)}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """The items at B indices; one gather per key and part. This is what a DataLoader calls."""
        positions = np.asarray(indices, np.int64)
        if len(positions) and not (-len(self) <= positions.min() and positions.max() < len(self)):
            raise IndexError(f"expected indices below {len(self)}, got {positions.min()} to {positions.max()}")
        positions = np.where(positions < 0, positions + len(self), positions)
        owner = np.searchsorted(self._ends, positions, side="right")  # (B,)
        items: list[Item] = [{}] * len(positions)
        for place in np.unique(owner):
            chosen = np.flatnonzero(owner == place)
            part = self.parts[place]
            found = part.__getitems__((positions[chosen] - (self._ends[place] - len(part))).tolist())
            for position, item in zip(chosen, found, strict=True):
                items[position] = self._adopt(item, self._shifts[place])
        return items

    def _adopt(self, item: Item, shift: Mapping[str, int]) -> Item:
        adopted = {key: value for key, value in item.items() if key.removesuffix("_is_pad") in self._features or key == "task"}
        adopted |= {key: item[key] + before for key, before in shift.items()}
        adopted["task_index"] = torch.tensor(self._tasks[item["task"]])
        return adopted

    @property
    def num_frames(self) -> int:
        """Frames of all parts."""
        return len(self)

    @property
    def num_episodes(self) -> int:
        """Episodes of all parts."""
        return sum(part.num_episodes for part in self.parts)

    @property
    def features(self) -> dict[str, dict[str, Any]]:
        """LeRobot's feature dictionary."""
        return self._features

    @property
    def fps(self) -> int:
        """Frames per second."""
        return self.parts[0].fps

    @property
    def part_of_episode(self) -> NDArray[np.int64]:
        """(E,) which part each episode of `meta.episodes` belongs to."""
        return np.repeat(np.arange(len(self.parts)), [part.num_episodes for part in self.parts])

    def _metadata(self) -> LeRobotDatasetMetadata:
        """The first part's, with what differs replaced in memory."""
        meta = copy.copy(self.parts[0].meta)
        tasks = list(dict.fromkeys(str(task) for part in self.parts for task in part.meta.tasks.index))
        totals = {f"total_{name}": sum(getattr(part.meta, f"total_{name}") for part in self.parts) for name in ("frames", "episodes")}
        meta.info = replace(meta.info, features=self._features, total_tasks=len(tasks), **totals)
        meta.tasks = pd.DataFrame({"task_index": range(len(tasks))}, index=pd.Index(tasks, name="task"))
        meta.stats = aggregate_stats([{key: part.meta.stats[key] for key in self._features} for part in self.parts])
        ends = np.cumsum(np.concatenate([part.episode_lengths for part in self.parts]))
        meta.episodes = {"dataset_from_index": np.array([0, *ends[:-1]]), "dataset_to_index": ends}
        return meta


def _before(counts: Sequence[int]) -> list[int]:
    """How many come before each part."""
    return [0, *np.cumsum(counts)[:-1].tolist()]


def _common_features(parts: Sequence[CachedDataset]) -> dict[str, dict[str, Any]]:
    """The columns that all parts have; only labels may be missing in some."""
    first = parts[0]
    common = {key: feature for key, feature in first.features.items() if all(key in part.features for part in parts)}
    for part in parts[1:]:
        if part.fps != first.fps:
            raise HandsightError(f"expected recordings of one frame rate, got {first.fps} Hz in {first.root} and {part.fps} in {part.root}")
        for key in {**first.features, **part.features}:
            kinds = [_kind(dataset.features.get(key)) for dataset in (first, part)]
            if kinds[0] != kinds[1] and (key in common or not key.startswith(LABEL_PREFIX)):
                raise HandsightError(
                    f"expected recordings with the same columns, got {key} as {kinds[0]} in {first.root} and {kinds[1]} in {part.root}; "
                    "record them with the same options"
                )
    return common


def _kind(feature: Mapping[str, Any] | None) -> str:
    return "nothing" if feature is None else f"{feature['dtype']} {tuple(feature['shape'])}"
