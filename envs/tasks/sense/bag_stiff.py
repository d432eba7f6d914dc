"""Take the ball that the instruction describes, the soft or the hard one, out of an opaque bag; one ball differs from the other two."""

import numpy as np
from numpy.typing import NDArray

from handsight.envs.randomize import Ranges
from handsight.envs.tasks.sense.bag import SMOOTH, Bag, BagExpert, Filling, hidden_look, odd_one_out

SOFT_BELOW = 46.0  # squeeze statistic [kPa/N^(1/3)] that tells soft from hard
FIRMEST = 16  # taxels whose mean stands for the peak: one taxel at the edge of a pad presses harder than Hertz says
PAD_AREA = 0.018**2  # [m^2]


def squeeze_statistic(touch: NDArray[np.float32]) -> float:
    """Peak pressure over the cube root of the force on the more loaded pad [kPa/N^(1/3)]; 0 without contact.

    Hertz: p0 = (6 F E*^2 / (pi^3 R^2))^(1/3), so the ratio measures E* (and, less, the radius R) whatever the force. The peak is the mean
    of the FIRMEST taxels. touch: (2, 3, 16, 16) [kPa].
    """
    normal = touch[:, 0].reshape(2, -1)
    force = normal.mean(axis=1) * 1000 * PAD_AREA
    pad = int(force.argmax())
    return float(np.sort(normal[pad])[-FIRMEST:].mean() / np.cbrt(force[pad])) if force[pad] > 0.5 else 0.0


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
