"""Says in a sentence what a thing is like, by exactly the senses that are asked for (data in phrasings/descriptions.json).

A template has slots of two kinds: attributes, `{color}`, and predicates, `{look}`, `{feel}` and `{noise}`, which are what one sense says in
words of its own, "looks {color}", and in turn have attributes.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Final

import numpy as np

from handsight.envs.instructions import Phrasings
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import REVEALED_BY, Attributes, Modality

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
        """Reads phrasings/descriptions.json."""
        book = json.loads(files("handsight.envs").joinpath("phrasings/descriptions.json").read_text())
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


def slots(text: str) -> set[str]:
    """Names in braces."""
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def describe(attributes: Attributes, combination: Modality, rng: np.random.Generator, phrasings: Phrasings = "train") -> str:
    """A sentence that each sense of `combination` contributes to and no other one is needed for; all choices are uniform.

    Whether the senses have met the thing is for the caller to know (`describable` in sensors/grounding.py).

    Raises:
        HandsightError: a sense of the combination has nothing to say of the thing, or the combination is empty.
    """
    silent = [str(sense.name).lower() for sense in combination if not attributes.known(sense)]
    if silent or not combination:
        raise HandsightError(
            f"expected a combination of senses that can each describe {attributes}, got {combination.letters or 'none'}"
            f"{', of which ' + ' and '.join(silent) + ' cannot' if silent else ''}; choose one that `describable` fills"
        )
    book, known = Descriptions.load(), attributes.known(combination)
    template = str(rng.choice(book.fitting(combination, phrasings, known)))
    chosen = {slot: str(rng.choice(book.says(slot, known))) for slot in sorted(slots(template) & SENSE_OF.keys())}
    words = {name: str(rng.choice(book.words[name].get(value, (value,)))) for name, value in known.items()}
    return template.format(**words, **{slot: text.format(**words) for slot, text in chosen.items()})
