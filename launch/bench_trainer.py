"""`handsight bench trainer`: what a step costs in `handsight train` (LeRobot's trainer) beside a bare loop, on the same data and policy.

Claim to check: the trainer adds at most 10%. Both run in turns in one process; a step is timed from optimiser step to optimiser step.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from handsight.launch import collect, train
from handsight.launch.arguments import parse
from handsight.launch.bare_loop import BareLoop
from handsight.launch.rollout import versions
from handsight.sensors.errors import HandsightError

RESULT: Final = Path("launch/results/trainer.json")
CLAIM: Final = 1.10


@dataclass(frozen=True)
class TrainerArguments:
    root: str = ""
    """Folder of the dataset; without it, one is collected into a temporary folder."""

    task: str = "sense/tabletop_grasp"
    """What is collected if there is no --root."""

    episodes: int = 20
    """How many episodes are collected if there is no --root."""

    policy: str = "fuse"
    """Policy type."""

    steps: int = 80
    """Steps of each run."""

    warmup: int = 20
    """Steps at the beginning of each run that do not count."""

    repeats: int = 3
    """How often both are run, in turns."""

    batch_size: int = 64
    """Items a batch."""

    threads: int = 1
    """Threads of torch."""

    out: str = str(RESULT)
    """The JSON file with the result."""

    quick: bool = False
    """One repeat of a few steps."""


@dataclass(frozen=True)
class Cost:
    """Of one step, averaged over a run [s]."""

    cpu: float
    wall: float


def main(argv: list[str]) -> int:
    """Measures and writes the result."""
    arguments = parse(TrainerArguments, argv, "handsight bench trainer", __doc__ or "")
    if arguments.quick:
        arguments = replace(arguments, steps=8, warmup=2, repeats=1, batch_size=8, episodes=4)
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        runs = _measure(arguments if arguments.root else replace(arguments, root=_collect(Path(folder) / "dataset", arguments)))
    result = _result(runs, arguments, argv)
    out = Path(arguments.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    for name in runs:
        print(f"{name:<16} {1e3 * result[name]['cpu']:.1f} ms of CPU, {1e3 * result[name]['wall']:.1f} ms a step")
    print(f"ratio {result['cpu_ratio']:.3f} of CPU, {result['wall_ratio']:.3f} of wall time (claim: at most {CLAIM})\nwritten: {out}")
    return 0


def _collect(root: Path, arguments: TrainerArguments) -> str:
    if collect.main([f"--env.task={arguments.task}", f"--episodes={arguments.episodes}", f"--root={root}"]) != 0:
        raise HandsightError("expected a dataset to train on, got an interrupted collection; see above")
    return str(root)


def _measure(arguments: TrainerArguments) -> dict[str, list[Cost]]:
    """In turns, and every second time in the other order."""
    runs: dict[str, list[Cost]] = {"handsight train": [], "bare loop": []}
    order: list[tuple[str, Callable[[TrainerArguments], None]]] = [("handsight train", through_trainer), ("bare loop", bare_loop)]
    for repeat in range(arguments.repeats):
        for name, loop in order if repeat % 2 == 0 else order[::-1]:
            runs[name].append(_cost(loop, arguments))
    return runs


def _result(runs: dict[str, list[Cost]], arguments: TrainerArguments, argv: list[str]) -> dict[str, Any]:
    pairs = list(zip(runs["handsight train"], runs["bare loop"], strict=True))
    cpu, wall = [ours.cpu / bare.cpu for ours, bare in pairs], [ours.wall / bare.wall for ours, bare in pairs]
    return {
        "command": " ".join(["handsight bench trainer", *argv]),
        "versions": versions(),
        "args": asdict(arguments),
        **{
            name: {part: statistics.median(getattr(cost, part) for cost in costs) for part in ("cpu", "wall")}
            for name, costs in runs.items()
        },
        "cpu_ratio": statistics.median(cpu),
        "cpu_ratio_range": [min(cpu), max(cpu)],
        "wall_ratio": statistics.median(wall),
        "wall_ratio_range": [min(wall), max(wall)],
        "load_average": os.getloadavg()[2],  # of the last 15 minutes: on a busy machine only the CPU times mean something
    }


def _cost(loop: Callable[[TrainerArguments], None], arguments: TrainerArguments) -> Cost:
    """Runs it and takes the time between optimiser steps."""
    stamps: list[tuple[float, float]] = []
    hook = register_optimizer_step_pre_hook(lambda *_: stamps.append((time.process_time(), time.perf_counter())))
    try:
        loop(arguments)
    finally:
        hook.remove()
    (cpu_0, wall_0), (cpu_1, wall_1) = stamps[arguments.warmup], stamps[-1]
    count = len(stamps) - 1 - arguments.warmup
    return Cost((cpu_1 - cpu_0) / count, (wall_1 - wall_0) / count)


def _options(arguments: TrainerArguments) -> list[str]:
    sizes = [f"--steps={arguments.steps}", f"--batch_size={arguments.batch_size}"]
    return [f"--policy.type={arguments.policy}", f"--dataset.root={arguments.root}", *sizes, "--save_checkpoint=false"]


def through_trainer(arguments: TrainerArguments) -> None:
    """`handsight train` as a user calls it, without a checkpoint at the end."""
    with tempfile.TemporaryDirectory() as folder:
        code = train.main([*_options(arguments), f"--output_dir={folder}/run", f"--threads={arguments.threads}"])
    if code != 0:
        raise HandsightError(f"expected `handsight train` to finish, got exit code {code}; see above")


def bare_loop(arguments: TrainerArguments) -> None:
    """The same policy, data and number of steps without the trainer."""
    loop = BareLoop(_options(arguments))
    generator = torch.Generator().manual_seed(0)
    for _ in range(arguments.steps):
        loop.step(loop.batch(torch.randint(len(loop), (arguments.batch_size,), generator=generator).tolist()))
