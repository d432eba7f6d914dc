"""The language table of FuSe's public code: nine texts for each instruction, which of them are true, and rephrasings of each.

| slot | text | slot | text | slot | text |
|---|---|---|---|---|---|
| 0 | simple: the instruction | 3 | T: what it feels like | 6 | VA |
| 1 | empty, unused | 4 | A: what it sounds like | 7 | TA |
| 2 | V: what it looks like | 5 | VT | 8 | VTA |

Two JSON files (datasets_rb/language.schema.json): `{"rephrase": {simple: "slot 0|slot 1|...|slot 8"}, "valid": {simple: bits}}` with bit i
for slot i, and `{text: "20 rephrasings, separated by |"}`. (Jones et al., "Beyond Sight", arXiv 2501.04693; the format as read in its
public code.) B frames.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from handsight.datasets_rb.language_files import read_checked
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import COMBINATIONS, Modality

SLOTS: Final = 9
SIMPLE, EMPTY = 0, 1
SLOT_OF: Final[dict[Modality, int]] = {combination: 2 + place for place, combination in enumerate(COMBINATIONS)}
DRAWN: Final = tuple(slot for slot in range(SLOTS) if slot != EMPTY)
"""The slots that an instruction is drawn from: simple and the seven combinations."""
REPHRASINGS: Final = 20
REPHRASE: Final = 0.5
"""Chance that a text is replaced by one of its rephrasings."""


@dataclass(frozen=True)
class LanguageTable:
    """The content of both files.

    Raises:
        HandsightError: other instructions with validity bits than with texts, a text that is said to be valid but is empty, or a separator
            inside a text.
    """

    texts: Mapping[str, tuple[str, ...]]
    """By instruction: nine texts."""
    valid: Mapping[str, tuple[bool, ...]]
    """By instruction: which of them are true of its episodes."""
    rephrasings: Mapping[str, tuple[str, ...]]
    """By text; a text that is not here stays as it is."""

    def __post_init__(self) -> None:
        if set(self.texts) != set(self.valid):
            odd = sorted(set(self.texts) ^ set(self.valid))[0]
            raise HandsightError(f"expected texts and validity bits for the same instructions, got only one of them for {odd!r}")
        for simple, texts in self.texts.items():
            _require_slots(simple, texts, self.valid[simple])
        for text, others in self.rephrasings.items():
            if len(others) != REPHRASINGS or any(not other or "|" in other for other in others):
                raise HandsightError(f"expected {REPHRASINGS} rephrasings without '|' of {text!r}, got {list(others)[:3]}...")

    @classmethod
    def read(cls, modal: Path, rephrasings: Path) -> Self:
        """Both files. Raises HandsightError where they are not as the schema says."""
        book, others = read_checked(modal, "modal"), read_checked(rephrasings, "rephrasings")
        return cls(
            {simple: tuple(line.split("|")) for simple, line in book["rephrase"].items()},
            {simple: tuple(bool(bits >> slot & 1) for slot in range(SLOTS)) for simple, bits in book["valid"].items()},
            {text: tuple(line.split("|")) for text, line in others.items()},
        )

    def write(self, modal: Path, rephrasings: Path) -> None:
        """The inverse of `read`."""
        lines = {simple: "|".join(texts) for simple, texts in self.texts.items()}
        bits = {simple: sum(1 << slot for slot, true in enumerate(valid) if true) for simple, valid in self.valid.items()}
        modal.write_text(json.dumps({"rephrase": lines, "valid": bits}, indent=1) + "\n")
        rephrasings.write_text(json.dumps({text: "|".join(others) for text, others in self.rephrasings.items()}, indent=1) + "\n")

    def validity(self, instructions: Sequence[str]) -> NDArray[np.bool_]:
        """(B, 9). Raises HandsightError for an instruction that the table does not have."""
        return np.array([self.valid[self._known(simple)] for simple in instructions], bool).reshape(-1, SLOTS)

    def sample(self, instructions: Sequence[str], rng: np.random.Generator) -> list[tuple[str, ...]]:
        """Nine texts for each of B frames, each replaced with chance REPHRASE, independently, by any of its rephrasings.

        Raises HandsightError for an instruction that the table does not have.
        """
        replaced = rng.random((len(instructions), SLOTS)) < REPHRASE
        chosen = rng.integers(REPHRASINGS, size=replaced.shape)
        return [
            tuple(
                self.rephrasings[text][place] if new and text in self.rephrasings else text
                for text, new, place in zip(self.texts[self._known(simple)], *row, strict=True)
            )
            for simple, *row in zip(instructions, replaced.tolist(), chosen.tolist(), strict=True)
        ]

    def _known(self, simple: str) -> str:
        if simple not in self.texts:
            raise HandsightError(f"expected an instruction of the language table, got {simple!r}; add its nine texts")
        return simple


def _require_slots(simple: str, texts: Sequence[str], valid: Sequence[bool]) -> None:
    if len(texts) != SLOTS or len(valid) != SLOTS or any("|" in text for text in texts) or not texts[SIMPLE] or texts[EMPTY]:
        raise HandsightError(f"expected nine texts without '|' for {simple!r}, the first said and the second empty, got {list(texts)}")
    blank = [slot for slot in DRAWN if valid[slot] and not texts[slot]]
    if blank:
        raise HandsightError(f"expected a text in every valid slot of {simple!r}, got none in slot {blank[0]}; clear its bit")


def draw_slots(valid: NDArray[np.bool_], rng: np.random.Generator, *, respect_validity: bool = True) -> NDArray[np.int64]:
    """The slot of each frame's instruction: valid (B, 9) -> (B,), uniform over the DRAWN slots that are valid.

    Simple may always be drawn: an instruction is what the episode was recorded with. With `respect_validity=False`, as in the public code,
    all eight are drawn alike, whether they are true or not.
    """
    allowed = valid[:, DRAWN] if respect_validity else np.ones((len(valid), len(DRAWN)), bool)
    allowed = allowed | (np.array(DRAWN) == SIMPLE)
    keys = np.where(allowed, rng.random(allowed.shape), -1.0)  # the largest of independent uniform keys is uniform over them
    return np.array(DRAWN)[keys.argmax(axis=1)]
