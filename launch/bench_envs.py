"""`handsight bench envs [--quick]`: what a control step of the simulation costs, part by part, and how many steps a second come out.

CPU time of one process for the parts, wall time for one and two workers and for their start. The scripted expert acts, so that there is
contact. Writes launch/results/envs.json and prints the tables in Markdown.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from handsight.envs.env import HandsightEnv, make
from handsight.envs.observe import Camera
from handsight.envs.pool import EnvPool
from handsight.envs.sound import ContactSound
from handsight.envs.touch import TaxelSensor
from handsight.launch.arguments import parse
from handsight.launch.episodes import write_json
from handsight.launch.rollout import versions

RESULT: Final = Path("launch/results/envs.json")
BUDGET_MS: Final = 8.0  # CPU time of a step with two pictures of 128 px
SIZES: Final = (84, 128, 224)


@dataclass(frozen=True)
class EnvsArguments:
    """Arguments of `handsight bench envs`."""

    task: str = "sense/tabletop_grasp"
    """The task that is simulated."""
    episodes: int = 20
    """Expert episodes of each cell."""
    quick: bool = False
    """2 episodes, no result file."""


def main(argv: list[str]) -> int:
    """Measures, prints, writes; 1 if a step with two pictures of 128 px exceeds its budget."""
    arguments = parse(EnvsArguments, argv, "handsight bench envs", __doc__ or "")
    if arguments.quick:
        arguments = replace(arguments, episodes=2)
    parts = {size: cost_of_a_step(arguments, size) for size in SIZES}
    throughput = {
        f"{size} px, {workers} worker{'s' * (workers > 1)}": steps_per_second(arguments, size, workers)
        for size in SIZES
        for workers in (1, 2)
    }
    result = {
        "command": " ".join(["handsight bench envs", *argv]),
        "args": asdict(arguments),
        "cpu_ms_per_step": parts,
        "steps_per_second": throughput,
        "start_of_two_workers_s": start_of_workers(arguments, 2),
        "budget_cpu_ms": BUDGET_MS,
        "versions": versions(),
    }
    print(table(result))
    if not arguments.quick:
        write_json(RESULT, result)
    return 0 if parts[128]["total"] <= BUDGET_MS else 1


def play(env: HandsightEnv, seed: int) -> int:
    """One undisturbed episode of the scripted expert; its steps."""
    observation, _ = env.reset(seed=seed)
    expert, steps, done = env.make_expert(), 0, False
    while not done:
        observation, _, terminated, truncated, _ = env.step(expert.act(observation))
        steps, done = steps + 1, terminated or truncated
    return steps


def cost_of_a_step(arguments: EnvsArguments, size: int) -> dict[str, float]:
    """CPU time [ms] of a control step and of its parts; the rest is everything else, the expert included."""
    env = make(arguments.task, image_size=size)
    play(env, 0)  # compiles shaders, fills caches
    steps, spent = 0, 0.0
    with timed(env) as cost:
        for seed in range(1, arguments.episodes + 1):
            start = time.process_time()
            steps += play(env, seed)
            spent += time.process_time() - start
    env.close()
    parts = {name: seconds / steps * 1e3 for name, seconds in cost.items()}
    return parts | {"rest": spent / steps * 1e3 - sum(parts.values()), "total": spent / steps * 1e3}


@contextmanager
def timed(env: HandsightEnv) -> Iterator[dict[str, float]]:
    """Adds up the CPU time [s] of each part of a step while it is open."""
    cost: dict[str, float] = defaultdict(float)
    measured: tuple[tuple[Any, str, str], ...] = (
        (env.world, "simulate", "physics"),
        (env.arm, "command", "IK"),
        (Camera, "picture", "render"),
        (TaxelSensor, "read", "touch"),
        (ContactSound, "step", "audio"),
    )
    original = [(owner, method, vars(owner).get(method)) for owner, method, _ in measured]
    for owner, method, part in measured:
        setattr(owner, method, _timing(getattr(owner, method), part, cost))
    try:
        yield cost
    finally:
        for owner, method, function in original:
            if function is None:  # it was the class's, seen through the instance
                delattr(owner, method)
            else:
                setattr(owner, method, function)


def _timing(function: Callable[..., Any], part: str, cost: dict[str, float]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        start = time.process_time()
        try:
            return function(*arguments)
        finally:
            cost[part] += time.process_time() - start

    return call


def steps_per_second(arguments: EnvsArguments, size: int, workers: int) -> float:
    """Steps a second of wall time with the scripted expert, resets included."""
    with EnvPool(arguments.task, slots=workers, workers=workers, image_size=size) as pool:
        seeds = iter(range(1, arguments.episodes * workers + 1))
        start, steps, playing = time.perf_counter(), 0, workers
        for slot in range(workers):
            pool.reset(slot, next(seeds), expert=True)
        while playing:
            for transition in pool.receive():
                if transition.expert_action is not None:
                    pool.step(transition.slot, transition.expert_action)
                    steps += 1
                elif (seed := next(seeds, None)) is not None:
                    pool.reset(transition.slot, seed, expert=True)
                else:
                    playing -= 1
        return steps / (time.perf_counter() - start)


def start_of_workers(arguments: EnvsArguments, workers: int) -> float:
    """Wall time [s] until every worker has built its environment and delivered its first observation."""
    start = time.perf_counter()
    with EnvPool(arguments.task, slots=workers, workers=workers) as pool:
        for slot in range(workers):
            pool.reset(slot, slot)
        arrived = 0
        while arrived < workers:
            arrived += len(pool.receive())
        return time.perf_counter() - start


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    names = list(next(iter(result["cpu_ms_per_step"].values())))
    lines = [f"| CPU ms a step | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for size, parts in result["cpu_ms_per_step"].items():
        lines.append(f"| 2 x {size} px | {' | '.join(f'{parts[name]:.2f}' for name in names)} |")
    lines += ["", "| | steps a second |", "|---|---|"]
    lines += [f"| {cell} | {rate:.0f} |" for cell, rate in result["steps_per_second"].items()]
    return "\n".join([*lines, "", f"two workers are up in {result['start_of_two_workers_s']:.1f} s"])
