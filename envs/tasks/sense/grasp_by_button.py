"""Lift the object that has the colour of the button that plays the named tone; hearing finds the button, cameras its colour and the object.

Which button plays the tone is drawn independently of colours and places: no picture tells.
"""

from typing import ClassVar, Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.envs.arm import Arm
from handsight.envs.look import patch
from handsight.envs.pinhole import Pinhole
from handsight.envs.props import COLORS, HARDNESS, Look, add_body, dress, scatter, size_word, table_look
from handsight.envs.randomize import Ranges
from handsight.envs.sound import SoundSource
from handsight.envs.tasks.base import Setup, Status, Surface, lifted
from handsight.envs.tasks.sense.button_expert import PressExpert
from handsight.envs.tasks.sense.buttons import (
    BUTTONS,
    ButtonTask,
    Presses,
    blows,
    button_words,
    press_point,
    shuffled_tones,
    tone_source,
    tone_words,
)
from handsight.envs.tasks.sense.tabletop_grasp import GraspExpert
from handsight.envs.world import World
from handsight.sensors.grounding import Attributes
from handsight.sensors.types import FRONT, Observation, Sensor

BODIES: Final = ("object0", "object1", "object2", "object3")
LOW, HIGH = np.array([0.40, -0.165]), np.array([0.525, 0.165])  # where objects lie, between the robot and the buttons [m]
GAP: Final = 0.095  # smallest distance between two objects [m]
LIFT: Final = 0.10  # [m]
STEM: Final = "grasp_"


class GraspByButtonExpert(PressExpert):
    """Presses one button after the other until the tone fits, then lifts the object of that button's colour."""

    phases = (*PressExpert.phases, *(STEM + phase for phase in GraspExpert.phases))
    fragile = tuple(STEM + phase for phase in GraspExpert.fragile)

    def __init__(self, world: World, arm: Arm, setup: Setup, rng: np.random.Generator) -> None:
        super().__init__(world, arm, setup, rng)
        self.grasp = GraspExpert(world, arm, setup, rng)
        self.partners: dict[str, str] = {}
        """The object of each button's colour, as seen before the arm stands in the way."""

    def decide(self, observation: Observation) -> NDArray[np.float32]:
        self.partners = self.partners or self._match(observation)
        if not self.grasp.chosen:
            action = super().decide(observation)
            if not self.grasp.chosen:
                return action
        action = self.grasp.act(observation)
        self.phase = STEM + self.grasp.phase
        return action

    def next_goal(self, observation: Observation) -> str:
        button = self.seek(str(self.setup.privileged["tone"]), BUTTONS)
        if button in self.heard:
            self.grasp.chosen = self.partners[button]
        return button

    def _match(self, observation: Observation) -> dict[str, str]:
        """Button -> the object that looks most alike; a guess where the picture is blank, the truth without a camera."""
        image = observation.get(FRONT)
        if image is None:
            partners = self.setup.privileged["partners"]
            assert isinstance(partners, dict)
            return dict(partners)
        if not image.any():
            return {button: str(self.rng.choice(BODIES)) for button in BUTTONS}
        camera = Pinhole.of(self.world, "front", image.shape[0])
        points = [press_point(self.world, button) for button in BUTTONS] + [self.world.position(body) for body in BODIES]
        seen = np.array([patch(image, pixel) for pixel in camera.project(np.array(points))])
        seen /= np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1.0)
        alike = seen[: len(BUTTONS)] @ seen[len(BUTTONS) :].T  # (4, 4) cosines
        return {button: BODIES[int(row.argmax())] for button, row in zip(BUTTONS, alike, strict=True)}


class GraspByButton(ButtonTask):
    """Four buttons and four objects of the same four colours; pressing is free, the first object that is lifted counts."""

    name = "sense/grasp_by_button"
    phrases = "grasp_by_button"
    horizon = 260
    needs: ClassVar = {Sensor.AUDIO: 1 / 4, Sensor.CAMERAS: 1 / 4}
    expert = GraspByButtonExpert

    def add_props(self, spec: mujoco.MjSpec) -> None:
        super().add_props(spec)
        for name in BODIES:
            add_body(spec, name)

    def reset(self, world: World, rng: np.random.Generator, ranges: Ranges) -> Setup:
        colors = [str(color) for color in rng.choice(list(COLORS), len(BUTTONS), replace=False)]
        radius = self.arrange(world, rng, ranges, [COLORS[color] for color in colors])
        looks = {color: table_look(rng, color, ranges) for color in colors}
        owner = {str(color): body for color, body in zip(rng.permutation(colors), BODIES, strict=True)}
        geoms = self._lay(world, rng, {owner[color]: look for color, look in looks.items()})
        tones = dict(zip(BUTTONS, shuffled_tones(rng), strict=True))
        place = int(rng.integers(len(BUTTONS)))
        color, tone = colors[place], tones[BUTTONS[place]]
        target = owner[color]
        return Setup(
            attributes={"sound": tone_words(tone)},
            target=target,
            others=tuple(body for body in BODIES if body != target),
            surfaces=tuple(Surface(geom, HARDNESS["hard"].modulus) for geom in geoms),
            sounds={button: tone_source(tone) for button, tone in tones.items()}
            | {owner[c]: SoundSource(look.material, look.radius) for c, look in looks.items()},
            objects={b: button_words(c, radius, tone_words(tones[b])) for b, c in zip(BUTTONS, colors, strict=True)}
            | {owner[c]: self._words(c, look) for c, look in looks.items()},
            combination=(color, looks[color].shape, tone),
            secret=str(place),
            privileged={
                "tone": tone,
                "tones": tones,
                "button": BUTTONS[place],
                "partners": {b: owner[c] for b, c in zip(BUTTONS, colors, strict=True)},
                "rest": {owner[c]: look.radius for c, look in looks.items()},
            },
            memory=Presses(),
        )

    @staticmethod
    def _lay(world: World, rng: np.random.Generator, looks: dict[str, Look]) -> list[int]:
        points = scatter(rng, len(BODIES), LOW, HIGH, GAP)
        geoms = []
        for body, point in zip(BODIES, points, strict=True):
            geoms.append(dress(world, body, looks[body]))
            world.place(body, np.array([*point, looks[body].radius]), rng.uniform(-0.6, 0.6))
        return geoms

    @staticmethod
    def _words(color: str, look: Look) -> Attributes:
        return Attributes(color, look.shape, size_word(look.radius), look.hardness, material=look.material)

    def status(self, world: World, setup: Setup) -> Status:
        rest = setup.privileged["rest"]
        assert isinstance(rest, dict)
        pressed = setup.memory.update(world, BUTTONS)
        reached = bool(np.linalg.norm(world.tcp_position - world.position(setup.target)) < 0.025)
        wrong = any(lifted(world, body, LIFT / 2, rest[body]) for body in setup.others)
        return Status(lifted(world, setup.target, LIFT, rest[setup.target]), reached, wrong, blows(pressed))
