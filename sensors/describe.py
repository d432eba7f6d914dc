"""Says in a sentence what a thing is like, by exactly the senses that are asked for (data in sensors/descriptions.json).

A template has slots of two kinds: attributes, `{color}`, and predicates, `{look}`, `{feel}` and `{noise}`, which are what one sense says in
words of its own, "looks {color}", and in turn have attributes.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Final, Literal

import numpy as np

from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import REVEALED_BY, Attributes, Modality

Phrasings = Literal["train", "heldout"]
"""Which sentences: those that policies are trained with, or others with the same meaning."""
SENSE_OF: Final = {"look": Modality.VISION, "feel": Modality.TOUCH, "noise": Modality.AUDIO}


@dataclass(frozen=True)
class Descriptions:
    """The data."""

    templates: Mapping[str, Mapping[Phrasings, tuple[str, ...]]]
    """By letters of the combination and split."""
    predicates: Mapping[str, tuple[str, ...]]
    words: Mapping[str, Mapping[str, tuple[str, ...]]]
    """What may be said for a value of an attribute; other values stand for themselves."""

    @classmethod
    @cache
    def load(cls) -> "Descriptions":
        """Reads descriptions.json."""
        book = json.loads(files("handsight.sensors").joinpath("descriptions.json").read_text())
        predicates, words = book.pop("predicates"), book.pop("words")
        return cls(book, predicates, words)

    def fitting(self, combination: Modality, phrasings: Phrasings, known: Iterable[str]) -> list[str]:
        """Templates of the combination all of whose slots can be filled from the `known` attributes."""
        templates = self.templates[combination.letters][phrasings]
        return [template for template in templates if all(slot in known or self.says(slot, known) for slot in slots(template))]

    def says(self, predicate: str, known: Iterable[str]) -> list[str]:
        """What a sense can say with the `known` attributes, of those that it reveals itself; empty for what is no predicate."""
        revealed = {name for name in known if REVEALED_BY[name] & SENSE_OF.get(predicate, Modality(0))}
        return [text for text in self.predicates.get(predicate, ()) if slots(text) <= revealed]

    def words_for(self, name: str, value: str) -> tuple[str, ...]:
        """The synonyms of an attribute's value."""
        return tuple(self.words[name].get(value, (value,)))


@dataclass(frozen=True)
class _Form:
    """A template with all that may fill it."""

    template: str
    predicates: tuple[tuple[str, tuple[str, ...]], ...]
    """Of each predicate slot: what its sense can say."""


@cache
def _forms(combination: Modality, phrasings: Phrasings, known: frozenset[str]) -> tuple[_Form, ...]:
    """All that can be said; kept, because training asks thousands of times a second."""
    book = Descriptions.load()
    return tuple(
        _Form(template, tuple((slot, tuple(book.says(slot, known))) for slot in sorted(slots(template) & SENSE_OF.keys())))
        for template in book.fitting(combination, phrasings, known)
    )


@cache
def _known(attributes: Attributes, combination: Modality) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Name and synonyms of each attribute that the combination reveals.

    Raises HandsightError if one of its senses, or all of them, have nothing to say.
    """
    silent = [str(sense.name).lower() for sense in combination if not attributes.known(sense)]
    if silent or not combination:
        raise HandsightError(
            f"expected a combination of senses that can each describe {attributes}, got {combination.letters or 'none'}"
            f"{', of which ' + ' and '.join(silent) + ' cannot' if silent else ''}; choose one that `describable` fills"
        )
    book = Descriptions.load()
    return tuple((name, book.words_for(name, value)) for name, value in attributes.known(combination).items())


def slots(text: str) -> set[str]:
    """Names in braces."""
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def describe(attributes: Attributes, combination: Modality, rng: np.random.Generator, phrasings: Phrasings = "train") -> str:
    """A sentence that each sense of `combination` contributes to and no other one is needed for; all choices are uniform.

    Whether the senses have met the thing is for the caller to know (`describable` in sensors/grounding.py, `speakable` in
    sensors/referent.py).

    Raises:
        HandsightError: a sense of the combination has nothing to say of the thing, or the combination is empty.
    """
    known = _known(attributes, combination)
    forms = _forms(combination, phrasings, frozenset(name for name, _ in known))
    dice = iter(rng.random(1 + len(SENSE_OF) + len(known)).tolist())  # at once: a draw of its own costs as much as the sentence

    def pick[T](options: tuple[T, ...]) -> T:
        return options[int(next(dice) * len(options))]

    form = pick(forms)
    chosen = {slot: pick(texts) for slot, texts in form.predicates}
    words = {name: pick(synonyms) for name, synonyms in known}
    return form.template.format(**words, **{slot: text.format(**words) for slot, text in chosen.items()})
