"""Play a melody of three tones on four keys after a loudspeaker has played it; hearing decides.

The keys are ordered like a keyboard, low at the robot's left to very high at its right, so that nothing but the melody need be found out.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.envs.arm import Arm
from handsight.envs.expert import CLOSED
from handsight.envs.listen import Ear
from handsight.envs.randomize import Ranges
from handsight.envs.tasks.base import Setup, Status
from handsight.envs.tasks.sense.button_expert import HOVER, LISTEN, PressExpert, tone_of
from handsight.envs.tasks.sense.buttons import (
    DARK,
    METAL,
    TONES,
    ButtonTask,
    Presses,
    add_plate,
    at_button,
    blows,
    button_words,
    place_apart,
    press_point,
    tone_source,
    tone_words,
)
from handsight.envs.world import World
from handsight.sensors.types import AUDIO, Observation, Sensor

KEYS: Final = ("key0", "key1", "key2", "key3")  # the robot's left to its right, from low to very high
SPEAKER: Final = "speaker"
LENGTH: Final = 3  # tones of a melody
STARTS: Final = (4, 14, 24)  # control steps at whose end the tones begin: 0.5 s apart
LOUDNESS: Final = 8.0  # of the melody as blows [N]
PALE, DEEP = np.array([0.62, 0.78, 0.95]), np.array([0.08, 0.18, 0.45])  # colours of the highest and the lowest key


@dataclass
class Progress(Presses):
    """Presses, and how much of the melody has been played."""

    steps: int = 0
    """Control steps since reset."""
    melody: tuple[str, ...] = field(default=())
    """Keys that play it, in order."""

    def tick(self) -> dict[str, float]:
        """The blow [N] on the loudspeaker's tone that begins in this step, if one does."""
        self.steps += 1
        due = [key for key, start in zip(self.melody, STARTS, strict=True) if start == self.steps]
        return {f"{SPEAKER}_{key}": LOUDNESS for key in due}


class MelodyExpert(PressExpert):
    """Listens to the melody over the keys, then plays what it heard; guesses a tone that it did not hear."""

    phases = ("attend", *PressExpert.phases)

    def __init__(self, world: World, arm: Arm, setup: Setup, rng: np.random.Generator) -> None:
        super().__init__(world, arm, setup, rng)
        self.melody: list[str] = []
        self.memory = Ear()

    def decide(self, observation: Observation) -> NDArray[np.float32]:
        if self.phase == "attend" and len(self.melody) < LENGTH:
            self._attend(observation)
            middle = np.mean([press_point(self.world, key) for key in KEYS], axis=0)
            return self.towards(np.array([*middle[:2], HOVER]), CLOSED)
        if self.phase == "attend":
            self.enter("hover")
        return super().decide(observation)

    def _attend(self, observation: Observation) -> None:
        self.memory.hear(observation)
        # act's first observation is that of reset, before any step
        if self.steps_in_phase - 1 == STARTS[len(self.melody)] + LISTEN - 1:
            tone = tone_of(self.memory.last(LISTEN))
            guess = str(self.rng.choice(KEYS))
            truth = self._truth()[len(self.melody)]
            self.melody.append(truth if AUDIO not in observation else KEYS[list(TONES).index(tone)] if tone else guess)

    def _truth(self) -> tuple[str, ...]:
        memory = self.setup.memory
        assert isinstance(memory, Progress)
        return memory.melody

    def next_goal(self, observation: Observation) -> str:
        played = len(self.presses.order)
        return self.melody[min(played, LENGTH - 1)]


class ButtonSeq(ButtonTask):
    """Three tones, uniform over the 64 melodies, from a loudspeaker; the first three presses must repeat them."""

    name = "sense/button_seq"
    phrases = "button_seq"
    horizon = 240
    needs: ClassVar = {Sensor.AUDIO: 1 / len(TONES) ** LENGTH}
    buttons = KEYS
    expert = MelodyExpert

    def add_props(self, spec: mujoco.MjSpec) -> None:
        super().add_props(spec)
        body = add_plate(spec, SPEAKER, (0.022, 0.034))
        box, disc = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
        solid = {"contype": 0, "conaffinity": 1}
        body.add_geom(type=box, pos=[0, 0, 0.032], size=[0.020, 0.032, 0.026], rgba=[0.55, 0.36, 0.20, 1], **solid)
        for radius, front, color in ((0.022, 0.0205, DARK), (0.009, 0.0225, METAL)):
            body.add_geom(type=disc, fromto=[0.018, 0, 0.032, front, 0, 0.032], size=[radius, 0, 0], rgba=[*color, 1], **solid)

    def reset(self, world: World, rng: np.random.Generator, ranges: Ranges) -> Setup:
        place_apart(world, rng, SPEAKER, 0.0)
        shades = [tuple(DEEP + (PALE - DEEP) * i / (len(KEYS) - 1)) for i in range(len(KEYS))]
        radius = self.arrange(world, rng, ranges, shades)
        tones = dict(zip(KEYS, TONES, strict=True))
        melody = tuple(str(key) for key in rng.choice(KEYS, LENGTH))
        speaker = {f"{SPEAKER}_{key}": tone_source(tone) for key, tone in tones.items()}
        return Setup(
            attributes={},
            target=melody[0],
            others=self.others(melody[0]),
            sounds={key: tone_source(tone) for key, tone in tones.items()} | speaker,
            objects={key: button_words("blue", radius, tone_words(tone)) for key, tone in tones.items()},
            combination=(f"first {tones[melody[0]]}", f"last {tones[melody[-1]]}"),
            secret="-".join(str(KEYS.index(key)) for key in melody),
            privileged={"tones": tones, "melody": melody},
            memory=Progress(melody=melody),
        )

    def status(self, world: World, setup: Setup) -> Status:
        progress = setup.memory
        assert isinstance(progress, Progress)
        melody = progress.tick()
        pressed = progress.update(world, KEYS)
        order = tuple(progress.order)
        wrong = order != progress.melody[: len(order)]
        return Status(order == progress.melody, at_button(world, setup.target), wrong, melody | blows(pressed))
