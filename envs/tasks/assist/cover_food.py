"""Put the cover over the plate of food."""

import numpy as np

from handsight.envs.tasks.assist.activity import Activity, Array, Progress, let_go, tip_of, upright
from handsight.envs.tasks.assist.scene import PLATE_TOP, Scene
from handsight.envs.world import World

CLOSE = 0.014  # distance of the cover's centre to the plate's [m]


class CoverFood(Activity):
    """The cover stands on the plate and is let go."""

    name = "assist/cover_food"
    phrases = "cover_food"
    lets_go = True
    pace = 0.6

    def path(self, scene: Scene) -> Array:
        plate = scene.places["plate"] + np.array([0.0, 0.0, PLATE_TOP])
        return np.array([plate + np.array([0.0, 0.0, 0.06]), plate + np.array([0.0, 0.0, 0.001])])

    def done(self, world: World, scene: Scene, progress: Progress) -> bool:
        offset = tip_of(world, scene, self.short) - scene.places["plate"] - np.array([0.0, 0.0, PLATE_TOP])
        stands = np.hypot(*offset[:2]) < CLOSE and abs(offset[2]) < 0.005
        return bool(stands) and upright(world, "cover") and let_go(world)
