"""`handsight remember`: phrasings are read as what they mean, new ones too, and every misuse is one line."""

import shutil
from collections.abc import Sequence
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
from handsight.policies.text import PAD, HashedText, hash_instructions
from handsight.sensors.describe import slots
from handsight.sensors.errors import HandsightError

TASK = "sense/bag_stiff"
TRAINED_ON = ",".join(f"sense/{name}" for name in TASKS)
"""Tasks of zoo/fuse."""
COLORS = ["red", "green", "blue", "yellow", "purple", "white"]


def read(path: Path, texts: list[str]) -> Tensor:
    """Pooled features of instructions, as the policy acts on them."""
    policy = load_policy(str(path), Overrides(device="cpu")).policy
    assert isinstance(policy, FusePolicy)
    return policy.network.text(*policy.tokenizer()(texts)).pooled.detach()


def ids_of(texts: Sequence[str]) -> Tensor:
    return hash_instructions(texts, 2048, 24)


def understood(text: HashedText, meaning: Sequence[str]) -> bool:
    """Whether the policy knows all words of one of its instructions."""
    ids = ids_of(meaning)
    return bool((text.known[ids] | (ids == PAD)).all(dim=1).any())


@pytest.fixture(scope="module")
def shipped() -> HashedText:
    """How zoo/fuse reads."""
    policy = load_policy("zoo/fuse", Overrides(device="cpu")).policy
    assert isinstance(policy, FusePolicy)
    text = policy.network.text
    assert isinstance(text, HashedText)
    return text


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("remember") / "new" / "copy"
    assert verb.main(["--policy.path=zoo/bag_stiff", f"--env.task={TASK}", f"--out={out}"]) == 0
    return out


def test_all_phrasings_of_a_meaning_are_read_alike_new_ones_too(copy: Path) -> None:
    book = task_class(TASK)().phrasebook()
    new = [[phrasing.format(stiffness=word) for phrasing in book.heldout] for word in ("squishy", "firm")]
    soft, hard = ({tuple(row) for row in read(copy, [*told, *unseen]).tolist()} for told, unseen in zip(book.meanings(), new, strict=True))
    assert len(soft) == len(hard) == 1
    assert soft != hard
    before = read(ZOO / "bag_stiff", book.meanings()[0])
    torch.testing.assert_close(torch.tensor(soft.pop()), before.mean(dim=0), atol=1e-2, rtol=1e-2)  # in float16
    assert str(Path.cwd()) not in (copy / "config.json").read_text()


def test_of_recordings_each_instruction_is_a_meaning(tmp_path: Path) -> None:
    for name, texts in {"one": ["pick up the soft ball", "get the soft one"], "two": ["pick up the hard ball"]}.items():
        (tmp_path / name / "meta").mkdir(parents=True)
        frame = pd.DataFrame({"task_index": range(len(texts))}, index=pd.Index(texts, name="task"))
        frame.to_parquet(tmp_path / name / "meta" / "tasks.parquet")
    out = tmp_path / "copy"
    words = ["--policy.path=zoo/bag_stiff", f"--dataset.root={tmp_path / 'one'},{tmp_path / 'two'}:2", f"--out={out}"]
    assert verb.main(words) == 0
    told = ["pick up the soft ball", "get the soft one", "pick up the hard ball"]
    torch.testing.assert_close(read(out, told), read(ZOO / "bag_stiff", told), atol=1e-2, rtol=1e-2)
    assert torch.equal(*read(out, ["get the soft one", "get the soft one, please"]))


@pytest.mark.parametrize("task", TASKS)
def test_held_out_phrasings_of_the_shipped_policy_are_read_as_what_they_mean(task: str, shipped: HashedText) -> None:
    """By how an instruction is read, not by what is done: as a meaning that has all of its values, but for one of seven."""
    book = task_class(f"sense/{task}")().phrasebook()
    known = [meaning for meaning in verb.meanings_of(TRAINED_ON) if understood(shipped, meaning)]
    assert len(known) == len(shipped.meanings)
    right = []
    for phrasing in book.heldout:
        names = sorted(slots(phrasing))
        for values in product(*(list(book.words[name]) or COLORS for name in names)):
            options = [book.words[name].get(value, [value]) for name, value in zip(names, values, strict=True)]
            for words in product(*options):
                pooled = shipped.pool(ids_of([phrasing.format(**dict(zip(names, words, strict=True)))]))
                read_as = int((shipped.meanings - shipped.closest(pooled)).square().sum(dim=1).argmin())
                right.append(any(all(word in text for word in words) for text in known[read_as]))
    assert np.mean(right) >= 0.85


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
        verb.remember(str(noted), [["take the red one"]], tmp_path / "copy")
