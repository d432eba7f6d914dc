"""F1 of what was said, against scikit-like definitions worked out by hand, and its interval."""

import numpy as np
import pytest

from handsight.launch.bench_describe import Moment, _others
from handsight.launch.description_scores import Answer, attribute_scores, macro_f1, score, true_share
from handsight.sensors.grounding import Modality


def test_f1_of_a_worked_example() -> None:
    # soft: TP 2, FP 1, FN 1 -> 4/6; hard: TP 1, FP 1, FN 1 -> 2/4
    assert macro_f1(["soft", "soft", "soft", "hard", "hard"], ["soft", "soft", "hard", "hard", "soft"]) == pytest.approx(
        (4 / 6 + 2 / 4) / 2
    )
    assert macro_f1(["a", "b"], ["a", "b"]) == 1
    assert macro_f1(["a", "a"], ["c", "c"]) == 0


def test_a_constant_answer_scores_far_below_the_share_that_it_gets_right() -> None:
    assert macro_f1(["a"] * 9 + ["b"], ["a"] * 10) == pytest.approx((18 / 19 + 0) / 2)


def test_attributes_count_alike_and_the_interval_is_of_episodes(rng: np.random.Generator) -> None:
    answers = [Answer(i // 10, "color", "red", "red") for i in range(100)] + [Answer(i, "shape", "box", "ball") for i in range(10)]
    assert attribute_scores(answers) == {"color": 1, "shape": 0}
    assert score(answers, rng)["f1"] == 0.5
    colors = ("red", "blue")
    mixed = [Answer(i // 10, "color", colors[i % 2], colors[(i + (i < 50)) % 2]) for i in range(100)]  # the first five episodes are wrong
    found = score(mixed, rng)
    assert found["low"] < found["f1"] < found["high"]
    assert (found["answers"], found["episodes"]) == (100, 10)


def test_a_sentence_is_true_if_it_names_something_and_nothing_false() -> None:
    truths = [{"color": "red", "shape": "box"}] * 4
    assert true_share([{"color": "red"}, {}, {"color": "red", "shape": "ball"}, truths[0]], truths) == 0.5


def test_shuffled_sensors_are_those_of_other_episodes_and_each_is_used_once() -> None:
    group = [Moment(i // 3, Modality.TOUCH, {}, {}) for i in range(30)]
    others = _others(group)
    assert sorted(map(id, others)) == sorted(map(id, group))
    assert sum(mine.episode == other.episode for mine, other in zip(group, others, strict=True)) <= 6
