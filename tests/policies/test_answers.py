"""Answers to what a sense is asked for."""

import pytest
import torch

from handsight.policies.fuse.answers import answers, ask, wordings
from handsight.policies.fuse.sentences import attributes_of
from handsight.sensors.grounding import REVEALED_BY, VALUES, Modality
from handsight.sensors.questions import Question
from handsight.sensors.words import PAD, spell, vocabulary

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


def knows(sentences: dict[str, float]) -> tuple[torch.Tensor, object]:
    """A decoder that says these sentences with these probabilities, whatever it reads, and after other words the word "hard"."""
    starts: dict[tuple[int, ...], dict[int, float]] = {}
    for text, probability in sentences.items():
        ids = [*spell(text), 2]
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
