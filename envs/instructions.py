"""Instructions in natural language: phrasings in data files, split into those for training and those held out."""

import json
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from handsight.sensors.describe import Phrasings


@dataclass(frozen=True)
class Phrasebook:
    """Phrasings of one task. `{slot}` in a phrasing is filled with one of the words listed for the attribute's value."""

    train: tuple[str, ...]
    heldout: tuple[str, ...]
    words: dict[str, dict[str, list[str]]]

    @classmethod
    def load(cls, name: str) -> "Phrasebook":
        """Reads phrasings/<name>.json."""
        book = json.loads(files("handsight.envs").joinpath(f"phrasings/{name}.json").read_text())
        return cls(tuple(book["train"]), tuple(book["heldout"]), book["words"])

    def phrase(self, rng: np.random.Generator, split: Phrasings, **attributes: str) -> str:
        """One phrasing of the split with every attribute put into words, both drawn uniformly."""
        phrasing = str(rng.choice(self.train if split == "train" else self.heldout))
        chosen = {slot: str(rng.choice(self.words[slot].get(value, [value]))) for slot, value in attributes.items()}
        return phrasing.format(**chosen)
