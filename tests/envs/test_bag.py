"""A sensor is needed: the bag hides its balls, what is hidden shows in nothing visible, and the expert without touch is at chance."""

from collections.abc import Iterator

import numpy as np
import pytest

from handsight.envs.env import HandsightEnv, make
from handsight.envs.expert import Expert
from handsight.envs.observe import Camera, View
from handsight.envs.tasks.sense.bag_stiff import BODIES, squeeze_statistic
from handsight.sensors.types import TOUCH, Sensor


@pytest.fixture(scope="module")
def env() -> Iterator[HandsightEnv]:
    environment = make("sense/bag_stiff", sensors=Sensor.STATE | Sensor.TOUCH)
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
    inside = [env.world.model.geom(f"{body}_sphere").id for body in BODIES if env.world.position(body)[2] < 0.030]
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


def test_the_hidden_attribute_is_independent_of_the_place() -> None:
    environment = make("sense/bag_stiff", sensors=Sensor.STATE)
    table = np.zeros((2, 3))
    for seed in range(600):
        environment.reset(seed=seed)
        hidden = environment.setup.privileged
        table[int(hidden["stiffness"] == "soft"), int(str(hidden["odd"]))] += 1
    environment.close()
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    assert ((table - expected) ** 2 / expected).sum() < 13.8  # chi-square, 2 degrees of freedom, p = 0.001
    assert abs(table.sum(axis=0) - 200).max() < 45


def test_squeeze_statistic_without_contact_is_zero() -> None:
    assert squeeze_statistic(np.zeros((2, 3, 16, 16), np.float32)) == 0.0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_expert_needs_touch(env: HandsightEnv) -> None:
    sighted = np.mean([play(env, seed)[0] for seed in range(3000, 3200)])
    blind = np.mean([play(env, seed, blind=True)[0] for seed in range(3000, 3200)])
    assert sighted >= 0.95
    assert abs(blind - 1 / 3) < 1.96 * np.sqrt(2 / 9 / 200) + 0.02
