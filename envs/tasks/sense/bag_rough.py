"""Take the ball with the described surface, rough or smooth, out of an opaque bag; one ball differs from the other two."""

import numpy as np
from numpy.typing import NDArray

from handsight.envs.randomize import Ranges
from handsight.envs.tasks.sense.bag import Bag, BagExpert, Filling, hidden_look, odd_one_out

TEXTURE = 0.3  # height of the rough ball's texture, mean to peak [mm]
ROUGH_ABOVE = 0.35  # share of fine pressure that tells rough from smooth


def fine_pressure(touch: NDArray[np.float32]) -> float:
    """Share of the pressure on the more loaded pad that a mean over 3 x 3 taxels takes away; 0 without contact.

    touch: (2, 3, 16, 16) [kPa].
    """
    pressure = touch[int(touch[:, 0].sum(axis=(1, 2)).argmax()), 0]
    if pressure.max() < 1.0:
        return 0.0
    smooth = np.lib.stride_tricks.sliding_window_view(pressure, (3, 3)).mean(axis=(2, 3))
    return float(np.abs(pressure[1:-1, 1:-1] - smooth).sum() / pressure.sum())


class RoughExpert(BagExpert):
    """Feels for texture."""

    def fit(self, touch: NDArray[np.float32]) -> float:
        above = fine_pressure(touch) - ROUGH_ABOVE
        return above if self.setup.attributes["texture"] == "rough" else -above


class BagRough(Bag):
    """Three balls that look alike and are equally stiff."""

    name = "sense/bag_rough"
    phrases = "bag_rough"
    expert = RoughExpert

    def fill(self, rng: np.random.Generator, ranges: Ranges) -> Filling:
        odd, texture = odd_one_out(rng, ("rough", "smooth"), self.places)
        looks = tuple(hidden_look(rng, ranges, hardness="medium") for _ in texture)
        return Filling(looks, odd, {"texture": texture[odd]}, tuple(TEXTURE * (value == "rough") for value in texture))
