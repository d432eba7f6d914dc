"""Press the button that plays the named tone, one of four that look alike, and commit it with the lever; hearing decides."""

from typing import ClassVar

import mujoco
import numpy as np

from handsight.envs.props import COLORS
from handsight.envs.randomize import Ranges
from handsight.envs.tasks.base import Setup, Status
from handsight.envs.tasks.sense.button_expert import PressExpert
from handsight.envs.tasks.sense.buttons import (
    BUTTONS,
    LEVER,
    ButtonTask,
    add_lever,
    at_button,
    blows,
    place_apart,
    shuffled_tones,
    tone_words,
)
from handsight.envs.world import World
from handsight.sensors.types import Observation, Sensor


class SoundExpert(PressExpert):
    """Presses one button after the other until the tone fits, then the lever."""

    def next_goal(self, observation: Observation) -> str:
        return self.seek_and_commit(str(self.setup.privileged["tone"]), BUTTONS)


class ButtonSound(ButtonTask):
    """Four buttons that look alike, their tones shuffled; the lever commits the one that was pressed last."""

    name = "sense/button_sound"
    phrases = "button_sound"
    horizon = 240
    needs: ClassVar = {Sensor.AUDIO: 1 / 4}
    expert = SoundExpert

    def add_props(self, spec: mujoco.MjSpec) -> None:
        super().add_props(spec)
        add_lever(spec)

    def reset(self, world: World, rng: np.random.Generator, ranges: Ranges) -> Setup:
        place_apart(world, rng, f"{LEVER}_base", 0.0)
        color = str(rng.choice(list(COLORS)))
        radius = self.arrange(world, rng, ranges, [COLORS[color]] * len(self.buttons))
        tones = dict(zip(self.buttons, shuffled_tones(rng), strict=True))
        target = str(rng.choice(self.buttons))
        return self.commit_by_ear(tones, target, color, radius, {"sound": tone_words(tones[target])})

    def status(self, world: World, setup: Setup) -> Status:
        presses = setup.memory
        pressed = presses.update(world, (*self.buttons, LEVER))
        committed = presses.committed(self.buttons)
        right = committed == setup.target
        return Status(right, at_button(world, setup.target), bool(committed) and not right, blows(pressed))
