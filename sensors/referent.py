"""The grounding label of a frame: what a sentence about "what I see, feel or hear here" speaks of, and which senses may say so.

The referent is the thing that was most recently touched by a finger pad or heard; before the first touch or sound there is none. Its label
is a row of ten int16:

| columns | meaning |
|---|---|
| 0 to 6 | place of each attribute's value in `VALUES` (sensors/grounding.py), in the order of `Attributes`; -1 where it does not apply |
| 7, 8 | control steps since the referent was last touched, and since it last sounded: 0 now, -1 never |
| 9 | 1 if some of the referent is in view of a camera now, else 0 |

A sense may speak only of what its window of readings can still show, so which combinations may depends on the policy's memory; vision only
while a picture shows which of all things in view it was. B rows.
"""

from dataclasses import dataclass, fields
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import COMBINATIONS, NOTHING, REVEALED_BY, VALUES, Attributes, Modality
from handsight.sensors.types import GROUNDING_SIZE

NEVER: Final = -1
SHOWN: Final = 7
"""Control steps from touch or sound for which a picture shows what was met. Later the hand is on its way: half a second after a button was
pressed it is above the next one, and a policy that is told "red" there learns to say of every button what its neighbor looks like."""
TOUCHED, HEARD, VISIBLE = len(VALUES), len(VALUES) + 1, len(VALUES) + 2  # columns after the attributes
_NOTHING_SAID: Final = Attributes()
_LONGEST: Final = int(np.iinfo(np.int16).max)


@dataclass(frozen=True)
class Referent:
    """One label in words and numbers; the default is that there is no referent."""

    attributes: Attributes = _NOTHING_SAID
    since_touched: int = NEVER
    """Control steps; 0 now."""
    since_heard: int = NEVER
    visible: bool = False

    @classmethod
    def of(cls, row: NDArray[np.integer]) -> Self:
        """The inverse of `row`; of any integer type, (10,)."""
        require_rows(row)
        words = {name: values[place] if (place := int(row[i])) >= 0 else "" for i, (name, values) in enumerate(VALUES.items())}
        return cls(Attributes(**words), int(row[TOUCHED]), int(row[HEARD]), bool(row[VISIBLE]))

    def row(self) -> NDArray[np.int16]:
        """The label, (10,) int16.

        Raises:
            HandsightError: an attribute has a value that `VALUES` does not list.
        """
        places = [_place(field.name, getattr(self.attributes, field.name)) for field in fields(Attributes)]
        times = [min(self.since_touched, _LONGEST), min(self.since_heard, _LONGEST)]
        return np.array([*places, *times, self.visible], np.int16)

    def evidence(self, touch_window: int, audio_window: int) -> Modality:
        """The senses whose last readings still show the referent: touch and audio reach back over so many control steps, now included."""
        met = _met(self.since_touched, self.since_heard, self.visible, touch_window, audio_window)
        return Modality(sum(sense.value for sense, shown in met.items() if shown))


def _place(name: str, value: str) -> int:
    if not value:
        return NEVER
    if value not in VALUES[name]:
        raise HandsightError(
            f"expected {name} to be one of {', '.join(VALUES[name])}, got {value!r}; append it to VALUES in sensors/grounding.py"
        )
    return VALUES[name].index(value)


def speakable(rows: NDArray[np.integer], touch_window: int, audio_window: int) -> NDArray[np.bool_]:
    """Which of the seven COMBINATIONS can truthfully describe each referent now: rows (B, 10) -> (B, 7).

    All senses of the combination have met the referent within the policy's memory (`Referent.evidence`), and reveal some attribute that
    applies to it: `describable` of sensors/grounding.py for many frames at once.
    """
    require_rows(rows)
    met = _met(rows[:, TOUCHED], rows[:, HEARD], rows[:, VISIBLE] > 0, touch_window, audio_window)
    applies = rows[:, : len(VALUES)] >= 0
    speaks = {sense: met[sense] & applies[:, _revealed(sense)].any(axis=1) for sense in Modality}  # each (B,)
    return np.stack([np.all([speaks[sense] for sense in combination], axis=0) for combination in COMBINATIONS], axis=1)


def _met(touched: Any, heard: Any, visible: Any, touch_window: int, audio_window: int) -> dict[Modality, Any]:
    """Which senses have met a referent, from the steps since it was touched and heard and whether it is in view: numbers, or (B,) each."""

    def within(since: Any, window: int) -> Any:
        return (since >= 0) & (since < window)

    shown = within(touched, SHOWN) | within(heard, SHOWN)
    return {Modality.VISION: visible & shown, Modality.TOUCH: within(touched, touch_window), Modality.AUDIO: within(heard, audio_window)}


def _revealed(senses: Modality) -> list[int]:
    """Columns of the attributes that any of the senses reveals."""
    return [i for i, name in enumerate(VALUES) if REVEALED_BY[name] & senses != NOTHING]


def require_rows(rows: NDArray[np.integer]) -> None:
    """Raises HandsightError unless this is one label or many, by their last axis and type."""
    if rows.shape[-1:] != (GROUNDING_SIZE,) or rows.dtype.kind not in "iu":
        raise HandsightError(
            f"expected grounding labels as integers (..., {GROUNDING_SIZE}), got {rows.dtype} {rows.shape}; "
            "pass observation.label.grounding as it was recorded"
        )
