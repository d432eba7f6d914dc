"""The frames of a demonstration in which touch or sound has just begun to say something: where what is felt and heard decides.

N frames.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from handsight.sensors.referent import HEARD, NEVER, TOUCHED, require_rows

QUIET: Final = 10
"""Control steps without touch or sound after which the next one is a new encounter."""
FIRST: Final = 2
"""Control steps after its beginning when an encounter has said something."""
LAST: Final = {TOUCHED: 10, HEARD: 20}
"""Control steps after its beginning when what follows from it is under way: a squeeze is felt at once, a sound is listened to."""


def encounters(labels: NDArray[np.integer], starts: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which frames lie from FIRST to LAST steps after the beginning of a touch or a sound.

    Args:
        labels: grounding labels (N, 10) of whole episodes, one after another.
        starts: place of each episode's first frame.

    Raises:
        HandsightError: rows that are no labels.
    """
    require_rows(labels)
    frame = np.arange(len(labels))
    first = np.zeros(len(labels), bool)
    first[starts] = True
    within = np.zeros(len(labels), bool)
    for column, last in LAST.items():
        since = labels[:, column]
        before = np.where(first, NEVER, np.roll(since, 1))
        begins = (since == 0) & ((before == NEVER) | (before >= QUIET))
        latest = np.maximum.accumulate(np.where(begins, frame, -1))
        own = latest >= np.maximum.accumulate(np.where(first, frame, 0))  # not of an earlier episode
        within |= own & (frame - latest >= FIRST) & (frame - latest <= last)
    return within
