"""What is particular to the bags; that they hide everything and need touch is proven in test_proofs.py."""

from collections import Counter

import numpy as np
import pytest

from handsight.envs.env import make
from handsight.envs.proofs import NO_CAMERAS
from handsight.envs.tasks.sense.bag import COVER, Bag
from handsight.envs.tasks.sense.bag_rough import fine_pressure
from handsight.envs.tasks.sense.bag_shape import contact_patch
from handsight.envs.tasks.sense.bag_stiff import squeeze_statistic
from handsight.sensors.types import Sensor

BAGS = ("sense/bag_color_feel", "sense/bag_rough", "sense/bag_shape", "sense/bag_stiff")


@pytest.mark.parametrize("task", BAGS)
def test_every_compartment_is_as_likely_as_any_other(task: str) -> None:
    env = make(task, sensors=Sensor.STATE)
    env.reset(seed=1000)
    rng, n = np.random.default_rng(0), 1200
    counts = Counter(env.task.reset(env.world, rng, env._ranges).target for _ in range(n))
    assert isinstance(env.task, Bag)
    places = env.task.places
    env.close()
    assert len(counts) == places
    assert max(abs(count - n / places) for count in counts.values()) < 4 * np.sqrt(n / places * (1 - 1 / places))


@pytest.mark.parametrize("task", BAGS)
def test_everything_lies_in_its_compartment_below_the_covers(task: str) -> None:
    env = make(task, sensors=NO_CAMERAS)
    for seed in range(1000, 1010):
        env.reset(seed=seed)
        centres = env.setup.privileged["centres"]
        assert isinstance(env.task, Bag)
        assert isinstance(centres, np.ndarray)
        found = np.array([env.world.position(body) for body in env.task.bodies])
        assert np.abs(found - centres).max() < 0.008
        assert found[:, 2].max() < COVER - 0.020
        assert not env.task.visible(env.world, env.setup)
    env.close()


def test_nothing_is_felt_without_contact() -> None:
    nothing = np.zeros((2, 3, 16, 16), np.float32)
    assert squeeze_statistic(nothing) == fine_pressure(nothing) == 0.0
    assert contact_patch(nothing) == (0, 0)
