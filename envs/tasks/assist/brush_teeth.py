"""Brush the person's teeth: short strokes from side to side at the mouth."""

import numpy as np

from handsight.envs.tasks.assist.activity import Activity, Array, Progress, tip_of
from handsight.envs.tasks.assist.scene import MOUTH, Scene
from handsight.envs.world import World

CLOSE = 0.028  # distance of the bristles to the mouth that counts as brushing [m]
STROKE = 0.012  # half width of a stroke [m]
ENOUGH = 0.07  # way of the bristles at the mouth [m]


class BrushTeeth(Activity):
    """The bristles move from side to side at the mouth."""

    name = "assist/brush_teeth"
    phrases = "brush_teeth"
    pace = 0.6

    def path(self, scene: Scene) -> Array:
        mouth = scene.person + MOUTH
        sides = [mouth + np.array([-0.005, side * STROKE, 0.0]) for side in (-1, 1, -1, 1, -1, 1)]
        return np.array([mouth - np.array([0.07, 0.0, 0.0]), *sides])

    def done(self, world: World, scene: Scene, progress: Progress) -> bool:
        return progress.stroke(scene.person + MOUTH, tip_of(world, scene, self.short), CLOSE) > ENOUGH
