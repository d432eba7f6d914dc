"""A drop-in for LeRobotDataset in training: the same items, read from memory-mapped arrays instead of being decoded each time.

B indices asked for at once, T frames of a window, N frames of the dataset.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata
from lerobot.datasets.feature_utils import check_delta_timestamps, get_delta_indices
from numpy.typing import NDArray

from handsight.datasets_rb.decode import FOLDER, decoded
from handsight.datasets_rb.encounters import encounters
from handsight.datasets_rb.integrity import require_whole
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import GROUNDING

Item = dict[str, Any]


class CachedDataset(torch.utils.data.Dataset[Item]):
    """Returns LeRobotDataset's items (0.6.1, video backend pyav), bit for bit, 10 to 100 times faster.

    The first time a dataset is opened it is decoded into `root/.cache_handsight`, which takes about 100 kB a frame (two 128 px cameras);
    a change to any of the dataset's files makes that happen again.

    Args:
        repo_id: LeRobot's name for the dataset; nothing is downloaded.
        root: its folder.
        episodes: which episodes to use; all if None.
        delta_timestamps: key -> offsets [s] of the frames that an item holds of that key; keys that are not here come as one frame.
        image_transforms: applied to each item's images, in LeRobot's order, so with the same random numbers.
        tolerance_s: how far `delta_timestamps` may be from multiples of 1/fps [s].
        return_uint8: video frames as uint8 instead of float32 in [0, 1]; the trainer asks for it.
        uint8_images: the same for PNG columns, which LeRobot always returns as float32. The trainer divides uint8 images by 255, which
            gives the same values; ignored if there are image_transforms, which must see what they would see in LeRobot.
        cache: another folder for the decoded arrays.
        image_pool: images are kept as averages over squares of so many pixels, rounded to uint8: a factor 2 takes a quarter of the space.

    Raises:
        HandsightError: the dataset is not whole, or holds something else than numbers and RGB images.
    """

    def __init__(
        self,
        repo_id: str,
        root: str | Path,
        episodes: list[int] | None = None,
        delta_timestamps: dict[str, list[float]] | None = None,
        image_transforms: Callable[[torch.Tensor], torch.Tensor] | None = None,
        tolerance_s: float = 1e-4,
        return_uint8: bool = True,
        uint8_images: bool = False,
        cache: str | Path | None = None,
        image_pool: int = 1,
    ) -> None:
        super().__init__()
        self.repo_id, self.root, self.episodes = repo_id, Path(root), episodes
        self.delta_timestamps, self.image_transforms = delta_timestamps, image_transforms
        require_whole(self.root)
        self.meta = LeRobotDatasetMetadata(repo_id, root=self.root)
        self._return_uint8, self._uint8_images = return_uint8, uint8_images
        self._offsets: dict[str, NDArray[np.int64]] = {}
        if delta_timestamps is not None:
            check_delta_timestamps(delta_timestamps, self.meta.fps, tolerance_s)
            self._offsets = {key: np.array(value) for key, value in get_delta_indices(delta_timestamps, self.meta.fps).items()}
        self._folder = decoded(self.meta, self.root, Path(cache) if cache else self.root / FOLDER, image_pool)
        self._starts = np.array(self.meta.episodes["dataset_from_index"])
        self._ends = np.array(self.meta.episodes["dataset_to_index"])
        self._tasks = [str(task) for task in self.meta.tasks.index]
        self._keys = [*self.meta.video_keys, *(key for key in self.meta.features if key not in self.meta.video_keys)]
        self._rows = self._selected_rows()

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, index: int | slice) -> Any:
        """One item, or a list of items for a slice."""
        if isinstance(index, slice):
            return self.__getitems__(range(*index.indices(len(self))))
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """The items at B relative indices; one gather per key. This is what a DataLoader calls."""
        positions = np.asarray(indices, np.int64)
        if len(positions) and not (-len(self) <= positions.min() and positions.max() < len(self)):
            raise IndexError(f"expected indices below {len(self)}, got {positions.min()} to {positions.max()}")
        positions = np.where(positions < 0, positions + len(self), positions)
        rows = positions if self._rows is None else self._rows[positions]
        columns = self._gather(rows)
        items = [{key: column[place] for key, column in columns.items()} for place in range(len(rows))]
        for item, task in zip(items, self._arrays["task_index"][rows], strict=True):
            if self.image_transforms is not None:
                for key in self.meta.camera_keys:
                    item[key] = self.image_transforms(item[key])
            item["task"] = self._tasks[task]
        return items

    @property
    def num_frames(self) -> int:
        """Frames of the selected episodes."""
        return int(self.meta.total_frames) if self._rows is None else len(self._rows)

    @property
    def num_episodes(self) -> int:
        """Selected episodes."""
        return int(self.meta.total_episodes) if self.episodes is None else len(self.episodes)

    @property
    def episode_lengths(self) -> NDArray[np.int64]:
        """Frames of each selected episode, in the order in which they follow one another here."""
        lengths: NDArray[np.int64] = self._ends - self._starts
        return lengths if self.episodes is None else lengths[sorted(set(self.episodes))]

    @property
    def features(self) -> dict[str, dict[str, Any]]:
        """LeRobot's feature dictionary."""
        features: dict[str, dict[str, Any]] = self.meta.features
        return features

    @property
    def fps(self) -> int:
        """Frames per second."""
        return int(self.meta.fps)

    @property
    def encounters(self) -> NDArray[np.bool_]:
        """(len,) which of the selected frames are encounters (datasets_rb/encounters.py).

        Raises HandsightError for a dataset without grounding labels.
        """
        if GROUNDING not in self.meta.features:
            raise HandsightError(f"expected {GROUNDING} in {self.root}, got none; record it with `handsight collect`")
        met = encounters(self._arrays[GROUNDING], self._starts)
        return met if self._rows is None else met[self._rows]

    @cached_property
    def absolute_to_relative_idx(self) -> dict[int, int] | None:
        """Frame index in the whole dataset -> index here; None if every episode is used."""
        return None if self._rows is None else {int(row): place for place, row in enumerate(self._rows)}

    @cached_property
    def hf_dataset(self) -> Any:
        """LeRobot's own table, loaded only if somebody asks (the trainer does for `--max_eval_samples`)."""
        return LeRobotDataset(self.repo_id, root=self.root, episodes=self.episodes, video_backend="pyav").hf_dataset

    def set_image_transforms(self, image_transforms: Callable[[torch.Tensor], torch.Tensor] | None) -> None:
        """Replaces the transform of the images."""
        self.image_transforms = image_transforms

    def clear_image_transforms(self) -> None:
        """Removes the transform of the images."""
        self.image_transforms = None

    def __getstate__(self) -> dict[str, Any]:
        """Spawned data workers map the files themselves: pickling a memory map would copy it."""
        return {name: value for name, value in vars(self).items() if name not in ("_arrays", "hf_dataset")}

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        # As plain arrays: indexing np.memmap runs Python code for every result.
        return {key: np.asarray(np.load(self._folder / f"{key}.npy", mmap_mode="r")) for key in self._keys}

    def _selected_rows(self) -> NDArray[np.int64] | None:
        if self.episodes is None:
            return None
        unknown = sorted(set(self.episodes) - set(range(self.meta.total_episodes)))
        if unknown:
            raise HandsightError(f"expected episodes below {self.meta.total_episodes}, got {unknown[0]}; check --dataset.episodes")
        return np.flatnonzero(np.isin(self._arrays["episode_index"], self.episodes))

    def _gather(self, rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """key -> (B, ...) or (B, T, ...), and (B, T) `<key>_is_pad`, as LeRobot's types."""
        episode = self._arrays["episode_index"][rows]
        start, end = self._starts[episode][:, None], self._ends[episode][:, None]
        columns = {key: self._window(key, rows, start, end) if key in self._offsets else self._tensor(key, rows) for key in self._keys}
        for key, offsets in self._offsets.items():
            wanted = rows[:, None] + offsets  # (B, T)
            columns[f"{key}_is_pad"] = torch.from_numpy((wanted < start) | (wanted >= end))
        return columns

    def _window(self, key: str, rows: NDArray[np.int64], start: NDArray[np.int64], end: NDArray[np.int64]) -> torch.Tensor:
        """(B, T, ...): the frames at this key's offsets, those outside the episode replaced by its first or last."""
        value = self._tensor(key, np.clip(rows[:, None] + self._offsets[key], start, end - 1))
        # LeRobot squeezes a window of one video frame, but not one of any other column.
        return value.squeeze(1) if key in self.meta.video_keys else value

    def _tensor(self, key: str, rows: NDArray[np.int64]) -> torch.Tensor:
        value = torch.from_numpy(np.asarray(self._arrays[key][rows]))
        if key in self.meta.camera_keys:
            uint8 = self._return_uint8 if key in self.meta.video_keys else self._uint8_images and self.image_transforms is None
            return value if uint8 else value.to(torch.float32).div_(255)  # in place: half the memory traffic, the same bits
        if value.dtype is torch.bool or value.is_floating_point():
            return value
        return value.to(torch.int64)  # LeRobot returns every integer column as int64
