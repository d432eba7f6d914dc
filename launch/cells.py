"""A cell of a benchmark's table: episodes that are played once and read again when the table is continued."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from handsight.launch.episodes import read_episodes
from handsight.launch.metrics import EpisodeResult
from handsight.launch.rollout import EPISODES, RolloutArguments, rollout


def play_cell(arguments: RolloutArguments, folder: Path) -> tuple[dict[str, Any], list[EpisodeResult]]:
    """Plays what is not finished in `folder`: the rollout's metrics, and the result of each of its seeds in order."""
    metrics = rollout(arguments, folder)
    found = {result.seed: result for result in read_episodes(folder)}
    return metrics, [found[seed] for seed in range(arguments.seed, arguments.seed + (arguments.episodes or EPISODES))]


def each_played[C](play: Callable[[C], dict[str, Any]], cells: Sequence[C], players: int) -> Iterator[dict[str, Any]]:
    """The row of each cell, in their order; with several `players` as many cells at a time, each in a process that simulates and decides.

    A cell whose simulation has a process of its own keeps two cores half as busy: policy and simulator wait for each other. `play` and the
    cells are pickled.
    """
    with tqdm(total=len(cells), unit="cell") as bar:
        for row in map(play, cells) if players < 2 else _in_processes(play, cells, players):
            yield row
            bar.update()


def _in_processes[C](play: Callable[[C], dict[str, Any]], cells: Sequence[C], players: int) -> Iterator[dict[str, Any]]:
    with ProcessPoolExecutor(players, multiprocessing.get_context("spawn")) as pool:
        before = os.environ.pop("TQDM_DISABLE", None)
        os.environ["TQDM_DISABLE"] = "1"  # bars of several processes would write over each other
        rows = pool.map(play, cells)  # starts the processes
        del os.environ["TQDM_DISABLE"]
        if before is not None:
            os.environ["TQDM_DISABLE"] = before
        yield from rows


def slug(name: str) -> str:
    """A name as a folder's: letters and digits stay."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def bits(outcomes: Iterable[bool]) -> str:
    """One 0 or 1 an episode, as result files keep them."""
    return "".join(str(int(outcome)) for outcome in outcomes)
