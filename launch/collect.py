"""`handsight collect`: the scripted expert's successful episodes as a LeRobotDataset v3."""

import shlex
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

from tqdm import tqdm

from handsight.datasets_rb.record import Recorder
from handsight.datasets_rb.schema import RecordingSpec
from handsight.envs.env import task_class
from handsight.envs.splits import Split
from handsight.envs.workers import quiet_context
from handsight.launch import collect_worker
from handsight.launch.arguments import parse
from handsight.launch.collect_worker import EXPERT, Attempt
from handsight.launch.gl import require_gl
from handsight.sensors.errors import HandsightError

HOPELESS: Final = 30
"""Consecutive failures of the expert after which collecting stops."""


@dataclass(frozen=True)
class EnvArguments:
    """Which environment."""

    task: str = ""
    """FAMILY/NAME of the task, e.g. sense/tabletop_grasp."""
    prompt: str = ""
    """Senses that the instructions speak to, such as V where a task needs VT; its own if empty. The expert knows what they name."""
    split: str = "any"
    """Which scenes are drawn: any, train, new_combination or new_object."""
    realism: str = "ideal"
    """Noise, gains, rates and delays: ideal or robot, and knobs by name, as in robot,touch.noise_kpa=1.0 (see sensors/realism.py)."""


@dataclass(frozen=True)
class CollectArguments:
    """Arguments of `handsight collect`."""

    env: EnvArguments = field(default_factory=EnvArguments)
    episodes: int = 100
    """How many successful episodes the dataset holds in the end; run again with more to extend it."""
    root: str = ""
    """Folder of the dataset, new or to be continued."""
    workers: int = 2
    """Simulation processes; what is recorded does not depend on it."""
    seed: int = 0
    """First episode seed; SEED, SEED + 1, ... are tried in order."""
    image_size: int = 128
    """Height and width of both cameras [pixel]."""
    images: str = "video"
    """`video` (H.264 4:4:4) or `png` (lossless, images take 1.7 times the space)."""
    noise: bool = True
    """Whether to disturb the executed actions, so that recoveries are recorded; the recorded action is always the expert's."""
    grounding: bool = True
    """Whether each frame is labelled with what it touches, hears and sees, which descriptions are made of (sensors/referent.py)."""

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.workers < 1 or self.seed < 0:
            raise HandsightError(
                "expected --episodes and --workers of at least 1 and --seed of at least 0, "
                f"got {self.episodes}, {self.workers} and {self.seed}"
            )


@dataclass(frozen=True)
class Collected:
    """What one call of `collect` did."""

    episodes: int
    """In the dataset now."""
    attempts: int
    """Made by this call."""
    frames: int
    """Recorded by this call."""
    failures: int
    """Seeds the expert failed on, over the whole recording."""
    seconds: float
    """Wall time from the start of the workers to the last episode, without the conversion."""


def main(argv: list[str]) -> int:
    """Parses, collects, says what was written and what to do next."""
    arguments = parse(CollectArguments, argv, "handsight collect", __doc__ or "")
    if not arguments.env.task or not arguments.root:
        raise HandsightError("expected --env.task=FAMILY/NAME and --root=DIR, got no value for one of them; see `handsight collect --help`")
    spec = RecordingSpec(
        task=arguments.env.task,
        image_size=arguments.image_size,
        images=arguments.images,
        seed=arguments.seed,
        noise=arguments.noise,
        split=Split.parse(arguments.env.split),
        realism=arguments.env.realism,
        prompt=arguments.env.prompt,
        affordance=task_class(arguments.env.task).touches,
        grounding=arguments.grounding,
    )
    require_gl()
    collected = collect(arguments.root, spec, arguments.episodes, arguments.workers)
    print(_summary(arguments.root, spec, collected))
    return 0


