"""Wipe the person's nose with the tissue: down and up again, touching it."""

import numpy as np

from handsight.envs.tasks.assist.activity import Activity, Array, Progress, tip_of
from handsight.envs.tasks.assist.scene import NOSE, Scene
from handsight.envs.world import World

CLOSE = 0.025  # distance of the tissue to the nose that counts as wiping [m]
STROKE = 0.010  # half height of a stroke [m]
ENOUGH = 0.05  # way of the tissue at the nose [m]


class WipeNose(Activity):
    """The tissue moves up and down at the nose."""

    name = "assist/wipe_nose"
    phrases = "wipe_nose"
    pace = 0.6

    def path(self, scene: Scene) -> Array:
        nose = scene.person + NOSE
        strokes = [nose + np.array([-0.004, 0.0, height * STROKE]) for height in (1, -1, 1, -1, 1, -1)]
        return np.array([nose - np.array([0.07, 0.0, 0.0]), *strokes])

    def done(self, world: World, scene: Scene, progress: Progress) -> bool:
        return progress.stroke(scene.person + NOSE, tip_of(world, scene, self.short), CLOSE) > ENOUGH
