"""`handsight remember`: what was trained stays, new phrasings are read as the right instruction, and every misuse is one line."""

import shutil
from itertools import product
from pathlib import Path

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
from handsight.policies.text import HashedText
from handsight.sensors.describe import slots
from handsight.sensors.errors import HandsightError

TASK = "sense/bag_stiff"


def read(path: Path, texts: list[str]) -> Tensor:
    """Pooled features of instructions, as the policy acts on them."""
    policy = load_policy(str(path), Overrides(device="cpu")).policy
    assert isinstance(policy, FusePolicy)
    return policy.network.text(*policy.tokenizer()(texts)).pooled.detach()


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


def test_held_out_phrasings_of_the_shipped_policy_are_read_as_what_they_mean() -> None:
    """By how an instruction is read, not by what is done: of each task, its value words in all held-out phrasings."""
    policy = load_policy(str(find("zoo/fuse")), Overrides(device="cpu")).policy
    assert isinstance(policy, FusePolicy)
    text, tokenizer = policy.network.text, policy.tokenizer()
    assert isinstance(text, HashedText)
    for task in TASKS:
        book = task_class(f"sense/{task}")().phrasebook()
        own = {tuple(ids): said for said, ids in zip(book.instructions(), tokenizer(book.instructions())[0].tolist(), strict=True)}
        right = []
        for phrasing in book.heldout:
            names = sorted(slots(phrasing))
            for values in product(*(list(book.words[name]) or ["red", "green", "blue"] for name in names)):
                chosen = [book.words[name].get(value, [value]) for name, value in zip(names, values, strict=True)]
                ids = tokenizer([phrasing.format(**dict(zip(names, (words[0] for words in chosen), strict=True)))])[0]
                read_as = own.get(tuple(text.closest(torch.where(text.known[ids], ids, 0))[0].tolist()), "")
                right.append(all(any(word in read_as.split() or word in read_as for word in words) for words in chosen))
        assert sum(right) >= 0.9 * len(right), (task, sum(right), len(right))


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
