"""Take the object of the described shape out of an opaque bag; a ball, a can and a cube lie in it in any order."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from handsight.envs.props import SHAPES
from handsight.envs.randomize import Ranges
from handsight.envs.tasks.sense.bag import SMOOTH, Bag, BagExpert, Filling, hidden_look

SHARE = 0.2  # of the peak pressure, above which a taxel counts as pressed
PRINTS: Final = {"sphere": (10.0, 10.0), "cylinder": (7.5, 16.0), "box": (16.0, 16.0)}
"""Width and height of the contact patch of each shape [taxels]."""
TOLERANCE = 3.0  # [taxels]


def contact_patch(touch: NDArray[np.float32]) -> tuple[int, int]:
    """Width and height [taxels] of what is pressed on the more loaded pad; (0, 0) without contact. touch: (2, 3, 16, 16) [kPa]."""
    pressure = touch[int(touch[:, 0].sum(axis=(1, 2)).argmax()), 0]
    if pressure.max() < 1.0:
        return 0, 0
    pressed = pressure > SHARE * pressure.max()
    return int(pressed.any(axis=0).sum()), int(pressed.any(axis=1).sum())


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
