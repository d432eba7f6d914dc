"""Bring the spoon to the person's mouth and hold it there."""

import numpy as np

from handsight.envs.tasks.assist.activity import Activity, Array, Progress, tip_of
from handsight.envs.tasks.assist.scene import MOUTH, Scene
from handsight.envs.world import World

CLOSE = 0.018  # distance of the spoon's tip to the lips [m]


class Feed(Activity):
    """The spoon's tip at the mouth."""

    name = "assist/feed"
    phrases = "feed"
    pace = 0.6

    def path(self, scene: Scene) -> Array:
        mouth = scene.person + MOUTH
        return np.array([mouth - np.array([0.07, 0.0, 0.0]), mouth - np.array([0.004, 0.0, 0.0])])

    def done(self, world: World, scene: Scene, progress: Progress) -> bool:
        return bool(np.linalg.norm(tip_of(world, scene, self.short) - scene.person - MOUTH) < CLOSE)
