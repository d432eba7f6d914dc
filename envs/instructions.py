"""Instructions in natural language: phrasings in data files, split into those for training and those held out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import product
from typing import Any, Self

import numpy as np

from handsight.sensors.describe import Phrasings, slots
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import VALUES


@dataclass(frozen=True)
class Phrasebook:
    """Phrasings of one task. `{slot}` in a phrasing is filled with one of the words listed for the attribute's value."""

    train: tuple[str, ...]
    heldout: tuple[str, ...]
    words: dict[str, dict[str, list[str]]]
    modality: str = ""
    """The senses that the phrasings speak to, such as VT."""
    partial: Mapping[str, "Phrasebook"] = field(default_factory=dict)
    """By modality: phrasings that speak to some of these senses only, and so leave open which thing is meant."""

    @classmethod
    def load(cls, name: str) -> Self:
        """Reads phrasings/<name>.json."""
        return cls.of(json.loads(files("handsight.envs").joinpath(f"phrasings/{name}.json").read_text()))

    @classmethod
    def of(cls, book: Mapping[str, Any]) -> Self:
        """From the content of such a file."""
        partial = {
            modality: cls(tuple(some["train"]), tuple(some["heldout"]), book["words"], modality)
            for modality, some in book.get("partial", {}).items()
        }
        return cls(tuple(book["train"]), tuple(book["heldout"]), book["words"], book["modality"], partial)

    def speaking(self, modality: str) -> "Phrasebook":
        """The phrasings that speak to these senses alone; "" are the task's own.

        Raises HandsightError where the task has none.
        """
        if modality in ("", self.modality):
            return self
        if modality not in self.partial:
            known = " or ".join(filter(None, (self.modality, *self.partial)))
            raise HandsightError(f"expected --env.prompt={known or 'nothing'} with this task, got {modality}; leave it out for its own")
        return self.partial[modality]

    def named(self, attributes: Mapping[str, str]) -> dict[str, str]:
        """Those of a thing's attributes that the phrasings have a slot for."""
        known = {slot for phrasing in self.train for slot in slots(phrasing)}
        return {name: value for name, value in attributes.items() if name in known}

    def meanings(self) -> list[list[str]]:
        """All that the training split can say, by what is meant: for the same values, every phrasing of them in every choice of words.

        Where a slot has no words for any value, its values are all of sensors/grounding.py's. Partial phrasings are meanings of their own.
        """
        found: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for phrasing in self.train:
            names = sorted(slots(phrasing))
            for values in product(*(self.words.get(name) or VALUES.get(name, ()) for name in names)):
                meant = tuple(zip(names, values, strict=True))
                fillings = product(*(self.words.get(name, {}).get(value, [value]) for name, value in meant))
                found.setdefault(meant, []).extend(phrasing.format(**dict(zip(names, words, strict=True))) for words in fillings)
        return [*found.values(), *(meaning for book in self.partial.values() for meaning in book.meanings())]

    def phrase(self, rng: np.random.Generator, split: Phrasings, **attributes: str) -> str:
        """One phrasing of the split with every attribute put into words, both drawn uniformly."""
        phrasing = str(rng.choice(self.train if split == "train" else self.heldout))
        chosen = {slot: str(rng.choice(self.words[slot].get(value, [value]))) for slot, value in attributes.items()}
        return phrasing.format(**chosen)
