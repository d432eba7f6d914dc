"""The closed vocabulary spells every description, and nothing else."""

import re
from itertools import product

import numpy as np
import pytest

from handsight.sensors.describe import SENSE_OF, Descriptions, Phrasings, describe, slots
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import COMBINATIONS, VALUES, Attributes
from handsight.sensors.words import BEGIN, END, LONGEST, PAD, sentence, spell, split, targets, vocabulary

SPLITS: tuple[Phrasings, ...] = ("train", "heldout")


def fillings(slot: str) -> list[str]:
    """Everything that may stand in a slot."""
    book = Descriptions.load()
    if slot in VALUES:
        return [word for value in VALUES[slot] for word in book.words_for(slot, value)]
    return [said for text in book.predicates[slot] for said in filled(text)]


def filled(text: str) -> list[str]:
    """A template with everything that may stand in its slots, one value of each slot at a time beside the longest of the others."""
    options = {slot: fillings(slot) for slot in slots(text)}
    longest = {slot: max(said, key=lambda words: len(split(words))) for slot, said in options.items()}
    return [text.format(**longest), *(text.format(**longest | {slot: word}) for slot, said in options.items() for word in said)]


@pytest.mark.parametrize("phrasings", SPLITS)
def test_every_description_can_be_spelt_and_read_again(phrasings: Phrasings) -> None:
    for combination in COMBINATIONS:
        for template in Descriptions.load().templates[combination.letters][phrasings]:
            for text in filled(template):
                assert not re.search(r"[{}]|\b[aA] [aeiou]|  ", text), text
                assert sentence([BEGIN, *spell(text), END, PAD]) == text
                assert len(spell(text)) < LONGEST, text


def test_no_word_is_superfluous_or_there_twice() -> None:
    book = Descriptions.load()
    texts = [
        text for letters, phrasings in product((c.letters for c in COMBINATIONS), SPLITS) for text in book.templates[letters][phrasings]
    ]
    needed = {word for text in (*texts, *(f"{{{slot}}}" for slot in (*SENSE_OF, *VALUES))) for said in filled(text) for word in split(said)}
    assert set(vocabulary()[3:]) == needed
    assert len(set(vocabulary())) == len(vocabulary())
    assert [vocabulary()[place] for place in (PAD, BEGIN, END)] == ["<pad>", "<begin>", "<end>"]


def test_marks_are_words_and_hyphens_are_not() -> None:
    assert split("listen: a cube's print, medium-hard") == ["listen", ":", "a", "cube", "'s", "print", ",", "medium-hard"]


def test_targets_end_and_are_padded(rng: np.random.Generator) -> None:
    thing = Attributes("red", "box", "small", "soft", "rough", "wood", "low tone")
    said = [describe(thing, combination, rng) for combination in COMBINATIONS]
    rows = targets(said)
    assert rows.shape == (7, LONGEST)
    assert [sentence(row) for row in rows] == said
    for row, text in zip(rows, said, strict=True):
        length = len(spell(text))
        assert row[length] == END
        assert (row[length + 1 :] == PAD).all()
        assert (row[:length] > END).all()


def test_other_words_and_long_sentences_are_one_line() -> None:
    with pytest.raises(HandsightError, match="got 'zebra'"):
        spell("it looks like a zebra")
    with pytest.raises(HandsightError, match="at most 3 words, got 4"):
        targets(["it looks red and"], length=4)


def test_a_word_names_one_attribute() -> None:
    """So that what a sentence says of each attribute can be read off its words."""
    book = Descriptions.load()
    said = [(words, name) for name, values in VALUES.items() for value in values for words in book.words_for(name, value)]
    assert len({words for words, _ in said}) == len(set(said))
