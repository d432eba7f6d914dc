"""`handsight rollout --describe=V,T:hardness`: what a policy says of the things that it meets, when it can know, and whether it is true.

The moments and the truth come from the environment's grounding label (sensors/referent.py), which the policy does not see.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from handsight.envs.pool import Transition
from handsight.launch.actors import Actor, Cast
from handsight.policies.fuse.sentences import attributes_of
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import COMBINATIONS, REVEALED_BY, VALUES, Modality
from handsight.sensors.referent import Referent, speakable

DELAY: Final = 5
"""Control steps between the moment a combination can speak of a thing and its sentence: a grip takes that long to close."""


@runtime_checkable
class Describer(Actor, Protocol):
    """An actor that can say what it has met."""

    windows: tuple[int, int]
    """Control steps that its touch and audio reach back over, now included."""

    def describe(self, transition: Transition, combination: Modality, about: str = "") -> str:
        """A sentence, about one attribute if it is asked for, after `act` on this transition."""


@dataclass(frozen=True)
class Question:
    """What a combination of senses is asked for: a sentence of its own choice, or one about an attribute."""

    combination: Modality
    about: str = ""


def parse_questions(names: str, option: str = "describe") -> tuple[Question, ...]:
    """`"V,T:hardness,VT"` -> combinations of senses, some with the attribute that they are asked for.

    Raises HandsightError for an unknown combination, or an attribute that it does not reveal alone.
    """
    known = {combination.letters: combination for combination in COMBINATIONS}
    wanted = [name.strip().partition(":") for name in names.split(",") if name.strip()]
    if unknown := [letters for letters, _, _ in wanted if letters not in known]:
        raise HandsightError(f"expected --{option} among {','.join(known)}, got {','.join(unknown)}; separate them with commas")
    for letters, _, about in wanted:
        revealed = [name for name, senses in REVEALED_BY.items() if len(known[letters]) == 1 and known[letters] in senses]
        if about and about not in revealed:
            raise HandsightError(
                f"expected --{option} to ask {letters} for one of {', '.join(revealed) or 'nothing (it is several senses)'}, got {about}"
            )
    return tuple(Question(known[letters], about) for letters, _, about in wanted)


def parse_command(name: str) -> tuple[Question, ...]:
    """`"A"` -> the one combination whose words are obeyed; none for "".

    Raises HandsightError for an unknown name, or several.
    """
    obeyed = parse_questions(name, "command")
    if len(obeyed) > 1:
        raise HandsightError(f"expected one combination in --command, got {name}; an episode has one instruction at a time")
    return obeyed


def narrated(cast: Cast, names: str, command: str = "") -> Cast:
    """A cast whose actors also describe, by these combinations, and obey what the combination `command` says first.

    Raises HandsightError for an unknown combination; its `make` does for an actor that cannot describe.
    """
    questions, obeyed = parse_questions(names), parse_command(command)
    every = tuple(dict.fromkeys((*questions, *obeyed)))
    return replace(cast, make=lambda attributes: Narrator(cast.make(attributes), every, obeyed))


class Moments:
    """When the combinations of senses speak in one episode: each once of each thing, DELAY steps after it first can.

    windows: control steps that touch and audio reach back over, now included.
    """

    def __init__(self, windows: tuple[int, int], combinations: Iterable[Modality]) -> None:
        self._windows = windows
        self._places = {combination: COMBINATIONS.index(combination) for combination in combinations}
        self._since: dict[tuple[bytes, Modality], int] = {}
        self._said: set[tuple[bytes, Modality]] = set()
        self._step = 0

    def next(self, label: NDArray[np.int16]) -> list[Modality]:
        """Those that speak at this step, whose grounding label is given."""
        can = speakable(label[None], *self._windows)[0]
        thing, step = label[: len(VALUES)].tobytes(), self._step
        self._step += 1
        speaking = []
        for combination, place in self._places.items():
            key = (thing, combination)
            if can[place] and key not in self._said and step - self._since.setdefault(key, step) >= DELAY:
                self._said.add(key)
                speaking.append(combination)
        return speaking


class Narrator:
    """An actor that acts as another does, and keeps what it says: each combination speaks once an episode of each thing.

    The first sentence of a combination among `obeyed` becomes the instruction of the rest of the episode, word for word, as in FuSe's
    multi-step task (Jones et al., "Beyond Sight", 2025).

    Raises:
        HandsightError: the actor cannot describe.
    """

    looks = True  # it may have to speak of what it sees

    def __init__(self, actor: Actor, questions: tuple[Question, ...], obeyed: tuple[Question, ...] = ()) -> None:
        if not isinstance(actor, Describer):
            raise HandsightError(
                "expected a policy that describes, got one that cannot; leave out --describe, or train with generation_weight"
            )
        self._actor = actor
        self._obeyed = obeyed
        self._questions = questions

    def reset(self, seed: int) -> None:
        self._actor.reset(seed)
        self._step = 0
        self._moments = Moments(self._actor.windows, dict.fromkeys(question.combination for question in self._questions))
        self.lines: list[str] = []
        self.command = ""
        """What replaces the instruction from the next step on; empty if nothing does."""
        self._commanded = False

    def act(self, transition: Transition) -> NDArray[np.float32]:
        action = self._actor.act(transition)
        self.command = ""
        if transition.grounding is not None:
            self._narrate(transition, transition.grounding)
        self._step += 1
        return action

    def _narrate(self, transition: Transition, label: NDArray[np.int16]) -> None:
        speaking, referent = self._moments.next(label), Referent.of(label)
        for question in self._questions:
            combination, about = question.combination, question.about
            if combination not in speaking or (about and about not in referent.attributes.known(combination)):
                continue
            sentence = self._actor.describe(transition, combination, about)
            self.lines.append(self._line(sentence, combination, referent))
            if question in self._obeyed and not self._commanded and sentence:
                self.command, self._commanded = sentence, True

    def _line(self, sentence: str, combination: Modality, referent: Referent) -> str:
        named, truth = attributes_of(sentence, combination), referent.attributes.known(combination)
        verdict = "true" if named and named.items() <= truth.items() else "false"
        return f"step {self._step}, {combination.letters}: {sentence} ({verdict})"
