"""`handsight bench fuse_step --root=DIR [--quick]`: what the language losses cost in training.

    handsight collect --env.task=sense/bag_stiff --episodes=20 --root=data/bag_20
    handsight bench fuse_step --root=data/bag_20

Process CPU time of whole training steps (forward, backward, optimiser, average) of the same policy without and with the losses, on the same
batches, in turns; ratios are taken within a turn. Writes launch/results/fuse_step.json.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import torch
from tqdm import trange

from handsight.launch.arguments import parse
from handsight.launch.bare_loop import BareLoop
from handsight.launch.episodes import write_json
from handsight.launch.rollout import versions
from handsight.sensors.errors import HandsightError

RESULT: Final = Path("launch/results/fuse_step.json")
RECIPE: Final = ("--policy.type=fuse", "--policy.device=cpu", "--policy.state_history=[-40,-30,-20,-15,-10,-5,-2,0]")
BOTH: Final = ("--policy.contrastive_weight=1", "--policy.generation_weight=1")
ARMS: Final[dict[str, tuple[str, ...]]] = {
    "actions only": (),
    "both losses, 1 combination": BOTH,
    "both losses, 2 combinations": (*BOTH, "--policy.generation_combinations=2"),
    "both losses, 7 combinations": (*BOTH, "--policy.generation_combinations=7"),
    "both losses, 1 combination, half of the rows": (*BOTH, "--policy.language_share=0.5"),
}


@dataclass(frozen=True)
class StepArguments:
    """Arguments of `handsight bench fuse_step`."""

    root: str = ""
    """Recording to train on; all of its sensors are used."""
    turns: int = 12
    """How often each policy is measured."""
    steps: int = 4
    """Training steps a turn."""
    batch_size: int = 32
    """Rows of a step."""
    quick: bool = False
    """2 turns of 1 step, no result file."""


def main(argv: list[str]) -> int:
    """Measures and prints the table."""
    arguments = parse(StepArguments, argv, "handsight bench fuse_step", __doc__ or "")
    if not (Path(arguments.root) / "meta" / "info.json").is_file():
        raise HandsightError(f"expected --root=DIR of a recording, got {arguments.root or 'none'}; collect one with `handsight collect`")
    arguments = replace(arguments, turns=2, steps=1) if arguments.quick else arguments
    torch.set_num_threads(1)
    trainers = {name: Trainer(options, arguments) for name, options in ARMS.items()}
    for trainer in trainers.values():
        trainer.seconds(1, seed=0)  # first calls allocate
    turns = [
        {name: trainer.seconds(arguments.steps, seed=turn) / arguments.steps for name, trainer in trainers.items()}
        for turn in trange(arguments.turns, desc="turns")
    ]
    rows = [row(name, turns) for name in ARMS]
    if not arguments.quick:
        command = " ".join(["handsight bench fuse_step", *argv])
        write_json(RESULT, {"command": command, "args": asdict(arguments), "rows": rows, "versions": versions()})
    print(table(rows))
    return 0


class Trainer:
    """One policy on the recording."""

    def __init__(self, options: Sequence[str], arguments: StepArguments) -> None:
        torch.manual_seed(0)
        self._loop = BareLoop([*RECIPE, *options, f"--dataset.root={arguments.root}", f"--batch_size={arguments.batch_size}"])
        self._batch_size = arguments.batch_size

    def seconds(self, steps: int, seed: int) -> float:
        """CPU time of this process [s] for training steps on the batches of a seed; reading them is left out."""
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        batches = [self._loop.batch(rng.integers(len(self._loop), size=self._batch_size).tolist()) for _ in range(steps)]
        start = time.process_time()
        for batch in batches:
            self._loop.step(batch)
        return time.process_time() - start


def row(name: str, turns: list[dict[str, float]]) -> dict[str, Any]:
    """One policy: median CPU time of a step [ms], and how many times that of actions alone it is, turn by turn."""
    times = [turn[name] / turn["actions only"] for turn in turns]
    return {
        "policy": name,
        "cpu_ms": 1000 * median(turn[name] for turn in turns),
        "times": median(times),
        "times_each_turn": times,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| training step | CPU ms | times actions only | least to most of a turn |", "|---|---|---|---|"]
    for found in rows:
        spread = f"{min(found['times_each_turn']):.2f} to {max(found['times_each_turn']):.2f}"
        lines.append(f"| {found['policy']} | {found['cpu_ms']:.0f} | {found['times']:.2f} | {spread} |")
    return "\n".join(lines)
