"""A cell of a benchmark's table: episodes that are played once and read again when the table is continued."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from handsight.launch.episodes import read_episodes
from handsight.launch.metrics import EpisodeResult
from handsight.launch.rollout import EPISODES, RolloutArguments, rollout


def play_cell(arguments: RolloutArguments, folder: Path) -> tuple[dict[str, Any], list[EpisodeResult]]:
    """Plays what is not finished in `folder`: the rollout's metrics, and the result of each of its seeds in order."""
    metrics = rollout(arguments, folder)
    found = {result.seed: result for result in read_episodes(folder)}
    return metrics, [found[seed] for seed in range(arguments.seed, arguments.seed + (arguments.episodes or EPISODES))]


def slug(name: str) -> str:
    """A name as a folder's: letters and digits stay."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def bits(outcomes: Iterable[bool]) -> str:
    """One 0 or 1 an episode, as result files keep them."""
    return "".join(str(int(outcome)) for outcome in outcomes)
