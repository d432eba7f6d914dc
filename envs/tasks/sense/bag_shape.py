"""Take the object of the described shape out of an opaque bag; a ball, a can and a cube lie in it in any order."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from handsight.envs.props import SHAPES
from handsight.envs.randomize import Ranges
from handsight.envs.tasks.sense.bag import SMOOTH, Bag, BagExpert, Filling, hidden_look

PRINTS: Final = {"sphere": (2.1, 2.1), "cylinder": (1.6, 5.2), "box": (5.3, 5.3)}
"""Spread of the contact patch of each shape along columns and rows [taxels]."""
TOLERANCE = 1.5  # [taxels], half the distance between the two prints that are closest


def contact_patch(touch: NDArray[np.float32]) -> tuple[float, float]:
    """Spread of the pressure on the more loaded pad along columns and rows: standard deviations [taxels]; (0, 0) without contact.

    Needs no threshold, so that neither sensor noise nor the steep edge of a punch moves it. A sphere's is a / sqrt(5) each way for Hertz's
    contact radius a, a cylinder's b / 2 across for the half width b. touch: (2, 3, 16, 16) [kPa].
    """
    pressure = touch[int(touch[:, 0].sum(axis=(1, 2)).argmax()), 0].astype(np.float64)
    if pressure.max() < 1.0:
        return 0.0, 0.0
    return _spread(pressure.sum(axis=0)), _spread(pressure.sum(axis=1))


def _spread(profile: NDArray[np.float64]) -> float:
    index = np.arange(len(profile))
    centre = np.average(index, weights=profile)
    return float(np.sqrt(max(np.average((index - centre) ** 2, weights=profile), 0.0)))


class ShapeExpert(BagExpert):
    """Feels for the contact patch."""

    def fit(self, touch: NDArray[np.float32]) -> float:
        wanted = PRINTS[self.setup.attributes["shape"]]
        return TOLERANCE - float(np.hypot(*(np.array(contact_patch(touch)) - wanted)))


class BagShape(Bag):
    """Three shapes of one stiffness and surface."""

    name = "sense/bag_shape"
    phrases = "bag_shape"
    expert = ShapeExpert

    def fill(self, rng: np.random.Generator, ranges: Ranges) -> Filling:
        shapes = [str(shape) for shape in rng.permutation(list(SHAPES))]
        target = int(rng.integers(self.places))
        return Filling(tuple(hidden_look(rng, ranges, shape=shape) for shape in shapes), target, {"shape": shapes[target]}, SMOOTH)
