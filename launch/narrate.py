"""`handsight rollout --describe=V,T:hardness`: what a policy says of the things that it meets, when it can know, and whether it is true.

The moments and the truth come from the environment's grounding label (sensors/referent.py), which the policy does not see.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from handsight.envs.pool import Transition
from handsight.launch.actors import Actor, Cast
from handsight.policies.fuse.sentences import attributes_of
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import COMBINATIONS, VALUES, Modality
from handsight.sensors.questions import Question, parse_note, parse_questions
from handsight.sensors.referent import Referent, speakable

DELAY: Final = 5
"""Control steps between the moment a combination can speak of a thing and its sentence: a grip takes that long to close."""
NOTE_DELAY: Final = 3
"""As DELAY, of notes: a hand that has heard what it wanted to is on its way soon."""


@runtime_checkable
class Describer(Actor, Protocol):
    """An actor that can say what it has met."""

    windows: tuple[int, int]
    """Control steps that its touch and audio reach back over, now included."""

    def describe(self, transition: Transition, combination: Modality, about: str = "") -> str:
        """A sentence, about one attribute if it is asked for, after `act` on this transition; empty where it does not have the sense."""


def parse_command(name: str) -> tuple[Question, ...]:
    """`"A"` -> the one combination whose words are obeyed; none for "".

    Raises HandsightError for an unknown name, or several.
    """
    obeyed = parse_questions(name, "command")
    if len(obeyed) > 1:
        raise HandsightError(f"expected one combination in --command, got {name}; an episode has one instruction at a time")
    return obeyed


def narrated(cast: Cast, names: str, command: str = "") -> Cast:
    """A cast whose actors also describe, by these combinations, obey what the combination `command` says first, and keep their policy's
    note. The same cast where nothing is to be said.

    Raises HandsightError for an unknown combination; its `make` does for an actor that cannot describe.
    """
    questions, obeyed, note = parse_questions(names), parse_command(command), parse_note(cast.note)
    every = tuple(dict.fromkeys((*questions, *obeyed)))
    return replace(cast, make=lambda attributes: Narrator(cast.make(attributes), every, obeyed, note)) if every or note else cast


class Moments:
    """When the combinations of senses speak in one episode: each once of each thing, some steps after it first can.

    Args:
        windows: control steps that touch and audio reach back over, now included.
        combinations: who speaks.
        delay: how many steps after.
        again: speak once more of a thing that is met again after another.
    """

    def __init__(self, windows: tuple[int, int], combinations: Iterable[Modality], *, delay: int = DELAY, again: bool = False) -> None:
        self._windows = windows
        self._delay = delay
        self._again = again
        self._last = b""
        self._places = {combination: COMBINATIONS.index(combination) for combination in combinations}
        self._since: dict[tuple[bytes, Modality], int] = {}
        self._said: set[tuple[bytes, Modality]] = set()
        self._step = 0

    def next(self, label: NDArray[np.int16]) -> list[Modality]:
        """Those that speak at this step, whose grounding label is given."""
        can = speakable(label[None], *self._windows)[0]
        thing, step = label[: len(VALUES)].tobytes(), self._step
        self._step += 1
        if self._again and thing != self._last:
            self._since.clear()
            self._said.clear()
        self._last = thing
        speaking = []
        for combination, place in self._places.items():
            key = (thing, combination)
            if can[place] and key not in self._said and step - self._since.setdefault(key, step) >= self._delay:
                self._said.add(key)
                speaking.append(combination)
        return speaking


class Narrator:
    """An actor that acts as another does, and keeps what it says: each combination speaks once an episode of each thing.

    The first sentence of a combination among `obeyed` becomes the instruction of the rest of the episode, word for word, as in FuSe's
    multi-step task (Jones et al., "Beyond Sight", 2025). The last answer to `note` stands before every instruction that the actor reads
    (policies/fuse/notes.py).

    Raises:
        HandsightError: the actor cannot describe.
    """

    looks = True  # it may have to speak of what it sees

    def __init__(
        self, actor: Actor, questions: tuple[Question, ...], obeyed: tuple[Question, ...] = (), note: Question | None = None
    ) -> None:
        if not isinstance(actor, Describer):
            raise HandsightError(
                "expected a policy that describes, got one that cannot; leave out --describe, or train with generation_weight"
            )
        self._actor = actor
        self._obeyed = obeyed
        self._questions = questions
        self._note = note

    def reset(self, seed: int) -> None:
        self._actor.reset(seed)
        self._step = 0
        self._moments = Moments(self._actor.windows, dict.fromkeys(question.combination for question in self._questions))
        noting = [self._note.combination] if self._note else []
        self._noting = Moments(self._actor.windows, noting, delay=NOTE_DELAY, again=True)
        self._noted = ""
        self.lines: list[str] = []
        self.command = ""
        """What replaces the instruction from the next step on; empty if nothing does."""
        self._commanded = False

    def act(self, transition: Transition) -> NDArray[np.float32]:
        action = self._actor.act(replace(transition, task=f"{self._noted} {transition.task}") if self._noted else transition)
        self.command = ""
        if transition.grounding is not None:
            self._narrate(transition, transition.grounding)
            self._remember(transition, transition.grounding)
        self._step += 1
        return action

    def _remember(self, transition: Transition, label: NDArray[np.int16]) -> None:
        speaking, referent = self._noting.next(label), Referent.of(label)
        if not self._note or not speaking or self._note.about not in referent.attributes.known(self._note.combination):
            return
        if said := self._actor.describe(transition, self._note.combination, self._note.about):
            self._noted = said
            self.lines.append(self._line(said, self._note, referent))

    def _narrate(self, transition: Transition, label: NDArray[np.int16]) -> None:
        speaking, referent = self._moments.next(label), Referent.of(label)
        for question in self._questions:
            combination, about = question.combination, question.about
            if combination not in speaking or (about and about not in referent.attributes.known(combination)):
                continue
            if not (sentence := self._actor.describe(transition, combination, about)):
                continue
            self.lines.append(self._line(sentence, question, referent))
            if question in self._obeyed and not self._commanded:
                self.command, self._commanded = sentence, True

    def _line(self, sentence: str, question: Question, referent: Referent) -> str:
        named, truth = attributes_of(sentence, question.answered_by), referent.attributes.known(question.combination)
        verdict = "true" if named and named.items() <= truth.items() else "false"
        return f"step {self._step}, {question.combination.letters}: {sentence} ({verdict})"
