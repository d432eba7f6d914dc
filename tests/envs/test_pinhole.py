"""Projection against OpenCV's, and against where the renderer draws things."""

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from handsight.envs.env import HandsightEnv, make
from handsight.envs.observe import Camera, View
from handsight.envs.pinhole import Pinhole
from handsight.envs.tasks.sense.tabletop_grasp import BODIES
from handsight.sensors.types import Sensor

SIZE = 128


@pytest.fixture(scope="module")
def env() -> Iterator[HandsightEnv]:
    environment = make("sense/tabletop_grasp", sensors=Sensor.STATE)
    yield environment
    environment.close()


@pytest.mark.parametrize("camera", ["front", "wrist", "view"])
def test_projection_is_opencvs(env: HandsightEnv, camera: str, rng: np.random.Generator) -> None:
    env.reset(seed=0)
    pinhole = Pinhole.of(env.world, camera, SIZE)
    points = rng.uniform([0.3, -0.3, 0.0], [0.7, 0.3, 0.1], (50, 3))
    turn, _ = cv2.Rodrigues(pinhole.rotation)
    expected, _ = cv2.projectPoints(points, turn, pinhole.translation, pinhole.matrix, None)
    found = pinhole.project(points)
    ahead = ~np.isnan(found[:, 0])
    assert ahead.any()
    np.testing.assert_allclose(found[ahead], expected[ahead, 0], atol=1e-6)


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_renderer_draws_spheres_where_they_project(env: HandsightEnv, camera: str) -> None:
    picture, errors = Camera(env.world, View(SIZE, SIZE)), []
    for seed in range(12):
        env.reset(seed=seed)
        for body in BODIES:
            geom = env.world.model.geom(f"{body}_sphere").id
            rows, columns = np.nonzero(picture.segmentation(camera) == geom)
            whole = len(rows) > 20 and rows.min() > 0 and rows.max() < SIZE - 1 and columns.min() > 0 and columns.max() < SIZE - 1
            if whole:
                pixel = Pinhole.of(env.world, camera, SIZE).project(env.world.position(body)[None])[0]
                errors.append(np.hypot(*(np.array([columns.mean(), rows.mean()]) - pixel)))
    picture.close()
    assert len(errors) >= 3
    assert max(errors) < 0.5


def test_points_behind_the_camera_have_no_pixel(env: HandsightEnv) -> None:
    env.reset(seed=0)
    assert np.isnan(Pinhole.of(env.world, "front", SIZE).project(np.array([[5.0, 0.0, 3.0]]))).all()
