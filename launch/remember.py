"""`handsight remember`: a copy of a fuse checkpoint that reads every instruction as the closest meaning that it was trained on.

    handsight remember --policy.path=outputs/train/sense --env.task=sense/bag_stiff,sense/bag_rough --out=outputs/sense
    handsight remember --policy.path=outputs/train/mine --dataset.root=data/one,data/two --out=outputs/mine

Words that mean nothing by themselves ("grab", "please") count for what they happened to learn, and put together anew they can change what a
policy does. A meaning is what all training phrasings of a task that name the same values say on average. Recordings do not tell which of
their instructions mean the same: there, each is a meaning of its own. No weight changes; they are written as averages in float16.

The price: what is not among the meanings is not understood any more. Leave it alone where new combinations of known words have to work.
Training on forgets them.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd  # type: ignore[import-untyped] # has no annotations
import torch
from torch import Tensor

from handsight.datasets_rb.mixture import parse_mixture
from handsight.envs.env import task_class
from handsight.launch.arguments import parse
from handsight.launch.checkpoints import check_files, find
from handsight.launch.gallery import chosen_tasks
from handsight.launch.policies import Overrides, load_policy
from handsight.launch.rollout import PolicyArguments
from handsight.policies.fuse.modeling_fuse import FusePolicy, export_checkpoint
from handsight.policies.text import PAD, HashedText, Tokenizer
from handsight.sensors.errors import HandsightError

_TASKS: Final = Path("meta", "tasks.parquet")
Meaning = Sequence[str]
"""Instructions that mean the same."""


@dataclass(frozen=True)
class TaskArguments:
    task: str = ""
    """Tasks whose training phrasings it knows, as in `handsight rollout`."""


@dataclass(frozen=True)
class DatasetArguments:
    root: str = ""
    """Folders of the recordings that it was trained on, separated by commas."""


@dataclass(frozen=True)
class RememberArguments:
    policy: PolicyArguments = field(default_factory=PolicyArguments)
    env: TaskArguments = field(default_factory=TaskArguments)
    dataset: DatasetArguments = field(default_factory=DatasetArguments)

    out: str = ""
    """A new folder for the copy."""


def main(argv: list[str]) -> int:
    """Writes the copy and says how many meanings it remembers."""
    arguments = parse(RememberArguments, argv, "handsight remember", __doc__ or "")
    if not arguments.policy.path:
        raise HandsightError("expected --policy.path, got none; give a checkpoint folder, a hub id or zoo/NAME")
    if not arguments.out:
        raise HandsightError("expected --out, got none; give a new folder for the copy")
    meanings = _recorded(arguments.dataset.root) + meanings_of(arguments.env.task)
    if not meanings:
        raise HandsightError("expected --env.task or --dataset.root, got neither; name what the policy was trained on")
    kept = remember(arguments.policy.path, meanings, Path(arguments.out))
    unknown = f"; {len(meanings) - kept} have words that it does not know" if kept < len(meanings) else ""
    print(f"{arguments.out} remembers {kept} meanings{unknown}")
    return 0


def meanings_of(tasks: str) -> list[Meaning]:
    """Those of the training phrasings of tasks, as --env.task names them.

    Raises HandsightError for an unknown task.
    """
    names = chosen_tasks(tasks) or [tasks] if tasks else []
    return [meaning for name in names for meaning in task_class(name)().phrasebook().meanings()]


def _recorded(roots: str) -> list[Meaning]:
    if not roots:
        return []
    folders = [ingredient.root for ingredient in parse_mixture(roots)]
    for folder in folders:
        if not (folder / _TASKS).is_file():
            raise HandsightError(f"expected a recording in --dataset.root, got {folder} without {_TASKS}")
    return [[str(task)] for folder in folders for task in pd.read_parquet(folder / _TASKS).index]


def remember(path: str, meanings: Sequence[Meaning], out: Path) -> int:
    """Writes the copy into the new folder `out`, whole or not at all; how many of the meanings it remembers.

    Raises:
        HandsightError: a folder that is there, or a policy that cannot remember: not fuse with the hashed encoder and the mlp trunk, one
            with notes, or one that knows the words of no instruction.
    """
    if out.exists():
        raise HandsightError(f"expected a new folder for the copy, got {out}, which is there; choose another --out")
    source = find(path)
    check_files(source)
    policy = load_policy(path, Overrides(device="cpu")).policy
    text = policy.network.text if isinstance(policy, FusePolicy) else None
    if not isinstance(policy, FusePolicy) or not isinstance(text, HashedText) or policy.config.trunk != "mlp":
        raise HandsightError(f"expected a fuse policy with text_encoder=hashed and trunk=mlp, got {path}; others read words one by one")
    if policy.notes is not None:
        raise HandsightError(f"expected a policy without a note, got {path}: its note would be read as the instruction without it")
    said = [features for meaning in meanings if (features := _mean(text, policy.tokenizer(), meaning)) is not None]
    if not said:
        raise HandsightError(f"expected instructions that {path} was trained on, got unknown words in all, such as {meanings[0][0]!r}")
    policy.remember(torch.stack(said))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}") as written:
        export_checkpoint(policy, source, Path(written) / out.name)
        shutil.move(Path(written) / out.name, out)
    return len(said)


@torch.no_grad()
def _mean(text: HashedText, tokenizer: Tokenizer, meaning: Meaning) -> Tensor | None:
    """What instructions say on average (D,), of those whose words the policy knows; None if it knows none."""
    ids, _ = tokenizer(meaning)
    known = ids[(text.known[ids] | (ids == PAD)).all(dim=1)]
    return text.pool(known).mean(dim=0) if len(known) else None
