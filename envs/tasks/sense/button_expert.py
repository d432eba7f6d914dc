"""What the experts of the button tasks share: press with closed fingers, rise, listen, decide what to press next."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from handsight.envs.arm import Arm
from handsight.envs.expert import CLOSED, Expert
from handsight.envs.listen import Ear, spectrum_peak
from handsight.envs.tasks.base import Setup
from handsight.envs.tasks.sense.buttons import LEVER, TONES, Presses, press_point, switch_of
from handsight.envs.world import World
from handsight.sensors.types import AUDIO, Observation

FINGERTIP: Final = 0.009  # below the tcp [m]
HOVER: Final = 0.068  # height of the tcp between presses [m]
LISTEN: Final = 6  # control steps: 0.3 s
BAND: Final = (250.0, 1800.0)  # in which all tones lie [Hz]
NEAR, ASTRAY = 0.007, 0.014  # across a button [m]: close enough to press; too far off to go on
SHUT: Final = 0.012  # opening of closed fingers [m]
PATIENCE: Final = 25  # steps after which a press that does not come is begun again


def tone_of(sound: NDArray[np.float32]) -> str:
    """The tone that is nearest in pitch to the loudest component of a sound (N,); empty where nothing stands out of the noise."""
    peak = spectrum_peak(sound, *BAND)
    if not peak.heard:
        return ""
    return min(TONES, key=lambda tone: abs(np.log(peak.frequency / TONES[tone])))


class PressExpert(Expert):
    """Presses one thing after another; `next_goal` says which, from what was heard."""

    phases: ClassVar[tuple[str, ...]] = ("hover", "press", "rise")

    def __init__(self, world: World, arm: Arm, setup: Setup, rng: np.random.Generator) -> None:
        super().__init__(world, arm, setup, rng)
        self.ear = Ear()
        self.heard: dict[str, str] = {}
        """Tone of each button that was listened to; empty where nothing was heard."""
        self.goal = ""
        self._counted = 0
        self._since = LISTEN
        self._guess = ""

    @abstractmethod
    def next_goal(self, observation: Observation) -> str:
        """What to press next."""

    @property
    def presses(self) -> Presses:
        """What was pressed so far."""
        presses = self.setup.memory
        assert isinstance(presses, Presses)
        return presses

    def decide(self, observation: Observation) -> NDArray[np.float32]:
        if self._listen(observation):
            self.enter("rise")
        if not self.goal:
            self.goal = self.next_goal(observation)
        point = press_point(self.world, self.goal)
        across, _ = self.distance(point)
        ready = across < NEAR and self.world.finger_opening < SHUT
        if self.phase == "hover" and ready:
            self.enter("press")
        elif self.phase == "press" and (across > ASTRAY or self.world.finger_opening > SHUT):
            self.enter("hover")
        elif self.phase == "press" and self.steps_in_phase > PATIENCE:
            self.enter("rise")
        elif self.phase == "rise" and self.world.tcp_position[2] > HOVER - 0.012 and self._since >= LISTEN:
            self.goal = self.next_goal(observation)
            self.enter("hover")
        return self._move()

    def _move(self) -> NDArray[np.float32]:
        point = press_point(self.world, self.goal)
        if self.phase == "press":
            depth = FINGERTIP - switch_of(self.goal).depth
            return self.towards(point + np.array([0.0, 0.0, depth]), CLOSED)
        if self.phase == "rise":
            return self.towards(np.array([*self.arm.position[:2], HOVER]), CLOSED)
        return self.towards(np.array([point[0], point[1], self._height(point)]), CLOSED)

    def _height(self, point: NDArray[np.float64]) -> float:
        """Rises first where the way is long and the hand low."""
        across, _ = self.distance(point)
        return HOVER + (0.010 if across > 0.05 else 0.0)

    def _listen(self, observation: Observation) -> bool:
        """Hears one step; whether something was pressed in it."""
        self.ear.hear(observation)
        order = self.presses.order
        new = len(order) > self._counted
        self._counted, self._since = len(order), 1 if new else self._since + 1
        if self._since == LISTEN and order:
            self.heard[order[-1]] = tone_of(self.ear.last(LISTEN)) if AUDIO in observation else self.truth(order[-1])
        return new

    def truth(self, name: str) -> str:
        """The tone of a button, for environments without a microphone."""
        tones = self.setup.privileged.get("tones", {})  # a task in which tones do not matter keeps none
        assert isinstance(tones, dict)
        return str(tones.get(name, ""))

    def seek_and_commit(self, tone: str, names: Sequence[str]) -> str:
        """`seek`; once the button that it settles on was the last one pressed, the lever."""
        chosen = self.seek(tone, names)
        return LEVER if self.presses.last(names) == chosen and chosen in self.heard else chosen

    def seek(self, tone: str, names: Sequence[str]) -> str:
        """Which of `names` to press to find `tone`: the one that was heard to play it, else one that was not yet heard, else a guess."""
        fits = [name for name in names if tone and self.heard.get(name) == tone]
        unheard = [name for name in names if tone and name not in self.heard]
        if fits or unheard:
            return (fits or unheard)[0]
        self._guess = self._guess or str(self.rng.choice(list(names)))
        return self._guess