def collect(root: str | Path, spec: RecordingSpec, episodes: int, workers: int, source: str = EXPERT) -> Collected:
    """Records until `root` holds `episodes` successful episodes, and makes the dataset whole.

    source: `module:class` of what makes an episode of a seed in a worker, called with `spec`. The episodes are the first `episodes`
    successful seeds from spec.seed on, in order of seed, for any number of workers and after any interruption.
    Raises HandsightError (other arguments than before, full disk, an expert that never succeeds) and KeyboardInterrupt with a message;
    in every case finished episodes are kept, and the same call continues.
    """
    with Recorder(root, spec) as recorder:
        outcomes = recorder.outcomes()
        kept = sum(outcomes.values())
        begin = time.perf_counter()
        attempts = []
        if kept < episodes:
            with _pool(recorder, workers, source) as pool, tqdm(total=episodes, initial=kept, unit="episode", desc=spec.task) as bar:
                for attempt in _attempts(pool, outcomes, spec.seed, episodes, workers):
                    attempts.append(attempt)
                    _show(bar, attempt, attempts)
        seconds = time.perf_counter() - begin
        final = recorder.outcomes()
        if recorder.pending():
            print(f"writing {recorder.pending()} episodes as LeRobotDataset v3 ...", flush=True)
    return Collected(
        episodes=sum(final.values()),
        attempts=len(attempts),
        frames=sum(attempt.length for attempt in attempts if attempt.success),
        failures=len(final) - sum(final.values()),
        seconds=seconds,
    )


@contextmanager
def _pool(recorder: Recorder, workers: int, source: str) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that write into the recorder's journal; an interruption lets them finish the episode at hand."""
    arguments = (recorder.spec, recorder.journal, source)
    pool = ProcessPoolExecutor(workers, mp_context=quiet_context(), initializer=collect_worker.start, initargs=arguments)
    try:
        yield pool
    except KeyboardInterrupt:
        pool.shutdown(cancel_futures=True)
        raise KeyboardInterrupt(
            f"interrupted with {sum(recorder.outcomes().values())} episodes kept in {recorder.root}; run the same command to continue"
        ) from None
    except BrokenProcessPool as error:
        raise HandsightError(
            "expected the simulation processes to live, got one that was killed (out of memory?); run the same command to continue"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _attempts(pool: ProcessPoolExecutor, outcomes: Mapping[int, bool], first: int, episodes: int, workers: int) -> Iterator[Attempt]:
    """Tries seeds in order; never more at a time than successes are missing, so that the result does not depend on who finishes first."""
    seeds = (seed for seed in count(first) if seed not in outcomes)
    missing = episodes - sum(outcomes.values())
    pending: set[Future[Attempt]] = set()
    failures = 0
    while missing > 0:
        with _interrupts_held():
            pending |= {pool.submit(collect_worker.attempt, next(seeds)) for _ in range(min(2 * workers, missing) - len(pending))}
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            attempt = future.result()
            failures = 0 if attempt.success else failures + 1
            missing -= attempt.success
            yield attempt
        if failures >= HOPELESS:
            raise HandsightError(f"expected the expert to succeed now and then, got {failures} failures in a row; check the environment")


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C inside is delivered afterwards; workers that are started inside inherit the mask, so it never reaches them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _show(bar: "tqdm[None]", attempt: Attempt, attempts: Sequence[Attempt]) -> None:
    bar.set_postfix(success=f"{sum(a.success for a in attempts) / len(attempts):.0%}", refresh=False)
    bar.update(attempt.success)


def _summary(root: str, spec: RecordingSpec, collected: Collected) -> str:
    total = collected.episodes + collected.failures
    return "\n".join(
        [
            f"{root}: {collected.episodes} episodes of {spec.task}; the expert succeeded on {collected.episodes} of {total} seeds",
            f"this run: {collected.attempts} attempts, {collected.frames} frames in {collected.seconds:.1f} s",
            f"next: handsight train --policy.type=fuse --dataset.root={shlex.quote(root)}",
        ]
    )
