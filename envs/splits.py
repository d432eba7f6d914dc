"""Which scenes a policy is trained on and which are held out: new combinations, new objects, new tasks.

Membership is a fixed function of names, so that it is the same for every seed, machine and version of NumPy; an episode of a split is
a function of its seed. Seeds themselves are split by convention: 0 and on for demonstrations, 1000 and on for development, 5000 and on for
reported tables.

Within TRAIN or NEW_COMBINATION a value and what it is paired with, often a place, tell something of each other; that a sensor is needed is
therefore shown on ANY.
"""

import enum
import hashlib
from typing import Final

import numpy as np

from handsight.sensors.errors import HandsightError

# chosen so that every task has scenes of both kinds and trains on every value (tests/envs/test_splits.py)
_SALT: Final = "handsight-1700"
HELD_OUT_SHARE: Final = 0.2
NEW_TASKS: Final = (
    "assist/put_on_hat",
    "assist/brush_teeth",
    "sense/bag_color_feel",
    "sense/grasp_by_button",
    "sense/press_describe_press",
)
"""Tasks that no multi-task policy is trained on when transfer to new tasks is reported."""


class Split(enum.StrEnum):
    """Which scenes are drawn."""

    ANY = "any"
    """Every combination of the training objects."""
    TRAIN = "train"
    """Without the held-out combinations."""
    NEW_COMBINATION = "new_combination"
    """Only held-out combinations of known values."""
    NEW_OBJECT = "new_object"
    """Sizes and variants that no other split has."""

    @classmethod
    def parse(cls, name: str) -> "Split":
        """By its value. Raises HandsightError for an unknown one."""
        if name not in list(cls):
            raise HandsightError(f"expected --env.split to be one of {', '.join(cls)}, got '{name}'")
        return cls(name)


def held_out(combination: tuple[str, ...]) -> bool:
    """Whether this combination of values belongs to NEW_COMBINATION and not to TRAIN."""
    digest = hashlib.sha256("/".join((_SALT, *combination)).encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def admits(split: Split, combination: tuple[str, ...]) -> bool:
    """Whether an episode with this combination may occur in the split."""
    if split is Split.TRAIN:
        return not held_out(combination)
    return split is not Split.NEW_COMBINATION or held_out(combination)


def spread(rng: np.random.Generator, split: Split, low: float, high: float, beyond: float = 0.3) -> float:
    """A size uniform in [low, high]; for NEW_OBJECT outside, by at most `beyond` of that width on either side."""
    value = float(rng.uniform(low, high))
    if split is not Split.NEW_OBJECT:
        return value
    share = (value - low) / (high - low)  # in [0, 1]
    width = beyond * (high - low)
    return low - width * (1 - 2 * share) if share < 0.5 else high + width * (2 * share - 1)
