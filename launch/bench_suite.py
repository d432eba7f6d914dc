"""`handsight bench suite [--quick]`: the four proofs that a sensor is needed, over every task, and the sensors against references.

    handsight bench suite                            # 200 episodes a cell
    handsight bench suite --only=sense/bag,assist/   # tasks that begin so

Proofs: (1) of what is hidden 0 pixels are seen; (2) the secret is independent of instruction, start and pictures at reset; (3) the scripted
expert succeeds in 95% of episodes, and at chance without a needed sensor; (4) random and constant actions succeed in less than 5%.
An interrupted table is continued by the same command. Writes launch/results/suite.json and prints the table; 1 if a proof fails.
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from handsight.envs.env import task_names
from handsight.envs.proofs import Occlusion, Reset, independence_of, observe_resets, occlusion_of, task_named
from handsight.envs.workers import quiet_context
from handsight.launch.arguments import parse
from handsight.launch.episodes import read_json, write_json
from handsight.launch.gl import require_gl
from handsight.launch.rollout import EnvArguments, PolicyArguments, RolloutArguments, SensorArguments, rollout, versions
from handsight.launch.suite_table import needs_of, passed, table
from handsight.launch.validation import measure
from handsight.launch.validation import table as validation_table
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import KEY_OF_SENSOR, Sensor

RESULTS: Final = Path("launch/results")
LEAN: Final = "handsight.envs.proofs:make_lean"
BLIND: Final = "handsight.envs.proofs:make_unsensed"
MORE: Final = ("down", "robot")  # cells beyond the proofs
CHUNK: Final = 100  # resets that one process makes at a time


@dataclass(frozen=True)
class SuiteArguments:
    """Arguments of `handsight bench suite`."""

    episodes: int = 200
    """Episodes a cell."""
    actors: int = 200
    """Episodes of a cell whose actor senses nothing."""
    resets: int = 2000
    """Resets of the test of independence."""
    watched: int = 10
    """Episodes of the expert whose every frame is searched for what is hidden."""
    seed: int = 5000
    """First evaluation seed."""
    workers: int = 2
    """Processes that simulate."""
    only: str = ""
    """Beginnings of the names of tasks, separated by commas; all of them without it."""
    folder: str = "outputs/bench/suite"
    """Where everything that is finished is kept."""
    quick: bool = False
    """4 episodes a cell, no result file."""


def main(argv: list[str]) -> int:
    """Measures what is not finished, then writes and prints the tables."""
    arguments = parse(SuiteArguments, argv, "handsight bench suite", __doc__ or "")
    if arguments.quick:
        arguments = replace(arguments, episodes=4, actors=4, resets=300, watched=1, folder=arguments.folder + "_quick")
    require_gl()
    tasks = chosen(arguments.only)
    result: dict[str, Any] = {"command": " ".join(["handsight bench suite", *argv]), "args": asdict(arguments), "versions": versions()}
    rows: list[dict[str, Any]] = [{"task": task, "needs": needs_of(task_named(task)), "cells": {}} for task in tasks]
    result |= {"validation": measure(tasks, arguments.seed), "rows": rows}
    for more in (False, True):  # the proofs of every task before what goes beyond them
        for row in rows:
            for label, cell in measured(row["task"], arguments, more=more):
                row["cells"][label] = cell
                if not arguments.quick:
                    write_json(_result_file(arguments.only), result)  # after every cell: what an interrupted table has is true as well
    print(table(result["rows"]))
    print(validation_table(result["validation"]))
    return 0 if passed(result["rows"]) else 1


def chosen(only: str) -> list[str]:
    """Tasks that begin with one of the words of `only`.

    Raises HandsightError when there are none.
    """
    beginnings = tuple(word.strip() for word in only.split(","))
    found = [task for task in task_names() if task.startswith(beginnings)]
    if not found:
        raise HandsightError(f"expected --only to begin the name of a task ({', '.join(task_names())}), got {only!r}")
    return found


def _result_file(only: str) -> Path:
    return RESULTS / f"suite{re.sub(r'\W+', '_', f'_{only}') if only else ''}.json"


def measured(task: str, arguments: SuiteArguments, *, more: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Cells of a task with their names: those that prove something, or, with `more`, the others."""
    folder = Path(arguments.folder) / task
    for label, play in rollouts(task, arguments).items():
        if (label in MORE) is not more:
            continue
        print(f"{task}: {label}")
        metrics = rollout(play, folder / re.sub(r"\W+", "_", label))
        yield label, {key: metrics[key] for key in ("success", "wrong_object", "outcomes")}
    if more:
        return
    for label, measure_cell in (("occlusion", _occlusion), ("independence", _independence)):
        yield label, _kept(folder / f"{label}.json", task, arguments, measure_cell)


