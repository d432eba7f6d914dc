"""Take the ball that the instruction describes, the soft or the hard one, out of an opaque bag; one ball differs from the other two."""

import numpy as np
from numpy.typing import NDArray

from handsight.envs.randomize import Ranges
from handsight.envs.tasks.sense.bag import SMOOTH, Bag, BagExpert, Filling, hidden_look, odd_one_out

SOFT_BELOW = 33.0  # peak pressure over the root of the force [kPa/sqrt(N)] that tells soft from hard


def squeeze_statistic(touch: NDArray[np.float32]) -> float:
    """Peak pressure over the square root of the force on the more loaded pad [kPa/sqrt(N)]; 0 without contact.

    For a sphere on a Winkler foundation of modulus k, the peak is k*d and the force grows with k*d^2: the ratio measures k alone.
    touch: (2, 3, 16, 16) [kPa].
    """
    normal = touch[:, 0].reshape(2, -1)
    taxel_area = (0.018 / 16) ** 2  # [m^2]
    force = normal.sum(axis=1) * 1000 * taxel_area
    pad = int(force.argmax())
    return float(normal[pad].max() / np.sqrt(force[pad])) if force[pad] > 0.5 else 0.0


class StiffExpert(BagExpert):
    """Feels for stiffness."""

    def fit(self, touch: NDArray[np.float32]) -> float:
        above = squeeze_statistic(touch) - SOFT_BELOW
        return above if self.setup.attributes["stiffness"] == "hard" else -above


class BagStiff(Bag):
    """Three balls that look alike and weigh alike."""

    name = "sense/bag_stiff"
    phrases = "bag_stiff"
    expert = StiffExpert

    def fill(self, rng: np.random.Generator, ranges: Ranges) -> Filling:
        odd, stiffness = odd_one_out(rng, ("soft", "hard"), self.places)
        looks = tuple(hidden_look(rng, ranges, hardness=value) for value in stiffness)
        return Filling(looks, odd, {"stiffness": stiffness[odd]}, SMOOTH)
