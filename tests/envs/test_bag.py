"""A sensor is needed: the bag hides its objects, what is hidden shows in nothing visible, and the expert without touch is at chance."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from handsight.envs.env import HandsightEnv, make
from handsight.envs.expert import Expert
from handsight.envs.observe import Camera, View
from handsight.envs.props import SHAPES
from handsight.envs.tasks.sense.bag_rough import fine_pressure
from handsight.envs.tasks.sense.bag_shape import contact_patch
from handsight.envs.tasks.sense.bag_stiff import squeeze_statistic
from handsight.sensors.types import TOUCH, Sensor

BODIES = ("ball0", "ball1", "ball2")


@pytest.fixture(scope="module", params=["bag_stiff", "bag_rough", "bag_shape"])
def env(request: pytest.FixtureRequest) -> Iterator[HandsightEnv]:
    environment = make(f"sense/{request.param}", sensors=Sensor.STATE | Sensor.TOUCH)
    yield environment
    environment.close()


def play(env: HandsightEnv, seed: int, *, blind: bool = False, watch: Camera | None = None) -> tuple[bool, int]:
    """Success, and the pixels of balls that were seen while they lay in the bag."""
    observation, info = env.reset(seed=seed)
    expert: Expert = env.make_expert()
    seen, done = 0, False
    while not done:
        if blind:
            observation[TOUCH] = np.zeros_like(observation[TOUCH])
        observation, _, terminated, truncated, info = env.step(expert.act(observation))
        done = terminated or truncated
        seen += visible_pixels(env, watch) if watch else 0
    return bool(info["is_success"]), seen


def visible_pixels(env: HandsightEnv, camera: Camera) -> int:
    inside = [env.world.model.geom(f"{body}_{shape}").id for body in BODIES for shape in SHAPES if env.world.position(body)[2] < 0.030]
    return sum(int(np.isin(camera.segmentation(name), inside).sum()) for name in ("front", "wrist"))


def test_no_pixel_of_a_ball_is_seen_while_it_is_in_the_bag(env: HandsightEnv) -> None:
    camera = Camera(env.world, View(128, 128))
    assert sum(play(env, seed, watch=camera)[1] for seed in range(2)) == 0
    camera.close()


def test_the_segmentation_test_can_fail(env: HandsightEnv) -> None:
    camera = Camera(env.world, View(128, 128))
    env.reset(seed=0)
    env.world.model.geom("cover1").rgba[3] = 0.0
    seen = visible_pixels(env, camera)
    env.world.model.geom("cover1").rgba[3] = 1.0
    camera.close()
    assert seen > 20


@pytest.mark.parametrize(("task", "attribute"), [("bag_stiff", "stiffness"), ("bag_rough", "texture"), ("bag_shape", "shape")])
def test_the_hidden_attribute_is_independent_of_the_place(task: str, attribute: str) -> None:
    environment = make(f"sense/{task}", sensors=Sensor.STATE)
    counts: Counter[tuple[str, int]] = Counter()
    for seed in range(600):
        environment.reset(seed=seed)
        counts[environment.setup.attributes[attribute], BODIES.index(environment.setup.target)] += 1
    environment.close()
    values = sorted({value for value, _ in counts})
    table = np.array([[counts[value, place] for place in range(len(BODIES))] for value in values])
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    critical = {2: 13.8, 4: 18.5}[(len(values) - 1) * (len(BODIES) - 1)]  # chi-square, by degrees of freedom, p = 0.001
    assert ((table - expected) ** 2 / expected).sum() < critical
    assert abs(table.sum(axis=0) - 200).max() < 45


def test_nothing_is_felt_without_contact() -> None:
    nothing = np.zeros((2, 3, 16, 16), np.float32)
    assert squeeze_statistic(nothing) == fine_pressure(nothing) == 0.0
    assert contact_patch(nothing) == (0, 0)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_expert_needs_touch(env: HandsightEnv) -> None:
    sighted = np.mean([play(env, seed)[0] for seed in range(3000, 3200)])
    blind = np.mean([play(env, seed, blind=True)[0] for seed in range(3000, 3200)])
    assert sighted >= 0.95
    assert abs(blind - 1 / 3) < 1.96 * np.sqrt(2 / 9 / 200) + 0.02
