"""Press the button of the named colour, one of four; cameras decide."""

from typing import ClassVar

import numpy as np

from handsight.envs.props import COLORS
from handsight.envs.randomize import Ranges
from handsight.envs.tasks.base import Setup, Status
from handsight.envs.tasks.sense.button_expert import PressExpert
from handsight.envs.tasks.sense.buttons import CLICK, ButtonTask, Presses, at_button, blows, button_words, press_point
from handsight.envs.world import World
from handsight.sensors.types import Observation, Sensor


class ColorExpert(PressExpert):
    """Finds the named colour in the picture and presses there."""

    chosen = ""

    def next_goal(self, observation: Observation) -> str:
        if not self.chosen:
            names = (self.setup.target, *self.setup.others)
            points = np.array([press_point(self.world, name) for name in names])
            self.chosen = names[self.recognise(observation, points, COLORS[self.setup.attributes["color"]], 0)]
        return self.chosen


class ButtonColor(ButtonTask):
    """Four buttons of different colours; the first one that is pressed counts."""

    name = "sense/button_color"
    phrases = "button_color"
    horizon = 100
    needs: ClassVar = {Sensor.CAMERAS: 1 / 4}
    expert = ColorExpert

    def reset(self, world: World, rng: np.random.Generator, ranges: Ranges) -> Setup:
        colors = [str(color) for color in rng.choice(list(COLORS), len(self.buttons), replace=False)]
        radius = self.arrange(world, rng, ranges, [COLORS[color] for color in colors])
        place = int(rng.integers(len(self.buttons)))
        target = self.buttons[place]
        return Setup(
            attributes={"color": colors[place]},
            target=target,
            others=self.others(target),
            sounds=dict.fromkeys(self.buttons, CLICK),
            objects={name: button_words(color, radius) for name, color in zip(self.buttons, colors, strict=True)},
            combination=(colors[place], f"place{place}"),
            secret=str(place),
            memory=Presses(),
        )

    def status(self, world: World, setup: Setup) -> Status:
        pressed = setup.memory.update(world, self.buttons)
        order = setup.memory.order
        wrong = any(name != setup.target for name in order)
        return Status(bool(order) and not wrong, at_button(world, setup.target), wrong, blows(pressed))
