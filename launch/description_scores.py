"""Scores of descriptions: for each attribute the F1 of its values, and how many of the sentences that were said freely are true."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

import numpy as np

DRAWS: Final = 1000


@dataclass(frozen=True)
class Answer:
    """What was said about one attribute of a thing that a sense had met."""

    episode: int
    attribute: str
    truth: str
    said: str


def macro_f1(truths: Sequence[str], said: Sequence[str]) -> float:
    """F1 = 2 TP / (2 TP + FP + FN) of each value that is true somewhere, averaged over these values."""
    scores = []
    for value in sorted(set(truths)):
        hits = sum(truth == answer == value for truth, answer in zip(truths, said, strict=True))
        scores.append(2 * hits / (truths.count(value) + said.count(value)))
    return fmean(scores)


def attribute_scores(answers: Sequence[Answer]) -> dict[str, float]:
    """F1 by attribute, in the order in which they first occur."""
    names = dict.fromkeys(answer.attribute for answer in answers)
    kept = {name: [answer for answer in answers if answer.attribute == name] for name in names}
    return {name: macro_f1([answer.truth for answer in group], [answer.said for answer in group]) for name, group in kept.items()}


def score(answers: Sequence[Answer], rng: np.random.Generator, draws: int = DRAWS) -> dict[str, Any]:
    """Mean over attributes of their F1 with a percentile interval that resamples episodes, and each attribute's own."""
    by_attribute = attribute_scores(answers)
    groups: dict[int, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.episode, []).append(answer)
    episodes = list(groups.values())
    means = []
    for _ in range(draws):
        chosen = rng.integers(len(episodes), size=len(episodes))
        means.append(fmean(attribute_scores([answer for place in chosen for answer in episodes[place]]).values()))
    low, high = np.quantile(means, [0.025, 0.975])
    return {
        "f1": fmean(by_attribute.values()),
        "low": float(low),
        "high": float(high),
        "answers": len(answers),
        "episodes": len(episodes),
        "attributes": by_attribute,
    }


def true_share(named: Sequence[Mapping[str, str]], truths: Sequence[Mapping[str, str]]) -> float:
    """Share of sentences that name something and nothing false."""
    return fmean(bool(said) and said.items() <= truth.items() for said, truth in zip(named, truths, strict=True))
