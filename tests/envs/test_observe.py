"""Cameras do not disturb each other."""

import numpy as np

from handsight.envs.env import make
from handsight.envs.observe import Camera, View
from handsight.sensors.types import FRONT, Sensor


def test_closing_a_camera_leaves_the_pictures_of_others_alone() -> None:
    env = make("sense/bag_color_feel", sensors=Sensor.CAMERAS)
    before = env.reset(seed=0)[0][FRONT].copy()
    other = Camera(env.world, View(64, 64))
    other.picture("front")
    assert (env.reset(seed=0)[0][FRONT] == before).all()  # the environment drew last: its context is the current one
    other.close()
    after = env.reset(seed=0)[0][FRONT]
    env.close()
    np.testing.assert_array_equal(after, before)
    assert before.std() > 10
