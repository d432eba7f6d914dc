"""What a decoder answers when it is asked for an attribute: the value that all sentences about it make most probable, together.

The most probable words after "it feels" are no answer: a decoder knows its sentences, and where it was never trained to say of a soft thing
that "it feels squishy", but that "the one in my hand is squishy", the words after "it feels" say nothing of the thing. (Asked that way,
zoo/fuse called every soft object hard, whose free sentences were right in 0.99.)

Axes: B batch, A sentences, L words, R readouts, D width.
"""

from collections.abc import Sequence
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from handsight.policies.fuse.sentences import Sentence, attributes_of
from handsight.sensors.describe import SENSE_OF, Descriptions, slots
from handsight.sensors.grounding import COMBINATIONS, VALUES
from handsight.sensors.questions import Question
from handsight.sensors.words import PAD, sentence, targets


class Speaking(Protocol):
    """A decoder (policies/fuse/decoder.py)."""

    def __call__(self, readouts: Tensor, combination: Tensor, words: Tensor) -> Tensor:
        """Readouts (B, R, D), combinations (B,), words (B, L) -> logits (B, L, V)."""

    def speak(self, readouts: Tensor, combination: Tensor, speakers: Sequence[Sentence]) -> Tensor:
        """The words of each row (B, L)."""


@cache
def answers(question: Question, value: str) -> tuple[str, ...]:
    """The short answers that give a value, its usual word first: "it looks purple", "it looks violet"."""
    book = Descriptions.load()
    predicate = next(
        text
        for name, sense in SENSE_OF.items()
        if sense == question.answered_by
        for text in book.predicates[name]
        if slots(text) == {question.about}
    )
    return tuple(f"it {predicate.format(**{question.about: word})}" for word in book.words_for(question.about, value))


@cache
def wordings(question: Question, value: str) -> tuple[str, ...]:
    """Every sentence of training that gives the value and names no other attribute."""
    book, found = Descriptions.load(), list[str]()
    for template in book.templates[question.combination.letters]["train"]:
        predicates = [name for name in slots(template) if name in SENSE_OF]
        if slots(template) - {question.about, *predicates}:
            continue
        for text in book.predicates[predicates[0]] if predicates else ("",):
            if slots(template + text) - set(predicates) == {question.about}:
                for word in book.words_for(question.about, value):
                    said = dict.fromkeys(predicates, text.format(**{question.about: word}))
                    found.append(template.format(**{question.about: word}, **said))
    return tuple(found)


def ask(decoder: Speaking, readouts: Tensor, question: Question) -> list[str]:
    """The short answer of each row, from readouts (B, R, D).

    One sense: the value with the largest sum of its sentences' probabilities. Several, whose sentences about one attribute name others,
    too: the value in the sentence that they say of those that name the attribute; "" if a decoder that cannot be led names none.
    """
    if len(question.combination) == 1:
        return _most_probable(decoder, readouts, question)
    place = torch.full((len(readouts),), COMBINATIONS.index(question.combination), device=readouts.device)
    speakers = [Sentence(question.combination, naming=question.about) for _ in readouts]
    said = [sentence(row) for row in decoder.speak(readouts, place, speakers).tolist()]
    values = [attributes_of(text, question.combination).get(question.about) for text in said]
    return [answers(question, value)[0] if value else "" for value in values]


@torch.no_grad()
def _most_probable(decoder: Speaking, readouts: Tensor, question: Question) -> list[str]:
    values = VALUES[question.about]
    sentences = [wordings(question, value) for value in values]
    words = torch.from_numpy(targets([text for texts in sentences for text in texts])).to(readouts.device)
    words = words[:, : int((words != PAD).sum(dim=1).max())]  # (A, L)
    place = torch.full((len(words),), COMBINATIONS.index(question.combination), device=readouts.device)
    said = []
    for row in readouts:
        logits = decoder(row.expand(len(words), -1, -1), place, words).log_softmax(dim=2)
        likelihood = (logits.gather(2, words.unsqueeze(2)).squeeze(2) * (words != PAD)).sum(dim=1)  # (A,)
        parts = likelihood.split([len(texts) for texts in sentences])
        best = max(range(len(values)), key=lambda i: float(parts[i].logsumexp(dim=0)))
        said.append(answers(question, values[best])[0])
    return said
