"""`handsight remember`: what was trained stays, new phrasings are read as the right instruction, and every misuse is one line."""

import re
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from handsight.envs.env import task_class
from handsight.launch import remember as verb
from handsight.launch.checkpoints import ZOO, find
from handsight.launch.fuse_grid import TASKS
from handsight.launch.policies import Overrides, load_policy
from handsight.policies.fuse.modeling_fuse import FusePolicy
from handsight.policies.text import PAD, HashedText
from handsight.sensors.describe import slots
from handsight.sensors.errors import HandsightError

TASK = "sense/bag_stiff"
COLORS = ["red", "green", "blue", "yellow", "purple", "white"]
Ids = tuple[int, ...]


def read(path: Path, texts: list[str]) -> Tensor:
    """Pooled features of instructions, as the policy acts on them."""
    policy = load_policy(str(path), Overrides(device="cpu")).policy
    assert isinstance(policy, FusePolicy)
    return policy.network.text(*policy.tokenizer()(texts)).pooled.detach()


@pytest.fixture(scope="module")
def shipped() -> tuple[FusePolicy, dict[Ids, str]]:
    """zoo/fuse, and what it was trained on by what the policy reads."""
    policy = load_policy("zoo/fuse", Overrides(device="cpu")).policy
    assert isinstance(policy, FusePolicy)
    texts = verb.sayable(",".join(f"sense/{task}" for task in TASKS))
    ids, _ = policy.tokenizer()(texts)
    return policy, {tuple(row): text for row, text in zip(ids.tolist(), texts, strict=True)}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("remember") / "new" / "copy"
    assert verb.main(["--policy.path=zoo/bag_stiff", f"--env.task={TASK}", f"--out={out}"]) == 0
    return out


def test_what_was_trained_stays_and_all_else_is_read_as_one_of_these(copy: Path) -> None:
    book = task_class(TASK)().phrasebook()
    told, new = book.instructions(), [phrasing.format(stiffness=word) for phrasing in book.heldout for word in ("soft", "hard")]
    before, after = (read(folder, told) for folder in (ZOO / "bag_stiff", copy))
    assert torch.equal(before, after)
    assert {tuple(row) for row in read(copy, new).tolist()} <= {tuple(row) for row in after.tolist()}
    assert not torch.equal(read(ZOO / "bag_stiff", new), read(copy, new))
    assert str(Path.cwd()) not in (copy / "config.json").read_text()


def test_recordings_say_what_it_was_trained_on(tmp_path: Path) -> None:
    for name, texts in {"one": ["pick up the soft ball", "wipe my nose"], "two": ["pick up the hard ball"]}.items():
        (tmp_path / name / "meta").mkdir(parents=True)
        frame = pd.DataFrame({"task_index": range(len(texts))}, index=pd.Index(texts, name="task"))
        frame.to_parquet(tmp_path / name / "meta" / "tasks.parquet")
    out = tmp_path / "copy"
    words = ["--policy.path=zoo/bag_stiff", f"--dataset.root={tmp_path / 'one'},{tmp_path / 'two'}:2", f"--out={out}"]
    assert verb.main(words) == 0
    soft, hard, other = read(out, ["pick up the soft ball", "pick up the hard ball", "the soft one, please"])
    assert torch.equal(other, soft)
    assert not torch.equal(other, hard)


@pytest.mark.parametrize("task", TASKS)
def test_held_out_phrasings_of_the_shipped_policy_are_read_as_what_they_mean(task: str, shipped: tuple[FusePolicy, dict[Ids, str]]) -> None:
    """By how an instruction is read, not by what is done: whether it is one that has a word for each of its values."""
    policy, told = shipped
    text, book = policy.network.text, task_class(f"sense/{task}")().phrasebook()
    assert isinstance(text, HashedText)
    right = []
    for phrasing in book.heldout:
        names = sorted(slots(phrasing))
        for values in product(*(list(book.words[name]) or COLORS for name in names)):
            meant = [book.words[name].get(value, [value]) for name, value in zip(names, values, strict=True)]
            for words in product(*meant):
                ids, _ = policy.tokenizer()([phrasing.format(**dict(zip(names, words, strict=True)))])
                read_as = told[tuple(text.closest(torch.where(text.known[ids], ids, PAD))[0].tolist())]
                right.append(all(any(re.search(rf"\b{word}\b", read_as) for word in options) for options in meant))
    assert np.mean(right) >= 0.95


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([f"--env.task={TASK}", "--out=copy"], "expected --policy.path, got none"),
        (["--policy.path=zoo/bag_stiff", f"--env.task={TASK}"], "expected --out, got none"),
        (["--policy.path=zoo/bag_stiff", "--out=copy"], "expected --env.task or --dataset.root, got neither"),
        (["--policy.path=zoo/bag_stiff", "--env.task=sense/bag_stif", "--out=copy"], "did you mean sense/bag_stiff"),
        (["--policy.path=zoo/bag_stiff", "--dataset.root=nowhere", "--out=copy"], "expected a recording in --dataset.root, got nowhere"),
        (["--policy.path=zoo/bag_stiff", f"--env.task={TASK}", "--out=."], "which is there"),
        (["--policy.path=zoo/fuse", "--env.task=assist/feed", "--out=copy"], "got unknown words in all"),
    ],
)
def test_misuse_is_one_line(words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HandsightError, match=message) as raised:
        verb.main(words)
    assert "\n" not in str(raised.value)
    assert not any(tmp_path.iterdir())


def test_a_policy_with_a_note_keeps_reading_it(tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    shutil.copytree(find("zoo/fuse"), noted)
    config = (noted / "config.json").read_text()
    assert '"note": ""' in config
    (noted / "config.json").write_text(config.replace('"note": ""', '"note": "VA:color"'))
    with pytest.raises(HandsightError, match="expected a policy without a note"):
        verb.remember(str(noted), ["take the red one"], tmp_path / "copy")
