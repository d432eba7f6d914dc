"""`handsight bench recipe --root=DIR [--quick]`: which parts of the training recipe matter, one left out at a time.

    handsight collect --env.task=sense/tabletop_grasp --episodes=800 --root=data/tabletop_grasp
    handsight bench recipe --root=data/tabletop_grasp

Every arm has the same demonstrations, steps and evaluation seeds. Arms and episodes that are finished are not done again. Writes
launch/results/recipe.json after every arm. Needs three to five CPU minutes an arm.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from handsight.launch.arguments import parse
from handsight.launch.cells import bits, slug
from handsight.launch.episodes import read_episodes, write_json
from handsight.launch.metrics import paired_difference, wilson
from handsight.launch.train import cpu_minutes
from handsight.launch.training_run import handsight, train_once
from handsight.sensors.errors import HandsightError

RESULT: Final = Path("launch/results/recipe.json")
ARMS: Final[dict[str, tuple[str, ...]]] = {
    "full": (),
    "no keyframe loss": ("--policy.keyframe_weight=0",),
    "no random light": ("--policy.image_light=0",),
    "tcp velocity visible": ("--policy.hidden_state=[]",),
    "temperature 1": ("--policy.flow_temperature=1",),
    "transformer trunk": ("--policy.trunk=transformer",),
}
"""Options of `handsight train` that each arm adds to the full recipe."""


@dataclass(frozen=True)
class RecipeArguments:
    """Arguments of `handsight bench recipe`."""

    root: str = ""
    """Dataset that every arm is trained on."""
    task: str = "sense/tabletop_grasp"
    """Task that is evaluated."""
    sensors: str = "front,wrist,state"
    """Sensors of the policy."""
    demonstrations: int = 800
    """How many of its first episodes are used."""
    steps: int = 2000
    """Training steps of an arm."""
    episodes: int = 100
    """Evaluation episodes of an arm."""
    seed: int = 1000
    """First evaluation seed; 1000 and on are for development."""
    jobs: int = 2
    """Arms at a time, one thread each."""
    folder: str = "outputs/bench/recipe"
    """Where checkpoints and episodes are kept."""
    quick: bool = False
    """2 steps and 1 episode an arm, no result file."""


def main(argv: list[str]) -> int:
    """Trains and evaluates every arm that is not finished, then prints the table."""
    arguments = parse(RecipeArguments, argv, "handsight bench recipe", __doc__ or "")
    if not arguments.root:
        raise HandsightError("expected --root=DIR of a dataset, got none; collect one with `handsight collect`")
    if arguments.quick:
        arguments = replace(arguments, steps=2, episodes=1, folder=arguments.folder + "_quick")
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for row in pool.map(lambda name: run_arm(name, arguments), ARMS):
            rows.append(row)
            if not arguments.quick:
                command = " ".join(["handsight bench recipe", *argv])
                write_json(RESULT, {"command": command, "args": asdict(arguments), "rows": rows, "paired": paired(rows)})
    print(table(rows))
    return 0


def run_arm(name: str, arguments: RecipeArguments) -> dict[str, Any]:
    """Trains one arm (or takes what is there) and plays its episodes."""
    folder = Path(arguments.folder) / slug(name)
    run, result = folder / "train", folder / "rollout"
    train_once(run, arguments.steps, [*_training(arguments), *ARMS[name]])
    handsight(
        result.with_suffix(".log"),
        "rollout",
        f"--policy.path={run}",
        f"--env.task={arguments.task}",
        f"--episodes={arguments.episodes}",
        f"--seed={arguments.seed}",
        "--workers=0",
        "--batch_size=1",
        "--videos=0",
        f"--out={result}",
    )
    successes = bits(episode.success for episode in read_episodes(result))
    return {
        "arm": name,
        "options": list(ARMS[name]),
        "successes": successes,
        "success": asdict(wilson([letter == "1" for letter in successes])),
        "training_cpu_minutes": cpu_minutes(run),
    }


def _training(arguments: RecipeArguments) -> list[str]:
    return [
        "--policy.type=fuse",
        f"--dataset.root={arguments.root}",
        f"--dataset.episodes={list(range(arguments.demonstrations))}",
        f"--policy.sensors={arguments.sensors}",
        f"--save_freq={arguments.steps}",
        "--batch_size=32",
        "--seed=0",
    ]


def paired(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Success of the full recipe minus that of each other arm on the same seeds, with a bootstrap interval."""
    rng = np.random.default_rng(0)
    outcomes = {row["arm"]: [int(letter) for letter in row["successes"]] for row in rows}
    return {
        f"full minus {arm}": asdict(paired_difference(outcomes["full"], found, rng)) for arm, found in outcomes.items() if arm != "full"
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    differences = paired(rows)
    lines = ["| arm | success | full minus this arm | training, CPU min |", "|---|---|---|---|"]
    for row in rows:
        difference = differences.get(f"full minus {row['arm']}")
        text = f"{difference['mean']:+.2f} [{difference['low']:+.2f}, {difference['high']:+.2f}]" if difference else ""
        rate, minutes = row["success"], row["training_cpu_minutes"]
        spent = "" if minutes is None else f"{minutes:.1f}"
        lines.append(f"| {row['arm']} | {rate['mean']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}] | {text} | {spent} |")
    return "\n".join(lines)
