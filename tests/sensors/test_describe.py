"""Descriptions: enough of them, held-out ones are other sentences, and each sense says only what it reveals."""

import re
from itertools import product

import numpy as np
import pytest

from handsight.sensors.describe import SENSE_OF, Descriptions, Phrasings, describe, slots
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import COMBINATIONS, REVEALED_BY, Attributes, Modality

TRAIN, HELDOUT = 20, 6
SPLITS: tuple[Phrasings, ...] = ("train", "heldout")
THING = Attributes("orange", "box", "small", "soft", "rough", "metal", "low tone")


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda combination: combination.letters)
def test_a_combination_has_enough_descriptions_of_exactly_its_senses(combination: Modality) -> None:
    book = Descriptions.load()
    train, heldout = (book.templates[combination.letters][split] for split in SPLITS)
    assert len(set(train)) == len(train) >= TRAIN
    assert len(set(heldout)) == len(heldout) >= HELDOUT
    assert not set(train) & set(heldout)
    for template in (*train, *heldout):
        told = [SENSE_OF.get(slot) or REVEALED_BY[slot] & combination for slot in slots(template)]
        assert all(told), template
        assert all(sense in combination for senses in told for sense in senses), template
        assert all(any(sense & senses for senses in told) for sense in combination), template


def test_a_sense_says_only_what_it_reveals() -> None:
    book = Descriptions.load()
    for predicate, sense in SENSE_OF.items():
        assert all(REVEALED_BY[slot] & sense for text in book.predicates[predicate] for slot in slots(text))
        alone = {name for name, senses in REVEALED_BY.items() if senses & sense}
        assert all(book.says(predicate, {name}) for name in alone), "needed for things with that attribute alone"


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda combination: combination.letters)
def test_descriptions_read_well_however_little_is_known(combination: Modality, split: Phrasings, rng: np.random.Generator) -> None:
    told = [[name for name, senses in REVEALED_BY.items() if senses & sense] for sense in combination]
    things = [THING, *(Attributes(**{name: getattr(THING, name) for name in names}) for names in product(*told))]
    for thing in things:
        for _ in range(20):
            sentence = describe(thing, combination, rng, split)
            assert not re.search(r"[{}]|\b[aA] [aeiou]|  ", sentence), sentence


def test_descriptions_vary_and_are_reproducible() -> None:
    first, second = (
        [describe(THING, Modality.VISION | Modality.TOUCH, rng) for _ in range(50)] for rng in map(np.random.default_rng, (3, 3))
    )
    assert first == second
    assert len(set(first)) > 25


@pytest.mark.parametrize("combination", [Modality.AUDIO, Modality.VISION | Modality.AUDIO, Modality(0)])
def test_what_cannot_be_described_is_refused(combination: Modality, rng: np.random.Generator) -> None:
    with pytest.raises(HandsightError, match="expected a combination of senses") as caught:
        describe(Attributes(color="red", shape="box"), combination, rng)
    assert "\n" not in str(caught.value)
