"""Answers to what a sense is asked for."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from handsight.policies.fuse.answers import answers, ask, wordings
from handsight.policies.fuse.sentences import Sentence, attributes_of
from handsight.sensors.describe import Descriptions
from handsight.sensors.grounding import COMBINATIONS, REVEALED_BY, VALUES, Modality
from handsight.sensors.questions import Question
from handsight.sensors.words import END, PAD, sentence, spell, vocabulary

SENSES = tuple(Modality)
QUESTIONS = [Question(sense, name) for name, senses in REVEALED_BY.items() for sense in SENSES if sense in senses]
HARDNESS = Question(Modality.TOUCH, "hardness")


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: f"{question.combination.letters}:{question.about}")
def test_answers_and_wordings_give_the_value_and_nothing_else(question: Question) -> None:
    for value in VALUES[question.about]:
        short, long = answers(question, value), wordings(question, value)
        assert short
        assert set(short) <= set(long)
        assert len(set(long)) == len(long) > len(short)
        assert all(attributes_of(text, question.combination) == {question.about: value} for text in long)


def test_the_usual_word_is_the_answer() -> None:
    assert answers(Question(Modality.VISION, "color"), "purple") == ("it looks purple", "it looks violet")
    assert answers(HARDNESS, "hard")[0] == "it feels hard"
    assert "the firm one" in wordings(HARDNESS, "hard")
    assert "in the hand it is stiff to the touch" in wordings(HARDNESS, "hard")


@given(st.sampled_from(list(VALUES)), st.sampled_from(COMBINATIONS), st.randoms())
def test_a_sentence_can_be_made_to_name_an_attribute(name: str, combination: Modality, random: Any) -> None:
    if not REVEALED_BY[name] & combination:
        return
    said, words = Sentence(combination, naming=name), []
    while (word := random.choice(said.allowed())) != END:
        words.append(word)
        said.say(word)
    assert name in said.attributes()
    assert attributes_of(sentence(words), combination) == said.attributes()


class Says:
    """Several senses say this, if it is allowed."""

    def __init__(self, text: str) -> None:
        self.words = [*spell(text), END]

    def __call__(self, readouts: torch.Tensor, combination: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        raise AssertionError("several senses are not scored")

    def speak(self, readouts: torch.Tensor, combination: torch.Tensor, speakers: Sequence[Sentence]) -> torch.Tensor:
        for speaker in speakers:
            for word in self.words:
                assert word in speaker.allowed()
                speaker.say(word)
        return torch.tensor([self.words] * len(speakers))


def test_several_senses_answer_by_a_sentence_that_names_the_attribute() -> None:
    question = Question(Modality.VISION | Modality.AUDIO, "color")
    template = Descriptions.load().templates["VA"]["train"][0]
    text = template.format(look="looks purple", noise="makes a low tone", color="purple", sound="low tone", material="wood")
    assert ask(Says(text), torch.zeros(2, 4, 8), question) == ["it looks purple"] * 2


def test_a_decoder_that_cannot_be_led_may_have_no_answer() -> None:
    class Stubborn(Says):
        def speak(self, readouts: torch.Tensor, combination: torch.Tensor, speakers: Sequence[Sentence]) -> torch.Tensor:
            return torch.tensor([self.words] * len(speakers))

    assert ask(Stubborn("it looks"), torch.zeros(2, 4, 8), Question(Modality.VISION | Modality.AUDIO, "color")) == ["", ""]


def knows(sentences: dict[str, float]) -> tuple[torch.Tensor, object]:
    """A decoder that says these sentences with these probabilities, whatever it reads, and after other words the word "hard"."""
    starts: dict[tuple[int, ...], dict[int, float]] = {}
    for text, probability in sentences.items():
        ids = [*spell(text), END]
        for i, word in enumerate(ids):
            following = starts.setdefault(tuple(ids[:i]), {})
            following[word] = following.get(word, 0.0) + probability

    def decode(readouts: torch.Tensor, combination: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        logits = torch.full((*words.shape, len(vocabulary())), -20.0)
        for row, ids in enumerate(words.tolist()):
            for place in range(len(ids)):
                for word, weight in starts.get(tuple(ids[:place]), {spell("hard")[0]: 1.0}).items():
                    logits[row, place, word] = torch.tensor(weight).log()
        return logits

    return torch.zeros(2, 4, 8), decode


def test_the_answer_is_what_all_sentences_say_and_not_what_follows_its_first_words() -> None:
    readouts, decode = knows({"the squishy one": 0.4, "the soft one": 0.3, "the hard one": 0.2, "its surface is smooth": 0.1})
    assert ask(decode, readouts, HARDNESS) == ["it feels soft"] * 2  # type: ignore[arg-type] # a function is enough
    assert ask(decode, readouts, Question(Modality.TOUCH, "texture")) == ["it feels smooth"] * 2  # type: ignore[arg-type]


def test_padding_counts_for_nothing() -> None:
    """A short sentence is not better than a long one for its pads."""
    assert PAD not in spell("the squishy one")
    readouts, decode = knows({"the fingers say that it is squishy to the touch": 0.6, "the hard one": 0.4})
    assert ask(decode, readouts, HARDNESS) == ["it feels soft"] * 2  # type: ignore[arg-type]
