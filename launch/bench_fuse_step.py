"""`handsight bench fuse_step --root=DIR [--quick]`: what the language losses cost in training.

    handsight collect --env.task=sense/bag_stiff --episodes=20 --root=data/bag_20
    handsight bench fuse_step --root=data/bag_20

Process CPU time of whole training steps (forward, backward, optimiser, average) of the same policy without and with the losses, on the same
batches, in turns; ratios are taken within a turn. Writes launch/results/fuse_step.json.
"""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.utils.feature_utils import dataset_to_policy_features
from torch.utils.data import default_collate
from tqdm import trange

from handsight.datasets_rb.cache import CachedDataset
from handsight.launch.arguments import parse
from handsight.launch.episodes import write_json
from handsight.launch.rollout import versions
from handsight.launch.training_data import delta_timestamps
from handsight.policies.fuse.configuration_fuse import FuseConfig
from handsight.policies.fuse.modeling_fuse import FusePolicy
from handsight.policies.fuse.processor_fuse import make_fuse_pre_post_processors
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import ACTION

RESULT: Final = Path("launch/results/fuse_step.json")
HISTORY: Final[dict[str, Any]] = {"state_history": (-40, -30, -20, -15, -10, -5, -2, 0)}
BOTH: Final = {"contrastive_weight": 1.0, "generation_weight": 1.0}
ARMS: Final[dict[str, dict[str, Any]]] = {
    "actions only": {},
    "both losses, 1 combination": BOTH,
    "both losses, 2 combinations": BOTH | {"generation_combinations": 2},
    "both losses, 7 combinations": BOTH | {"generation_combinations": 7},
    "both losses, 1 combination, half of the rows": BOTH | {"language_share": 0.5},
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
    """One policy with its optimiser, and the recording as it reads it."""

    def __init__(self, options: dict[str, Any], arguments: StepArguments) -> None:
        meta = LeRobotDatasetMetadata("local/step", root=arguments.root)
        features: dict[str, PolicyFeature] = dataset_to_policy_features(meta.features)
        config = FuseConfig(device="cpu", **HISTORY, **options)
        config.input_features = {key: feature for key, feature in features.items() if feature.type is not FeatureType.ACTION}
        config.output_features = {ACTION: features[ACTION]}
        torch.manual_seed(0)
        self._policy = FusePolicy(config).train()
        self._data = CachedDataset("local/step", arguments.root, delta_timestamps=delta_timestamps(config, meta))
        self._preprocess, _ = make_fuse_pre_post_processors(config, meta.stats)
        self._optimizer = torch.optim.AdamW(self._policy.get_optim_params(), lr=config.optimizer_lr)
        self._batch_size = arguments.batch_size

    def seconds(self, steps: int, seed: int) -> float:
        """CPU time of this process [s] for training steps on the batches of a seed; reading them is left out."""
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        batches = [self._batch(rng) for _ in range(steps)]
        start = time.process_time()
        for batch in batches:
            loss, _ = self._policy.forward(batch)
            self._optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._policy.model.parameters(), 1.0)
            self._optimizer.step()
            self._policy.update()
        return time.process_time() - start

    def _batch(self, rng: np.random.Generator) -> dict[str, Any]:
        items = self._data.__getitems__(rng.integers(len(self._data), size=self._batch_size).tolist())
        batch = default_collate(items)
        images = {key: batch[key].to(torch.float32) / 255 for key in self._data.meta.camera_keys}
        processed: dict[str, Any] = self._preprocess(batch | images)
        return processed


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
