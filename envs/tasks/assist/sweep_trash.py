"""Sweep the crumbs into the dustpan with the brush."""

import numpy as np

from handsight.envs.tasks.assist.activity import Activity, Array, Progress
from handsight.envs.tasks.assist.scene import DUSTPAN_HALF, TRASH, Scene
from handsight.envs.world import World

BEHIND, FLOOR = -0.175, 0.0095  # where the brush is put down, from the dustpan [m]; height of the bristles [m]


class SweepTrash(Activity):
    """Every crumb lies on the dustpan."""

    name = "assist/sweep_trash"
    phrases = "sweep_trash"
    pace = 0.5

    def path(self, scene: Scene) -> Array:
        pan = scene.places["dustpan"]
        return np.array([pan + np.array([0.0, BEHIND, FLOOR]), pan + np.array([0.0, -0.014, FLOOR])])

    def done(self, world: World, scene: Scene, progress: Progress) -> bool:
        offsets = np.array([world.position(name)[:2] for name in TRASH]) - scene.places["dustpan"][:2]
        return bool((np.abs(offsets) < DUSTPAN_HALF).all())