def rollouts(task: str, arguments: SuiteArguments) -> dict[str, RolloutArguments]:
    """What is played, by the name of the cell."""
    plain = RolloutArguments(
        policy=PolicyArguments("expert"),
        env=EnvArguments(task, maker=LEAN),
        episodes=arguments.episodes,
        seed=arguments.seed,
        workers=arguments.workers,
        batch_size=max(1, arguments.workers),
        videos=0,
    )
    cells = {"expert": plain}
    for sensor in task_named(task).needs:
        cells[f"without {name_of(sensor)}"] = replace(plain, sensors=SensorArguments(_names(sensor)))
    for actor in ("random", "constant", "down"):
        unsensed = EnvArguments(task, maker=BLIND)
        cells[actor] = replace(plain, policy=PolicyArguments(actor), env=unsensed, episodes=arguments.actors)
    cells["robot"] = replace(plain, env=EnvArguments(task, maker=LEAN, realism="robot"))
    return cells


def name_of(sensor: Sensor) -> str:
    """Lower case, as in a table."""
    return str(sensor.name).lower()


def _names(sensors: Sensor) -> str:
    """As --sensors.zero wants them."""
    return ",".join(name_of(sensor) for sensor in KEY_OF_SENSOR if sensor in sensors)


def _kept(path: Path, task: str, arguments: SuiteArguments, measure_cell: Any) -> dict[str, Any]:
    """What the file holds if it was measured with the same arguments; else measures and writes it."""
    identity = {"seed": arguments.seed, "resets": arguments.resets, "watched": arguments.watched}
    if path.exists() and (found := read_json(path))["args"] == identity:
        return dict(found["cell"])
    cell = measure_cell(task, arguments)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"args": identity, "cell": cell})
    return dict(cell)


def _occlusion(task: str, arguments: SuiteArguments) -> dict[str, Any]:
    seeds = [[seed] for seed in range(arguments.seed, arguments.seed + arguments.watched)]
    found: list[Occlusion] = list(_spread(occlusion_of, task, seeds, arguments.workers))
    return {"pixels": sum(each.pixels for each in found), "frames": sum(each.frames for each in found), "episodes": len(found)}


def _independence(task: str, arguments: SuiteArguments) -> dict[str, Any]:
    last = arguments.seed + arguments.resets
    seeds = [list(range(first, min(first + CHUNK, last))) for first in range(arguments.seed, last, CHUNK)]
    resets = [reset for part in _spread(resets_of, task, seeds, arguments.workers) for reset in part]
    return asdict(independence_of(resets))


def resets_of(task: str, seeds: Sequence[int]) -> list[Reset]:
    """`observe_resets` by name, for other processes."""
    return observe_resets(task_named(task), seeds)


def _spread(work: Any, task: str, parts: Sequence[Sequence[int]], workers: int) -> Iterator[Any]:
    """work(task, seeds) for each part, in order, over processes."""
    if workers == 0:
        yield from (work(task, part) for part in parts)
        return
    with ProcessPoolExecutor(min(workers, len(parts)), mp_context=quiet_context()) as pool:
        yield from tqdm(pool.map(work, [task] * len(parts), parts), total=len(parts), desc=f"{task}: {work.__name__}")
