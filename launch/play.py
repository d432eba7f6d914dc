"""Plays seeded episodes in a pool of environments and yields each as it finishes."""

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handsight.envs.pool import EnvPool, Transition
from handsight.launch.actors import Actor, Cast
from handsight.launch.film import FilmWriter
from handsight.launch.metrics import EpisodeResult
from handsight.launch.narrate import Narrator
from handsight.sensors.errors import HandsightError


@dataclass(frozen=True)
class Filming:
    """Which episodes are filmed and where to; file names are relative to the parent of `folder`."""

    folder: Path
    seeds: frozenset[int]

    def path(self, seed: int) -> Path:
        return self.folder / f"seed_{seed}.mp4"


class _Episode:
    """The running episode of one slot."""

    def __init__(self, seed: int, actor: Actor, film: FilmWriter | None) -> None:
        self.seed = seed
        self.steps = 0
        self.reached = False
        self._actor = actor
        self.film = film
        actor.reset(seed)

    def see(self, transition: Transition) -> None:
        self.reached = self.reached or transition.reached
        if self.film is not None:
            self.film.add(transition)

    @property
    def looks(self) -> bool:
        """Whether the next observation must have pictures."""
        return self._actor.looks or self.film is not None

    def act(self, transition: Transition) -> NDArray[np.float32]:
        """Raises HandsightError when the policy answers with NaN or infinity."""
        action = self._actor.act(transition)
        if not np.isfinite(action).all():
            raise HandsightError(
                f"expected finite actions, got {action.tolist()} in the episode with seed {self.seed} at step {self.steps}; "
                "the weights or the normalisation statistics are damaged: check the training loss, use an earlier checkpoint, "
                "or, played by ONNX Runtime, export it again"
            )
        self.steps += 1
        return action

    def result(self, last: Transition) -> EpisodeResult:
        if self.film is not None:
            self.film.finish()
        video = f"{self.film.path.parent.name}/{self.film.path.name}" if self.film is not None else None
        reached = self.reached or last.success
        said = self._actor.lines if isinstance(self._actor, Narrator) else []
        return EpisodeResult(self.seed, last.task, last.success, reached, last.wrong_object, self.steps, video, said, last.stage)

    @property
    def command(self) -> str:
        """What the actor wants as its instruction from now on; empty if it has said nothing."""
        return self._actor.command if isinstance(self._actor, Narrator) else ""


def _discard_films(running: Mapping[int, _Episode]) -> None:
    for episode in running.values():
        if episode.film is not None:
            episode.film.discard()


def play(
    pool: EnvPool, cast: Cast, seeds: Sequence[int], filming: Filming, on_step: Callable[[], None] = lambda: None
) -> Generator[EpisodeResult]:
    """Yields the result of every seed, in the order in which they finish; a slot takes the next seed at once.

    A result depends on its seed alone: every slot has its own environment, actor and random numbers.
    """
    waiting = deque(seeds)
    actors = [cast.make(pool.attributes) for _ in range(min(pool.slots, len(waiting)))]
    running: dict[int, _Episode] = {}

    def start(slot: int) -> None:
        seed = waiting.popleft()
        film = FilmWriter(filming.path(seed), pool.attributes) if seed in filming.seeds else None
        running[slot] = _Episode(seed, actors[slot], film)
        pool.reset(slot, seed, frames=film is not None, expert=cast.needs_expert)

    with ExitStack() as stack:
        stack.callback(_discard_films, running)
        for slot in range(len(actors)):
            start(slot)
        while running:
            for transition in pool.receive():
                slot, episode = transition.slot, running[transition.slot]
                episode.see(transition)
                if transition.terminated or transition.truncated:
                    result = episode.result(transition)
                    del running[slot]
                    if waiting:
                        start(slot)
                    yield result
                else:
                    pool.step(slot, episode.act(transition), episode.command, look=episode.looks)
                    on_step()
