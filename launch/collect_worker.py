"""What a worker process of `handsight collect` does. Imports neither torch nor LeRobot: a worker is up in about a second."""

import importlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Final

from handsight.datasets_rb import journal
from handsight.datasets_rb.journal import Episode
from handsight.datasets_rb.schema import RecordingSpec
from handsight.sensors.realism import Realism

EXPERT: Final = "handsight.launch.collect_worker:ScriptedExpert"


@dataclass(frozen=True)
class Attempt:
    """What became of one seed; the episode itself is in the journal."""

    seed: int
    success: bool
    length: int


class ScriptedExpert:
    """The default source of episodes: one environment, kept for the life of the worker."""

    def __init__(self, spec: RecordingSpec) -> None:
        from handsight.envs.env import make
        from handsight.envs.randomize import Ranges
        from handsight.envs.rollout import expert_episode
        from handsight.envs.splits import Split

        ranges, realism = Ranges(split=Split.parse(spec.split)), Realism.parse(spec.realism)
        self._env = make(spec.task, image_size=spec.image_size, sensors=spec.sensors, ranges=ranges, realism=realism, prompt=spec.prompt)
        self._run: Callable[..., Episode] = expert_episode
        self._noise = spec.noise

    def __call__(self, seed: int) -> Episode:
        return self._run(self._env, seed, noise=self._noise)


class _Worker:
    """The module global of a worker process."""

    spec: RecordingSpec
    folder: Path
    maker: str
    source: Callable[[int], Episode] | None = None


def start(spec: RecordingSpec, folder: Path, source: str) -> None:
    """Initialises a worker process, which ends with its parent. `source` is `module:class`, called with `spec`."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _Worker.spec, _Worker.folder, _Worker.maker = spec, folder, source


def attempt(seed: int) -> Attempt:
    """Runs the expert on one seed and commits the outcome to the journal."""
    if _Worker.source is None:  # not in `start`: what an initialiser raises does not reach the parent
        module, _, name = _Worker.maker.partition(":")
        _Worker.source = getattr(importlib.import_module(module), name)(_Worker.spec)
    episode: Episode = _Worker.source(seed)
    if episode.success:
        journal.write(_Worker.folder, journal.pack(_Worker.spec, episode))
    else:
        journal.write_failure(_Worker.folder, seed)
    return Attempt(seed, episode.success, len(episode.actions))


def _end_with_parent() -> None:
    """A worker of a killed parent would wait for work for ever, or write into a journal that has gone on without it."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
