"""Notes: what a policy last said, before its instruction."""

from typing import Any

import pytest
import torch
from lerobot.utils.constants import OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS

from handsight.policies.fuse.answers import answers
from handsight.policies.fuse.notes import FORGOTTEN, Notes
from handsight.policies.text import Tokenizer
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import Attributes, Modality
from handsight.sensors.questions import Question, parse_note
from handsight.sensors.referent import Referent
from handsight.sensors.types import GROUNDING

TOKENIZE = Tokenizer("hashed", 2048, 12)
COLOR = Question(Modality.VISION, "color")
PURPLE = Referent(Attributes(color="purple", shape="button", sound="low tone"), since_heard=3, visible=True)


def labels(*referents: Referent) -> torch.Tensor:
    return torch.stack([torch.from_numpy(referent.row()) for referent in referents])


def test_training_reads_what_a_rollout_reads() -> None:
    ids, mask = TOKENIZE(["take the violet thing"])
    expected = {tuple(TOKENIZE([f"{answer} take the violet thing"])[0][0].tolist()) for answer in answers(COLOR, "purple")}
    notes, generator = Notes(COLOR, TOKENIZE), torch.Generator().manual_seed(0)
    read = [notes.add(ids, labels(PURPLE), generator) for _ in range(200)]
    found = [tuple(noted[0].tolist()) for noted, _ in read]
    bare = tuple(ids[0].tolist())
    assert set(found) == expected | {bare}
    assert 0.3 * FORGOTTEN < found.count(bare) / len(found) < 2 * FORGOTTEN
    assert all(torch.equal(seen, noted != 0) for noted, seen in read)
    assert mask.sum() == 4


@pytest.mark.parametrize(
    "referent",
    [
        Referent(),
        Referent(Attributes(color="purple"), since_touched=0),  # in the bag, never seen
        Referent(Attributes(hardness="soft"), since_touched=0, visible=True),
    ],
)
def test_there_is_no_note_of_what_the_sense_has_not_met(referent: Referent) -> None:
    ids, mask = TOKENIZE(["take it"])
    assert all(torch.equal(Notes(COLOR, TOKENIZE).add(ids, labels(referent))[i], (ids, mask)[i]) for i in (0, 1))


def test_touch_and_sound_are_noted_once_they_were_there() -> None:
    generator = torch.Generator().manual_seed(0)
    for question, referent in (
        (Question(Modality.AUDIO, "sound"), Referent(Attributes(sound="low tone"), since_heard=30)),
        (Question(Modality.TOUCH, "hardness"), Referent(Attributes(hardness="soft"), since_touched=30)),
    ):
        ids, _ = TOKENIZE(["take it"] * 20)
        noted, _ = Notes(question, TOKENIZE).add(ids, labels(*[referent] * 20), generator)
        assert (noted != ids).any(dim=1).float().mean() > 0.6


def test_who_else_speaks_does_not_change_what_is_noted() -> None:
    ids, _ = TOKENIZE(["take it"] * 9)
    rows = labels(*[PURPLE, Referent(Attributes(color="red"), visible=True), Referent()] * 3)
    both = [Notes(Question(senses, "color"), TOKENIZE) for senses in (Modality.VISION, Modality.VISION | Modality.AUDIO)]
    alone, together = (notes.add(ids, rows, torch.Generator().manual_seed(0))[0] for notes in both)
    assert torch.equal(alone, together)


def test_words_beyond_the_longest_instruction_are_cut_at_its_end() -> None:
    ids, _ = TOKENIZE([" ".join(f"word{i}" for i in range(12))])
    generator = torch.Generator().manual_seed(0)
    noted = next(x for x, _ in (Notes(COLOR, TOKENIZE).add(ids, labels(PURPLE), generator) for _ in range(50)) if not torch.equal(x, ids))
    assert torch.equal(noted[0, 3:], ids[0, :9])


def test_a_policy_is_trained_with_its_note(make_policy: Any, make_batch: Any) -> None:
    policy = make_policy(note="V:color", generation_weight=1.0)
    batch = make_batch(policy.config, batch=8)
    batch[GROUNDING] = labels(*[PURPLE] * len(batch[OBS_LANGUAGE_TOKENS]))
    noted = policy._noted(batch, torch.Generator().manual_seed(0))
    words = batch[OBS_LANGUAGE_ATTENTION_MASK].sum(dim=1)
    more = noted[OBS_LANGUAGE_ATTENTION_MASK].sum(dim=1) - words
    assert set(more.tolist()) <= {0, 3}
    assert 3 in more
    loss, _ = policy.train()(batch)
    loss.backward()
    del batch[GROUNDING]
    with pytest.raises(HandsightError, match=r"observation\.label\.grounding"):
        policy(batch)


def test_a_note_is_an_attribute_of_one_sense_in_the_policys_own_words(make_policy: Any) -> None:
    assert parse_note("") is None
    for wrong in ("V", "V:color,T:hardness", "A:color"):
        with pytest.raises(HandsightError, match=r"for one attribute, as in|ask A for one of"):
            parse_note(wrong)
    with pytest.raises(HandsightError, match="generation_weight > 0"):
        make_policy(note="V:color")
