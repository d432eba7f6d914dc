"""Put the hat on the person's head."""

import numpy as np

from handsight.envs.tasks.assist.activity import Activity, Array, Progress, let_go, tip_of, upright
from handsight.envs.tasks.assist.scene import CROWN, Scene
from handsight.envs.world import World

CLOSE, OVER = 0.018, 0.010  # distance of the hat's inside to the crown, horizontally and vertically [m]


class PutOnHat(Activity):
    """The hat sits on the head and is let go."""

    name = "assist/put_on_hat"
    phrases = "put_on_hat"
    lets_go = True
    carry_height = 0.37
    pace = 0.6

    def path(self, scene: Scene) -> Array:
        crown = scene.person + CROWN
        return np.array([crown + np.array([0.0, 0.0, 0.06]), crown + np.array([0.0, 0.0, 0.003])])

    def done(self, world: World, scene: Scene, progress: Progress) -> bool:
        offset = tip_of(world, scene, self.short) - scene.person - CROWN
        sits = np.hypot(*offset[:2]) < CLOSE and abs(offset[2]) < OVER
        return bool(sits) and upright(world, "hat", 0.9) and let_go(world)
