"""`handsight bench zoo [--quick]`: the shipped checkpoints on fresh seeds, with their controls on the same seeds.

    handsight bench zoo                            # the shipped checkpoints, 200 episodes a cell
    handsight bench zoo --trained=outputs/train    # and every training seed found there as <name>_<seed>

An interrupted table is continued by the same command. Writes launch/results/zoo.json and prints the table in Markdown.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from handsight.launch.arguments import parse
from handsight.launch.cells import bits, play_cell, slug
from handsight.launch.episodes import write_json
from handsight.launch.metrics import paired_difference
from handsight.launch.rollout import EnvArguments, PolicyArguments, RolloutArguments, SensorArguments
from handsight.launch.train import cpu_minutes

RESULTS: Final = Path("launch/results")
CHECKPOINT: Final = Path("checkpoints/last/pretrained_model")


@dataclass(frozen=True)
class Shipped:
    """A shipped checkpoint and what is held back from it in its control."""

    name: str
    task: str
    control: str
    """What the control is called."""
    zeroed: str
    """Sensors that the control gets as zeros."""


SHIPPED: Final = (
    Shipped("tabletop_grasp", "sense/tabletop_grasp", "blind (cameras zeroed)", "front,wrist"),
    Shipped("bag_stiff", "sense/bag_stiff", "touch zeroed", "touch"),
)


@dataclass(frozen=True)
class ZooArguments:
    """Arguments of `handsight bench zoo`."""

    episodes: int = 200
    """Episodes a cell."""
    seed: int = 5000
    """First evaluation seed."""
    workers: int = 2
    """Processes that simulate."""
    only: str = ""
    """Name of one checkpoint; all of them without it."""
    trained: str = ""
    """Folder with training runs named <name>_<seed>, evaluated beside what is shipped."""
    folder: str = "outputs/bench/zoo"
    """Where the episodes of every cell are kept."""
    quick: bool = False
    """4 episodes a cell, no result file."""


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    label: str
    name: str
    arguments: RolloutArguments
    run: Path | None = None
    """The training run that is played, if it is one."""


def main(argv: list[str]) -> int:
    """Plays every cell that is not finished, then writes and prints the table."""
    arguments = parse(ZooArguments, argv, "handsight bench zoo", __doc__ or "")
    if arguments.quick:
        arguments = replace(arguments, episodes=4, folder=arguments.folder + "_quick")
    rows: list[dict[str, Any]] = []
    for cell in cells(arguments):
        rows.append(_play(cell, Path(arguments.folder)))
        result = {"command": " ".join(["handsight bench zoo", *argv]), "args": asdict(arguments), "rows": rows, "paired": paired(rows)}
        if not arguments.quick:
            write_json(
                RESULTS / f"zoo{'_' if arguments.only else ''}{arguments.only}.json", result
            )  # after every cell: what an interrupted table has is true as well
    print(table(rows))
    print(json.dumps(paired(rows), indent=2))
    return 0


def cells(arguments: ZooArguments) -> Iterator[Cell]:
    """Every shipped checkpoint, its controls, and the training seeds."""
    for shipped in [shipped for shipped in SHIPPED if arguments.only in ("", shipped.name)]:
        plain = RolloutArguments(
            policy=PolicyArguments(f"zoo/{shipped.name}"),
            env=EnvArguments(shipped.task),
            episodes=arguments.episodes,
            seed=arguments.seed,
            workers=arguments.workers,
            videos=0,
        )
        yield Cell("shipped", shipped.name, plain)
        yield Cell(shipped.control, shipped.name, replace(plain, sensors=SensorArguments(shipped.zeroed)))
        yield Cell("held-out phrasings", shipped.name, replace(plain, env=EnvArguments(shipped.task, phrasings="heldout")))
        yield Cell("random actions", shipped.name, replace(plain, policy=PolicyArguments("random")))
        for run in sorted(Path(arguments.trained).glob(f"{shipped.name}_[0-9]*")) if arguments.trained else []:
            policy = PolicyArguments(str(run / CHECKPOINT))
            yield Cell(f"training seed {run.name.rsplit('_', 1)[1]}", shipped.name, replace(plain, policy=policy), run)


def _play(cell: Cell, root: Path) -> dict[str, Any]:
    print(f"{cell.name}: {cell.label}")
    metrics, episodes = play_cell(cell.arguments, root / cell.name / slug(cell.label))
    kept = ("success", "reach", "wrong_object", "outcomes", "policy", "steps_per_second", "peak_memory_mb", "versions")
    outcomes = bits(episode.success for episode in episodes)
    minutes = None if cell.run is None else cpu_minutes(cell.run)
    training = {} if minutes is None else {"training_cpu_minutes": minutes}
    return {"checkpoint": cell.name, "cell": cell.label, "successes": outcomes} | training | {key: metrics[key] for key in kept}


def paired(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Success of the shipped checkpoint minus that of every other row on the same seeds, with a bootstrap interval."""
    rng = np.random.default_rng(0)
    found = {(row["checkpoint"], row["cell"]): [int(letter) for letter in row["successes"]] for row in rows}
    return {
        f"{name}: shipped minus {label}": asdict(paired_difference(found[name, "shipped"], outcomes, rng))
        for (name, label), outcomes in found.items()
        if label != "shipped"
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""

    def rate(row: dict[str, Any], key: str) -> str:
        value = row[key]
        return f"{value['mean']:.3f} [{value['low']:.2f}, {value['high']:.2f}]"

    lines = ["| checkpoint | | success | reached | wrong object | n | training, CPU min |", "|---" * 7 + "|"]
    for row in rows:
        rates = " | ".join(rate(row, key) for key in ("success", "reach", "wrong_object"))
        trained = f"{row['training_cpu_minutes']:.1f}" if "training_cpu_minutes" in row else ""
        lines.append(f"| {row['checkpoint']} | {row['cell']} | {rates} | {row['success']['n']} | {trained} |")
    return "\n".join(lines)
