"""Hang the towel over the rail."""

import numpy as np

from handsight.envs.tasks.assist.activity import Activity, Array, Progress, let_go, tip_of, upright
from handsight.envs.tasks.assist.scene import RAIL_HEIGHT, Scene
from handsight.envs.world import World

ALONG, ACROSS, OVER = 0.05, 0.018, 0.008  # how far the fold may be from the middle of the rail [m]


class HangTowel(Activity):
    """The towel hangs over the rail and is let go."""

    name = "assist/hang_towel"
    phrases = "hang_towel"
    lets_go = True
    carry_height = 0.28
    pace = 0.6

    def path(self, scene: Scene) -> Array:
        rail = scene.places["rail"] + np.array([0.0, 0.0, RAIL_HEIGHT])
        return np.array([rail + np.array([0.0, 0.0, 0.10]), rail + np.array([0.0, 0.0, 0.002])])

    def done(self, world: World, scene: Scene, progress: Progress) -> bool:
        offset = tip_of(world, scene, self.short) - scene.places["rail"] - np.array([0.0, 0.0, RAIL_HEIGHT])
        hangs = (np.abs(offset) < [ALONG, ACROSS, OVER]).all()
        return bool(hangs) and upright(world, "towel", 0.9) and let_go(world)
