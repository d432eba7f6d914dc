"""Pass the cup of water to the person: put it on the coaster, upright."""

import numpy as np

from handsight.envs.tasks.assist.activity import Activity, Array, Progress, let_go, tip_of, upright
from handsight.envs.tasks.assist.scene import Scene
from handsight.envs.world import World

CLOSE = 0.022  # distance of the cup's centre to the coaster's [m]


class PassWater(Activity):
    """The cup stands upright on the coaster and is let go."""

    name = "assist/pass_water"
    phrases = "pass_water"
    lets_go = True
    pace = 0.6

    def path(self, scene: Scene) -> Array:
        coaster = scene.places["coaster"]
        return np.array([coaster + np.array([0.0, 0.0, 0.06]), coaster + np.array([0.0, 0.0, 0.003])])

    def done(self, world: World, scene: Scene, progress: Progress) -> bool:
        offset = tip_of(world, scene, self.short) - scene.places["coaster"]
        stands = np.hypot(*offset[:2]) < CLOSE and offset[2] < 0.006
        return bool(stands) and upright(world, "cup") and let_go(world)
