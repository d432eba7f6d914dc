"""The four proofs that a sensor is needed, over every task: quick here, with 200 episodes in `handsight bench suite`."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from math import comb

import mujoco
import numpy as np
import pytest

from handsight.envs.env import HandsightEnv, make, task_names
from handsight.envs.observe import Camera, View
from handsight.envs.proofs import (
    DOWN,
    NO_CAMERAS,
    SIDE,
    glass_is_no_cover,
    hidden,
    hidden_pixels,
    independence_of,
    make_lean,
    observe_resets,
    pixels_of,
    play,
    play_actions,
    random_actions,
    task_named,
    without,
)
from handsight.envs.randomize import Ranges
from handsight.envs.tasks.base import Setup
from handsight.envs.tasks.sense.bag_stiff import BagStiff
from handsight.envs.world import World
from handsight.sensors.types import TOUCH, Sensor

FIRST = 1000  # seeds for development
SEEN, BLIND, RESETS = 3, 10, 300  # episodes with and without a sensor, and resets, in the quick proofs
ALARM = 1e-2  # chance of a false alarm of a quick proof


@pytest.fixture(scope="module", params=task_names())
def env(request: pytest.FixtureRequest) -> Iterator[HandsightEnv]:
    environment = make_lean(request.param)
    yield environment
    environment.close()


def generous(chance: float, n: int) -> int:
    """The number of successes of n that is exceeded with a probability below ALARM (binomial)."""
    tails = [sum(comb(n, k) * chance**k * (1 - chance) ** (n - k) for k in range(least + 1, n + 1)) for least in range(n + 1)]
    return next(least for least, tail in enumerate(tails) if tail < ALARM)


def test_the_bound_is_of_use() -> None:
    assert [generous(chance, BLIND) for chance in (1 / 64, 1 / 4, 1 / 3, 1 / 2)] == [2, 6, 7, 9]


# 1. occlusion


def test_nothing_hidden_is_seen_during_an_episode(env: HandsightEnv) -> None:
    env.reset(seed=FIRST)
    if not hidden(env):
        pytest.skip("hides nothing")
    camera = Camera(env.world, View(SIDE, SIDE))
    found = hidden_pixels(env, camera, FIRST)
    camera.close()
    assert found.pixels == 0
    assert found.frames > 10


@pytest.fixture
def bag() -> Iterator[tuple[HandsightEnv, Camera]]:
    env = make("sense/bag_stiff", sensors=NO_CAMERAS)
    camera = Camera(env.world, View(SIDE, SIDE))
    env.reset(seed=FIRST)
    yield env, camera
    camera.close()
    env.close()


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_a_cover_of_glass_hides_nothing(bag: tuple[HandsightEnv, Camera], alpha: float) -> None:
    env, camera = bag
    assert pixels_of(env, camera, ["ball1"]) == 0
    env.world.model.geom("cover1").rgba[3] = alpha
    assert pixels_of(env, camera, ["ball1"]) > 20
    assert env.world.model.geom("cover1").rgba[3] == alpha
    assert pixels_of(env, camera, ["ball0"]) == 0


def test_a_geom_that_is_not_drawn_is_not_seen(bag: tuple[HandsightEnv, Camera]) -> None:
    env, camera = bag
    env.world.model.geom("cover1").rgba[3] = 0.0
    for shape in ("box", "cylinder", "sphere"):
        env.world.model.geom(f"ball1_{shape}").rgba[3] = 0.0
    assert pixels_of(env, camera, ["ball1"]) == 0


def test_what_stands_out_of_the_covers_is_not_hidden(bag: tuple[HandsightEnv, Camera]) -> None:
    env, camera = bag
    assert "ball1" in hidden(env)
    env.world.place("ball1", env.world.position("ball1") + np.array([0.0, 0.0, 0.03]))
    mujoco.mj_forward(env.world.model, env.world.data)
    assert "ball1" not in hidden(env)
    assert pixels_of(env, camera, ["ball1"]) > 0


def test_glass_is_as_before_afterwards(bag: tuple[HandsightEnv, Camera]) -> None:
    model = bag[0].world.model
    before = model.geom_rgba.copy()
    with glass_is_no_cover(model, np.arange(3)):
        pass
    np.testing.assert_array_equal(model.geom_rgba, before)


# 2. independence


@pytest.mark.parametrize("task", task_names())
def test_the_secret_is_independent_of_all_that_is_known_at_reset(task: str) -> None:
    resets = observe_resets(task_named(task), range(FIRST, FIRST + RESETS))
    assert len({reset.secret for reset in resets}) > 1
    found = independence_of(resets)
    assert found.p > 0.01, found


class ShadedBag(BagStiff):
    """The middle cover is a little darker when the odd ball lies on the left."""

    def reset(self, world: World, rng: np.random.Generator, ranges: Ranges) -> Setup:
        setup = super().reset(world, rng, ranges)
        world.model.geom("cover1").rgba[:3] = 0.40 if setup.secret == "0" else 0.55
        return setup


class TalkativeBag(BagStiff):
    """The target lies on the left whenever it is soft."""

    def reset(self, world: World, rng: np.random.Generator, ranges: Ranges) -> Setup:
        setup = super().reset(world, rng, ranges)
        return replace(setup, secret="0" if setup.attributes["stiffness"] == "soft" else setup.secret)


@pytest.mark.parametrize(("task", "place"), [(ShadedBag(), "1/"), (TalkativeBag(), "slot")])
def test_a_leak_is_found(task: BagStiff, place: str) -> None:
    found = independence_of(observe_resets(task, range(FIRST, FIRST + RESETS)))
    assert found.p < 1e-6
    assert place in found.feature


# 3. the expert with and without the sensor


def test_the_expert_succeeds(env: HandsightEnv) -> None:
    outcomes = [play(env, seed) for seed in range(FIRST, FIRST + SEEN)]
    assert all(outcome.success for outcome in outcomes), outcomes


def test_the_expert_is_no_better_than_chance_without_the_sensor(env: HandsightEnv) -> None:
    assert env.task.needs
    for sensor, chance in env.task.needs.items():
        successes = sum(play(env, seed, zeroed=sensor).success for seed in range(FIRST, FIRST + BLIND))
        assert successes <= generous(chance, BLIND), sensor


def test_a_zeroed_sensor_leaves_the_others_alone(rng: np.random.Generator) -> None:
    observation = {key: rng.normal(size=3) for key in Sensor.ALL.keys}
    blind = without(observation, Sensor.TOUCH)
    assert not blind[TOUCH].any()
    assert all(blind[key] is observation[key] for key in observation if key != TOUCH)
    assert observation[TOUCH].any()


# 4. no sensor at all


def test_random_and_constant_actions_fail(env: HandsightEnv) -> None:
    """Three of each cannot show less than 5%: they find a task that does itself."""
    world = make(env.task.name, sensors=Sensor.STATE)
    for seed in range(FIRST, FIRST + 3):
        assert not play_actions(world, seed, random_actions(np.random.default_rng(seed))).success
    assert not play_actions(world, FIRST, repeat(DOWN)).success
    assert not play_actions(world, FIRST, repeat(np.zeros(7, np.float32))).success
    world.close()
