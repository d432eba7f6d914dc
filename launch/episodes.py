"""The folder that a rollout writes: what was asked (run.json), one line per finished episode (episodes.jsonl), the sum (metrics.json).

Every finished episode is on the disk before the next one starts, so an interrupted rollout continues where it stopped.
"""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from handsight.launch.metrics import EpisodeResult
from handsight.sensors.errors import HandsightError

RUN_FILE = "run.json"
EPISODES_FILE = "episodes.jsonl"
METRICS_FILE = "metrics.json"
VIDEO_FOLDER = "videos"


class ResultFolder:
    """Opens or continues a result folder.

    Args:
        folder: created if missing.
        identity: everything that decides the results (policy, weights, task, seed, ...); a folder made with another one is refused.
        overwrite: throw away what the folder holds of an earlier rollout.

    Raises HandsightError when the folder belongs to another rollout.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], *, overwrite: bool = False) -> None:
        self.folder = folder
        if overwrite:
            self._clear()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / VIDEO_FOLDER).mkdir(exist_ok=True)
        self._claim(json.loads(json.dumps(identity)))
        self.finished: dict[int, EpisodeResult] = {result.seed: result for result in read_episodes(folder)}
        self._rewrite_whole_lines()

    def add(self, result: EpisodeResult) -> None:
        """Append one finished episode and force it to the disk."""
        with (self.folder / EPISODES_FILE).open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.finished[result.seed] = result

    def _claim(self, identity: dict[str, Any]) -> None:
        path = self.folder / RUN_FILE
        if not path.exists():
            write_json(path, identity)
            return
        previous = read_json(path)
        different = sorted(key for key in identity.keys() | previous.keys() if identity.get(key) != previous.get(key))
        if different:
            changes = "; ".join(f"{key}: {previous.get(key)} -> {identity.get(key)}" for key in different)
            raise HandsightError(
                f"expected {self.folder} to hold the same rollout, got other arguments ({changes}); choose another --out or add --overwrite"
            )

    def _clear(self) -> None:
        """Only what a rollout writes; a folder of the user's may hold more."""
        for name in (RUN_FILE, EPISODES_FILE, METRICS_FILE, "report.html"):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / VIDEO_FOLDER, ignore_errors=True)

    def _rewrite_whole_lines(self) -> None:
        """A crash may have left half a line at the end; appending to it would spoil the next one as well."""
        path = self.folder / EPISODES_FILE
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            write_text(path, "".join(json.dumps(asdict(result)) + "\n" for result in self.finished.values()))


def read_episodes(folder: Path) -> list[EpisodeResult]:
    """The finished episodes of a result folder, by seed; half a line at the end is left out.

    Raises HandsightError when a line in the middle is damaged.
    """
    path = folder / EPISODES_FILE
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    results: dict[int, EpisodeResult] = {}
    for number, line in enumerate(lines, 1):
        try:
            result = EpisodeResult(**json.loads(line))
        except (ValueError, TypeError) as error:
            if number == len(lines):
                break
            got = f"{line[:60]!r} in line {number}"
            raise HandsightError(f"expected one episode per line in {path}, got {got}; remove that line") from error
        results[result.seed] = result
    return by_seed(results.values())


def by_seed(results: Iterable[EpisodeResult]) -> list[EpisodeResult]:
    """Sorted by seed, whatever order they finished in."""
    return sorted(results, key=lambda result: result.seed)


def read_json(path: Path) -> dict[str, Any]:
    """Raises HandsightError when the file is missing or not JSON."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise HandsightError(f"expected {path.name} in {path.parent}, got none; give a folder that `handsight rollout` wrote") from error
    except ValueError as error:
        raise HandsightError(f"expected JSON in {path}, got {error}; run the rollout again with --overwrite") from error
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replaces the file in one step."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replaces the file in one step: a reader, or a crash, sees the old or the new text, never half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)
