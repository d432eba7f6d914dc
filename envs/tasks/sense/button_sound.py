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
    CLACK,
    LEVER,
    LEVER_WORDS,
    ButtonTask,
    Presses,
    add_lever,
    at_button,
    blows,
    button_words,
    place_apart,
    shuffled_tones,
    tone_source,
    tone_words,
)
from handsight.envs.world import World
from handsight.sensors.types import Observation, Sensor


class SoundExpert(PressExpert):
    """Presses one button after the other until the tone fits, then the lever."""

    def next_goal(self, observation: Observation) -> str:
        chosen = self.seek(str(self.setup.privileged["tone"]), BUTTONS)
        return LEVER if self.presses.last(BUTTONS) == chosen and chosen in self.heard else chosen


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
        place = self.buttons.index(target)
        return Setup(
            attributes={"sound": tone_words(tones[target])},
            target=target,
            others=self.others(target),
            sounds={name: tone_source(tone) for name, tone in tones.items()} | {LEVER: CLACK},
            objects={name: button_words(color, radius, tone_words(tone)) for name, tone in tones.items()} | {LEVER: LEVER_WORDS},
            combination=(tones[target], f"place{place}"),
            secret=str(place),
            privileged={"tone": tones[target], "tones": tones},
            memory=Presses(),
        )

    def status(self, world: World, setup: Setup) -> Status:
        presses = setup.memory
        pressed = presses.update(world, (*self.buttons, LEVER))
        committed = presses.committed(self.buttons)
        right = committed == setup.target
        return Status(right, at_button(world, setup.target), bool(committed) and not right, blows(pressed))
