"""Splits: training and new combinations share no combination but every value; new objects are other objects of the same task."""

from collections.abc import Iterator

import numpy as np
import pytest

from handsight.envs.env import HandsightEnv, make, task_names
from handsight.envs.proofs import NO_CAMERAS, play
from handsight.envs.randomize import Ranges
from handsight.envs.splits import NEW_TASKS, Split, admits, held_out, spread
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import Sensor

SCENES = 300
Combination = tuple[str, ...]


@pytest.fixture(scope="module", params=task_names())
def env(request: pytest.FixtureRequest) -> Iterator[HandsightEnv]:
    environment = make(request.param, sensors=Sensor.STATE)
    yield environment
    environment.close()


def combinations(env: HandsightEnv, split: Split) -> set[Combination]:
    """Of SCENES scenes of a split."""
    env.reset(seed=1000)
    rng, ranges = np.random.default_rng(0), Ranges(split=split)
    drawn = (env.task.reset(env.world, rng, ranges).combination for _ in range(SCENES))
    return {combination for combination in drawn if admits(split, combination)}


def test_training_and_new_combinations_share_values_but_no_combination(env: HandsightEnv) -> None:
    train, new = (combinations(env, split) for split in (Split.TRAIN, Split.NEW_COMBINATION))
    assert train
    assert new
    assert not train & new
    assert len(new) < len(train)
    for known, asked in zip(zip(*train, strict=True), zip(*new, strict=True), strict=True):
        assert set(asked) <= set(known)


def test_an_environment_draws_from_its_split(env: HandsightEnv) -> None:
    for split in (Split.TRAIN, Split.NEW_COMBINATION):
        chosen = make(env.task.name, sensors=Sensor.STATE, ranges=Ranges(split=split))
        for seed in range(1000, 1006):
            chosen.reset(seed=seed)
            assert held_out(chosen.setup.combination) == (split is Split.NEW_COMBINATION)
        chosen.close()


def test_the_expert_copes_with_new_objects(env: HandsightEnv) -> None:
    novel = make(env.task.name, sensors=NO_CAMERAS, ranges=Ranges(split=Split.NEW_OBJECT))
    successes = sum(play(novel, seed).success for seed in range(1000, 1003))
    novel.close()
    assert successes >= 2


def test_new_tasks_exist() -> None:
    assert set(NEW_TASKS) <= set(task_names())
    assert len(set(NEW_TASKS)) == len(NEW_TASKS)


def test_new_objects_have_sizes_that_no_other_split_has(rng: np.random.Generator) -> None:
    known = np.array([spread(rng, Split.TRAIN, 0.02, 0.03) for _ in range(300)])
    novel = np.array([spread(rng, Split.NEW_OBJECT, 0.02, 0.03) for _ in range(300)])
    assert known.min() >= 0.02
    assert known.max() <= 0.03
    assert ((novel < 0.02) | (novel > 0.03)).all()
    assert novel.min() >= 0.02 - 0.003
    assert novel.max() <= 0.03 + 0.003
    assert (novel < 0.02).any()
    assert (novel > 0.03).any()


def test_about_a_fifth_is_held_out() -> None:
    share = np.mean([held_out((f"a{i}", f"b{k}")) for i in range(50) for k in range(50)])
    assert share == pytest.approx(0.2, abs=0.03)


def test_an_unknown_split_is_refused_in_one_line() -> None:
    with pytest.raises(HandsightError, match="new_combination") as caught:
        Split.parse("novel")
    assert "\n" not in str(caught.value)
    assert Split.parse("train") is Split.TRAIN
