"""`handsight remember`: a copy of a fuse checkpoint that reads any instruction as the closest one of those that it was trained on.

    handsight remember --policy.path=outputs/train/mine --dataset.root=data/one,data/two --out=outputs/mine
    handsight remember --policy.path=outputs/train/sense --env.task=sense/bag_stiff,sense/bag_rough --out=outputs/sense

Words that mean nothing by themselves ("grab", "please") count for what they happened to learn, and put together anew they can change what a
policy does. The instructions are those of recordings, or all that the training phrasings of tasks can say. What it does under these stays
bit by bit the same, and so do its weights, which are written as averages in float16.

The price: what is not among them is not understood any more. Leave it alone where new combinations of known words have to work. Training
on forgets them.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd  # type: ignore[import-untyped] # has no annotations

from handsight.datasets_rb.mixture import parse_mixture
from handsight.envs.env import task_class
from handsight.launch.arguments import parse
from handsight.launch.checkpoints import check_files, find
from handsight.launch.gallery import chosen_tasks
from handsight.launch.policies import Overrides, load_policy
from handsight.launch.rollout import PolicyArguments
from handsight.policies.fuse.modeling_fuse import FusePolicy, export_checkpoint
from handsight.policies.text import PAD, HashedText
from handsight.sensors.errors import HandsightError

_TASKS: Final = Path("meta", "tasks.parquet")


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
    """Writes the copy and says how many instructions it remembers."""
    arguments = parse(RememberArguments, argv, "handsight remember", __doc__ or "")
    if not arguments.policy.path:
        raise HandsightError("expected --policy.path, got none; give a checkpoint folder, a hub id or zoo/NAME")
    if not arguments.out:
        raise HandsightError("expected --out, got none; give a new folder for the copy")
    instructions = _recorded(arguments.dataset.root) + sayable(arguments.env.task)
    if not instructions:
        raise HandsightError("expected --env.task or --dataset.root, got neither; name what the policy was trained on")
    kept = remember(arguments.policy.path, instructions, Path(arguments.out))
    left_out = f"; {len(set(instructions)) - kept} have words that it does not know" if kept < len(set(instructions)) else ""
    print(f"{arguments.out} remembers {kept} instructions{left_out}")
    return 0


def sayable(tasks: str) -> list[str]:
    """All that the training phrasings of tasks, as --env.task names them, can say.

    Raises HandsightError for an unknown task.
    """
    names = chosen_tasks(tasks) or [tasks] if tasks else []
    return [text for name in names for text in task_class(name)().phrasebook().instructions()]


def _recorded(roots: str) -> list[str]:
    if not roots:
        return []
    folders = [ingredient.root for ingredient in parse_mixture(roots)]
    for folder in folders:
        if not (folder / _TASKS).is_file():
            raise HandsightError(f"expected a recording in --dataset.root, got {folder} without {_TASKS}")
    return [str(task) for folder in folders for task in pd.read_parquet(folder / _TASKS).index]


def remember(path: str, instructions: Sequence[str], out: Path) -> int:
    """Writes the copy into the new folder `out`, whole or not at all; how many of the instructions it remembers.

    Raises:
        HandsightError: a folder that is there, or a policy that cannot remember: not fuse with the hashed encoder, one with notes, or one
            that does not know the words of any of them.
    """
    if out.exists():
        raise HandsightError(f"expected a new folder for the copy, got {out}, which is there; choose another --out")
    source = find(path)
    check_files(source)
    policy = load_policy(path, Overrides(device="cpu")).policy
    text = policy.network.text if isinstance(policy, FusePolicy) else None
    if not isinstance(policy, FusePolicy) or not isinstance(text, HashedText):
        raise HandsightError(f"expected a fuse policy with text_encoder=hashed, got {path} of type {policy.name}; others read as they do")
    if policy.notes is not None:
        raise HandsightError(f"expected a policy without a note, got {path}: its note would be read as the instruction without it")
    ids, _ = policy.tokenizer()(sorted(set(instructions)))
    ids = ids[(text.known[ids] | (ids == PAD)).all(dim=1)]
    if len(ids) == 0:
        raise HandsightError(f"expected instructions that {path} was trained on, got unknown words in all, such as {instructions[0]!r}")
    policy.remember(ids)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}") as written:
        export_checkpoint(policy, source, Path(written) / out.name)
        shutil.move(Path(written) / out.name, out)
    return len(ids)
