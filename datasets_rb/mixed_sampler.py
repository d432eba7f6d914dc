"""Draws frames of a mixture so that every recording has its share, in an order that a resumed run continues exactly."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from handsight.datasets_rb.mix import MixedDataset
from handsight.sensors.errors import HandsightError


class MixedSampler:
    """In place of LeRobot's EpisodeAwareSampler, with its methods and its meaning of `drop_n_last_frames`.

    An epoch has as many draws as the mixture has frames to draw; of these every part has its share, rounded to whole draws. A part's draws
    are permutations of its frames, so that within an epoch all of them are drawn equally often, give or take one; encounters
    (datasets_rb/encounters.py) `encounter_weight` times as often. All draws are then shuffled. The order is a function of (seed, epoch).

    Args:
        dataset: the mixture; its `shares` are the targets.
        drop_n_last_frames: how many frames at the end of each episode are never drawn.
        seed: of the order.
        encounter_weight: how often frames are drawn in which touch or sound has just begun to say something, relative to others.

    Raises:
        HandsightError: a part without a frame to draw, or without grounding labels if encounters have another weight.
    """

    def __init__(
        self,
        dataset: MixedDataset,
        *,
        drop_n_last_frames: int = 0,
        seed: int = 0,
        encounter_weight: int = 1,
    ) -> None:
        episodes = dataset.meta.episodes
        bounds = zip(episodes["dataset_from_index"], episodes["dataset_to_index"], strict=True)
        frames = [np.arange(start, end - drop_n_last_frames) for start, end in bounds]
        owner = dataset.part_of_episode
        self._frames = [np.concatenate([frames[i] for i in np.flatnonzero(owner == place)]) for place in range(len(dataset.parts))]
        empty = [part.root for part, mine in zip(dataset.parts, self._frames, strict=True) if not len(mine)]
        if empty:
            raise HandsightError(f"expected frames to draw in every recording, got none in {empty[0]}; leave it out")
        if encounter_weight != 1:
            met = np.concatenate([part.encounters for part in dataset.parts])
            self._frames = [np.repeat(mine, np.where(met[mine], encounter_weight, 1)) for mine in self._frames]
        self._counts = apportion(dataset.shares, sum(map(len, self._frames)))
        self._seed = seed
        self._epoch = self._start = 0

    def __len__(self) -> int:
        return int(self._counts.sum())

    def __iter__(self) -> Iterator[int]:
        """The rest of this epoch; the next call begins the next one, even before this one is consumed."""
        order = self._order(self._epoch)[self._start :]
        self._epoch, self._start = self._epoch + 1, 0
        return iter(order.tolist())

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration begins."""
        self._epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """Where the next iteration begins."""
        return {"epoch": self._epoch, "start_index": self._start}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues there."""
        self._epoch, self._start = state["epoch"], state["start_index"]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self._seed, epoch])
        return rng.permutation(np.concatenate([_draws(mine, count, rng) for mine, count in zip(self._frames, self._counts, strict=True)]))


def _draws(frames: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`count` of the frames, each as often as any other, give or take one."""
    whole, rest = divmod(count, len(frames))
    return np.concatenate([np.tile(frames, whole), rng.permutation(frames)[:rest]])


def apportion(shares: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Whole numbers that sum to `total`, each within one of `shares` x total: the largest remainders are rounded up (Hamilton's method)."""
    exact = shares * total
    counts = np.floor(exact).astype(np.int64)
    up = np.argsort(counts - exact, kind="stable")[: total - counts.sum()]
    counts[up] += 1
    return counts
