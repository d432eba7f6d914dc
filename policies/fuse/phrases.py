"""From grounding labels to training texts: what each combination of senses can truthfully say at a frame, in many phrasings.

Axes: B batch, C the seven combinations (in the order of `COMBINATIONS`), P phrasings, L words of the decoder, W tokens of the text encoder.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handsight.sensors.describe import describe
from handsight.sensors.grounding import COMBINATIONS, VALUES, Attributes, Modality
from handsight.sensors.referent import Referent, speakable
from handsight.sensors.words import targets

PHRASINGS: Final = 32
"""Sentences kept for each meaning; the public code has 20."""

Tokenizer = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
"""Sentences -> ids (P, W) and mask (P, W) of the policy's text encoder."""
_Meaning = tuple[Modality, frozenset[tuple[str, str]]]
"""A combination and the attributes that it reveals."""


@dataclass(frozen=True)
class Texts:
    """One sentence for each combination and row."""

    words: Tensor  # (C, B, L) int64, ends in END, then PAD
    tokens: Tensor  # (C, B, W) int64
    mask: Tensor  # (C, B, W) bool
    ids: Tensor  # (C, B) int64, equal where two sentences mean the same
    valid: Tensor  # (C, B) bool, whether the sentence is true of what the policy can remember


class Phrasebook:
    """Draws sentences; those of a meaning are made once, from a seed of its own, and kept.

    Args:
        tokenizer: of the policy's text encoder.
        windows: control steps that the policy's touch and audio reach back over, now included.
        available: the senses that the policy has.
        respects_validity: without it (the public code), every combination speaks at every frame as far as its attributes are known,
            whether its senses have met the thing or not, and says nothing where they are not.
    """

    def __init__(self, tokenizer: Tokenizer, windows: tuple[int, int], available: Modality, *, respects_validity: bool = True) -> None:
        self._tokenizer = tokenizer
        self._windows = windows
        self._available = np.array([combination & available == combination for combination in COMBINATIONS])
        self._respects_validity = respects_validity
        self._places: dict[_Meaning, int] = {}
        self._books: list[tuple[Tensor, Tensor, Tensor]] = [self._book([""] * PHRASINGS)]  # place 0 says nothing
        self._tables = self._stacked()

    def draw(self, labels: Tensor, generator: torch.Generator | None = None) -> Texts:
        """Texts of grounding labels (B, 10), on the labels' device.

        Raises:
            HandsightError: rows that are no labels.
        """
        rows = labels.cpu().numpy()
        speaks = self._speaks(rows)  # (B, C)
        places = torch.from_numpy(self._find(rows, speaks))  # (C, B)
        device = labels.device
        draws = torch.randint(PHRASINGS, places.shape, generator=generator, device=generator.device if generator else None).cpu()
        words, tokens, mask = (table[places, draws].to(device) for table in self._tables)
        valid = torch.from_numpy(speaks.T).to(device) if self._respects_validity else torch.ones_like(places, dtype=torch.bool).to(device)
        return Texts(words.long(), tokens.long(), mask, places.to(device), valid)

    def rows(self, labels: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Places (count,) of random rows of labels (B, 10), those first of which some combination can speak."""
        speaks = torch.from_numpy(self._speaks(labels.cpu().numpy()).any(axis=1)).to(labels.device)
        u = torch.rand(len(labels), generator=generator, device=labels.device)
        return torch.topk(u + speaks, count).indices

    def _speaks(self, rows: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which combinations speak: (B, 10) -> (B, C)."""
        return speakable(rows, *self._windows) & self._available if self._respects_validity else _informed(rows)

    def _find(self, rows: NDArray[np.integer], speaks: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Place of each meaning in the tables, which grow by those that are new: (C, B)."""
        known = len(self._books)
        kinds, which = np.unique(rows[:, : len(VALUES)], axis=0, return_inverse=True)
        needed = np.zeros((len(kinds), len(COMBINATIONS)), bool)
        np.logical_or.at(needed, which, speaks)
        places = np.zeros(needed.shape, np.int64)
        for kind, combination in np.argwhere(needed):
            label = np.zeros(rows.shape[1], np.int16)
            label[: len(VALUES)] = kinds[kind]
            places[kind, combination] = self._place(Referent.of(label).attributes, COMBINATIONS[combination])
        if len(self._books) > known:
            self._tables = self._stacked()
        return np.where(speaks, places[which], 0).T

    def _place(self, attributes: Attributes, combination: Modality) -> int:
        meaning = (combination, frozenset(attributes.known(combination).items()))
        if meaning not in self._places:
            seed = zlib.crc32(repr((combination.value, sorted(meaning[1]))).encode())
            rng = np.random.default_rng(seed)
            self._places[meaning] = len(self._books)
            self._books.append(self._book([describe(attributes, combination, rng) for _ in range(PHRASINGS)]))
        return self._places[meaning]

    def _book(self, sentences: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        tokens, mask = self._tokenizer(sentences)
        return torch.from_numpy(targets(sentences)).to(torch.int16), tokens.to(torch.int32), mask

    def _stacked(self) -> tuple[Tensor, Tensor, Tensor]:
        words, tokens, mask = zip(*self._books, strict=True)
        return torch.stack(words), torch.stack(tokens), torch.stack(mask)


def _informed(rows: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which combinations have an attribute for each of their senses, met or not: (B, 10) -> (B, C)."""
    met = rows.copy()
    met[:, len(VALUES) :] = (0, 0, 1)
    return speakable(met, 1, 1)
