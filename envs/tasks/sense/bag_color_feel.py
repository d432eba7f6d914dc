"""Take the ball described by colour and feel out of an opaque bag: covers show the colours, only a squeeze tells soft from hard."""

from dataclasses import replace
from typing import ClassVar, Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.envs.look import likeness
from handsight.envs.props import COLORS
from handsight.envs.randomize import Ranges
from handsight.envs.tasks.sense.bag import COVER, WALL, Bag, Filling, hidden_look
from handsight.envs.tasks.sense.bag_stiff import StiffExpert
from handsight.sensors.types import Observation, Sensor

STIFFNESS: Final = ("soft", "hard")
FIELD_OF_VIEW = 50.0  # of the front camera [degrees]; four compartments are wider than what it sees by default

REACH: Final = np.array([0.035, 0.010])  # of open fingers around the middle of a compartment [m]


class ColorFeelExpert(StiffExpert):
    """Looks for the named colour on the covers, then feels for stiffness below them, left to right; feels all of them where it saw nothing.

    Takes the first of the colour if the instruction names no stiffness, and looks for none if it names no colour. In any order but this,
    demonstrations would go to one of two neighbours from the same picture, and a policy to the wall between them.
    """

    def fit(self, touch: NDArray[np.float32]) -> float:
        return super().fit(touch) if "stiffness" in self.setup.attributes else 1.0

    def candidates(self, observation: Observation) -> list[int]:
        everywhere = super().candidates(observation)
        if "color" not in self.setup.attributes:
            return everywhere
        color = self.setup.attributes["color"]
        covers = [words.color for words in self.setup.objects.values()]
        points = self._centres().copy()
        points[:, 2] = COVER
        scores = likeness(self.world, observation, points, COLORS[color])
        if scores is None:
            scores = np.array([float(cover == color) for cover in covers])
        if scores.max() <= 0:
            return everywhere
        order = self.rng.permutation(len(scores))
        likest = order[np.argsort(-scores[order], kind="stable")][: covers.count(color)]
        return sorted(int(place) for place in likest)

    def _centre(self) -> NDArray[np.float64]:
        """Where the ball is, as far as fingers reach it between the walls: one that slipped seldom falls into the middle."""
        centre = super()._centre()
        ball = self.world.position(list(self.setup.objects)[self.compartment])
        return np.array([*np.clip(ball[:2], centre[:2] - REACH, centre[:2] + REACH), centre[2]])


class BagColorFeel(Bag):
    """Four balls: each of two colours with a soft and a hard one. Neither the colour nor the feel alone tells which is meant."""

    name = "sense/bag_color_feel"
    phrases = "bag_color_feel"
    places = 4
    horizon = 260
    needs: ClassVar[dict[Sensor, float]] = {Sensor.CAMERAS: 1 / 2, Sensor.TOUCH: 1 / 2}
    expert = ColorFeelExpert

    def add_props(self, spec: mujoco.MjSpec) -> None:
        super().add_props(spec)
        spec.camera("front").fovy = FIELD_OF_VIEW
        for i in range(self.places):
            spec.geom(f"cover{i}").size[1] -= WALL  # the dividers show as seams between neighbours of one colour

    def fill(self, rng: np.random.Generator, ranges: Ranges) -> Filling:
        colors = [str(color) for color in rng.choice(list(COLORS), 2, replace=False)]
        kinds = [(color, stiffness) for color in colors for stiffness in STIFFNESS]
        kinds = [kinds[i] for i in rng.permutation(self.places)]
        target = int(rng.integers(self.places))
        color, stiffness = kinds[target]
        covers = tuple(color for color, _ in kinds)
        looks = tuple(replace(hidden_look(rng, ranges, hardness=feel), color=COLORS[shade]) for shade, feel in kinds)
        left = covers.index(color) == target
        attributes = {"color": color, "stiffness": stiffness}
        return Filling(looks, target, attributes, (0.0,) * self.places, covers, secret="left" if left else "right")
