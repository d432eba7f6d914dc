"""When a policy speaks in a rollout, and what is made of its sentences."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from handsight.envs.pool import Transition
from handsight.launch.actors import ExpertActor, scripted
from handsight.launch.narrate import DELAY, NOTE_DELAY, Narrator, narrated
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import Attributes, Modality
from handsight.sensors.questions import Question, parse_questions
from handsight.sensors.referent import Referent

SOFT = Attributes(color="red", shape="box", hardness="soft")
T = Modality.TOUCH


def transition(referent: Referent | None) -> Transition:
    label = None if referent is None else referent.row()
    return Transition(0, {}, "task", 0.0, False, False, False, False, False, None, None, grounding=label)


class Speaker:
    """Says one sentence, and moves in one way."""

    windows = (41, 20)
    looks = True

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        self.asked: list[Question] = []
        self.told: list[str] = []

    def reset(self, seed: int) -> None:
        self.asked.clear()

    def act(self, transition: Transition) -> Any:
        self.told.append(transition.task)
        return np.zeros(7, np.float32)

    def describe(self, transition: Transition, combination: Modality, about: str = "") -> str:
        self.asked.append(Question(combination, about))
        return self.sentence


def played(referents: list[Referent | None], sentence: str = "it feels soft", names: str = "T") -> Narrator:
    narrator = Narrator(Speaker(sentence), parse_questions(names))
    narrator.reset(0)
    for referent in referents:
        assert narrator.act(transition(referent)).shape == (7,)
    return narrator


def test_it_speaks_once_of_each_thing_a_little_after_contact() -> None:
    away, contact = Referent(SOFT, visible=True), Referent(SOFT, since_touched=0, visible=True)
    other = Referent(Attributes(color="blue", hardness="hard"), since_touched=0)
    narrator = played([away] * 3 + [contact] * 20 + [other] * 20)
    first, second = 3 + DELAY, 23 + DELAY
    assert narrator.lines == [f"step {first}, T: it feels soft (true)", f"step {second}, T: it feels soft (false)"]
    assert played([None] * 9 + [away] * 9).lines == []
    narrator.reset(1)
    assert narrator.lines == []


def test_each_combination_speaks_when_its_own_senses_can() -> None:
    narrator = played(
        [Referent(SOFT, since_touched=0, visible=False)] * 9 + [Referent(SOFT, since_touched=0, visible=True)] * 9, names="V,T,VT"
    )
    assert [line.split(":")[0] for line in narrator.lines] == [f"step {DELAY}, T", f"step {9 + DELAY}, V", f"step {9 + DELAY}, VT"]
    assert narrator.lines[0].endswith("(true)")
    assert narrator.lines[1].endswith("(false)")  # nothing that eyes can say


def test_a_sense_is_asked_for_what_the_thing_has() -> None:
    speaker = Speaker("it feels soft")
    narrator = Narrator(speaker, parse_questions("T:hardness, T:texture, V"))
    narrator.reset(0)
    for _ in range(9):
        narrator.act(transition(Referent(SOFT, since_touched=0, visible=True)))
    assert speaker.asked == [Question(T, "hardness"), Question(Modality.VISION)]  # its texture is not known


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("T:color", r"ask T for one of shape, size, hardness, texture, got color"),
        ("VT:sound", r"ask VT for one of color, .* texture, got sound"),
    ],
)
def test_senses_are_asked_for_what_they_reveal(names: str, message: str) -> None:
    with pytest.raises(HandsightError, match=message):
        parse_questions(names)


def test_the_first_sentence_of_the_combination_that_is_obeyed_becomes_the_command() -> None:
    narrator = Narrator(Speaker("it feels soft"), parse_questions("V,T"), parse_questions("T"))
    narrator.reset(0)
    seen = Referent(SOFT, since_touched=0, visible=True)
    other = Referent(Attributes(color="blue", hardness="hard"), since_touched=0)
    commands = []
    for referent in [seen] * 9 + [other] * 9:
        narrator.act(transition(referent))
        commands.append(narrator.command)
    assert commands == [""] * DELAY + ["it feels soft"] + [""] * (17 - DELAY)
    with pytest.raises(HandsightError, match="expected one combination in --command"):
        narrated(scripted("expert"), "", "T,A")


def test_the_last_answer_to_a_policys_own_question_stands_before_its_instruction() -> None:
    speaker = Speaker("it feels soft")
    narrator = Narrator(speaker, (), note=Question(T, "hardness"))
    narrator.reset(0)
    first, second = Referent(SOFT, since_touched=0), Referent(Attributes(color="blue", hardness="hard"), since_touched=0)
    for referent in [first] * 9 + [second] * 9:
        narrator.act(transition(referent))
    speaker.sentence = "it feels hard"
    for _ in range(9):
        narrator.act(transition(first))  # met again after another: noted again
    assert speaker.told == ["task"] * (NOTE_DELAY + 1) + ["it feels soft task"] * 18 + ["it feels hard task"] * (8 - NOTE_DELAY)
    assert [line.rpartition(" ")[2] for line in narrator.lines] == ["(true)", "(false)", "(false)"]
    narrator.reset(1)
    narrator.act(transition(first))
    assert speaker.told[-1] == "task"


def test_a_sense_that_is_missing_is_not_quoted() -> None:
    narrator = Narrator(Speaker(""), parse_questions("T"), parse_questions("T"), Question(T, "hardness"))
    narrator.reset(0)
    for _ in range(9):
        narrator.act(transition(Referent(SOFT, since_touched=0)))
        assert narrator.command == ""
    assert narrator.lines == []


def test_a_cast_without_anything_to_say_stays_as_it_is() -> None:
    cast = scripted("expert")
    assert narrated(cast, "") is cast
    with pytest.raises(HandsightError, match="policy that describes"):
        narrated(replace(cast, note="V:color"), "").make(None)  # type: ignore[arg-type] # the expert asks for nothing


def test_unknown_combinations_and_actors_that_cannot_describe_are_refused() -> None:
    with pytest.raises(HandsightError, match="among V,T,A,VT,VA,TA,VTA, got X"):
        parse_questions("V,X")
    with pytest.raises(HandsightError, match="policy that describes"):
        Narrator(ExpertActor(), (Question(T),))
    with pytest.raises(HandsightError, match="policy that describes"):
        narrated(scripted("expert"), "T").make(None)  # type: ignore[arg-type] # the expert asks for nothing
