"""The words of descriptions, as a decoder's closed vocabulary (data in sensors/words.txt, one a line).

Punctuation marks and the possessive 's are words of their own; case counts ("I" has the only capital). A word's place in the list is its
id, which trained decoders depend on: new words go at the end. B sentences, L words.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Final

import numpy as np
from numpy.typing import NDArray

from handsight.sensors.errors import HandsightError

PAD, BEGIN, END = 0, 1, 2
LONGEST: Final = 48
"""Words of the longest description that the templates allow, its END included, rounded up."""
_WORD: Final = re.compile(r"'s\b|\w+(?:-\w+)*|[^\w\s]")


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word by id, from `<pad>`, `<begin>` and `<end>` on."""
    return tuple(files("handsight.sensors").joinpath("words.txt").read_text().split("\n")[:-1])


@cache
def _ids() -> dict[str, int]:
    return {word: place for place, word in enumerate(vocabulary())}


def split(sentence: str) -> list[str]:
    """The words of a sentence, known or not."""
    return _WORD.findall(sentence)


def spell(sentence: str) -> list[int]:
    """Ids of a sentence's words, without BEGIN and END.

    Raises:
        HandsightError: a word that no description has.
    """
    ids = _ids()
    words = split(sentence)
    unknown = [word for word in words if word not in ids]
    if unknown:
        raise HandsightError(f"expected words of descriptions, got {unknown[0]!r} in {sentence!r}; append it to sensors/words.txt")
    return [ids[word] for word in words]


def targets(sentences: Sequence[str], length: int = LONGEST) -> NDArray[np.int64]:
    """What a decoder should say, (B, L): the words of each sentence, END, and PAD up to `length`.

    Raises:
        HandsightError: a sentence that is too long, or with a word that no description has.
    """
    rows = np.full((len(sentences), length), PAD, np.int64)
    for row, sentence in zip(rows, sentences, strict=True):
        ids = [*spell(sentence), END]
        if len(ids) > length:
            raise HandsightError(
                f"expected at most {length - 1} words, got {len(ids) - 1} in {sentence!r}; raise LONGEST in sensors/words.py"
            )
        row[: len(ids)] = ids
    return rows


def sentence(ids: Iterable[int]) -> str:
    """What a decoder said: the words before the first END, spaced as they are written; the inverse of `spell`."""
    words: list[str] = []
    for number in ids:
        if number == END:
            break
        if number not in (PAD, BEGIN):
            words.append(vocabulary()[number])
    return re.sub(r" (?='s\b|[^\w\s'])", "", " ".join(words))
