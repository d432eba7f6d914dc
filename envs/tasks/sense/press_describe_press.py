"""Press a sample button, put what is heard into words, and follow these words: press the one of four that sounds so, and commit it.

The words are meant to be the policy's own: once it has said them, `HandsightEnv.instruct(words)` makes them the command of the rest of the
episode. `info["privileged"]["stage"]` tells when: "listen" until the sample was pressed, then "press". The expert's words describe
the sound (sensors/describe.py), as a policy's would, and are the instruction in its demonstrations from when it has said them.
"""

from typing import ClassVar, Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.envs.props import COLORS
from handsight.envs.randomize import Ranges
from handsight.envs.tasks.base import Setup, Status
from handsight.envs.tasks.sense.button_expert import PressExpert
from handsight.envs.tasks.sense.buttons import (
    BUTTONS,
    LEVER,
    YELLOW,
    ButtonTask,
    add_button,
    add_lever,
    add_plate,
    at_button,
    blows,
    dress_button,
    place_apart,
    put,
    shuffled_tones,
    tone_words,
)
from handsight.envs.world import World
from handsight.sensors.describe import describe
from handsight.sensors.grounding import Attributes, Modality
from handsight.sensors.types import Observation, Sensor

SAMPLE: Final = "sample"
ASIDE: Final = 0.11  # |y| of the sample and of the lever, on opposite sides [m]


class DescribeExpert(PressExpert):
    """Presses the sample, says what it heard, then presses one button after the other until the tone fits, then the lever."""

    def next_goal(self, observation: Observation) -> str:
        if SAMPLE not in self.heard:
            return SAMPLE
        tone = self.heard[SAMPLE]
        if tone and not self.words:
            self.words = describe(Attributes(sound=tone_words(tone)), Modality.AUDIO, self.rng)
        return self.seek_and_commit(tone, BUTTONS)


class PressDescribePress(ButtonTask):
    """A marked button apart and four that look alike, one of which has its tone; the lever commits the one of the four pressed last."""

    name = "sense/press_describe_press"
    phrases = "press_describe_press"
    horizon = 280
    needs: ClassVar = {Sensor.AUDIO: 1 / 4}
    expert = DescribeExpert

    def add_props(self, spec: mujoco.MjSpec) -> None:
        super().add_props(spec)
        add_plate(spec, f"{SAMPLE}_plate", (0.040, 0.040))
        add_button(spec, SAMPLE, ring=YELLOW, mark=YELLOW)
        add_lever(spec)

    def reset(self, world: World, rng: np.random.Generator, ranges: Ranges) -> Setup:
        radius, color = self._furnish(world, rng, ranges)
        tones = dict(zip(BUTTONS, shuffled_tones(rng), strict=True))
        target = str(rng.choice(BUTTONS))
        tones[SAMPLE] = tones[target]
        setup = self.commit_by_ear(tones, target, color, radius, {})
        setup.privileged["stage"] = "listen"
        return setup

    def _furnish(self, world: World, rng: np.random.Generator, ranges: Ranges) -> tuple[float, str]:
        """Places everything; returns the radius of the caps [m] and the name of their colour."""
        side = float(rng.choice([-1.0, 1.0]))
        color = str(rng.choice([name for name in COLORS if name != "yellow"]))
        place_apart(world, rng, f"{SAMPLE}_base", ASIDE * side)
        put(world, f"{SAMPLE}_plate", *_xy(world, f"{SAMPLE}_base"))
        place_apart(world, rng, f"{LEVER}_base", -ASIDE * side)
        radius = self.arrange(world, rng, ranges, [COLORS[color]] * len(BUTTONS))
        dress_button(world, SAMPLE, COLORS[color], rng, ranges, radius)
        return radius, color

    def status(self, world: World, setup: Setup) -> Status:
        presses = setup.memory
        pressed = presses.update(world, (*BUTTONS, SAMPLE, LEVER))
        setup.privileged["stage"] = "press" if SAMPLE in presses.order else "listen"
        committed = presses.committed(BUTTONS, after=SAMPLE)
        right = committed == setup.target
        return Status(right, at_button(world, setup.target), bool(committed) and not right, blows(pressed))


def _xy(world: World, body: str) -> NDArray[np.float64]:
    return np.asarray(world.model.body(body).pos[:2])
