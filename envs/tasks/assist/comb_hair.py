"""Comb the person's hair over the crown, from the front to the back."""

import numpy as np

from handsight.envs.tasks.assist.activity import Activity, Array, Progress, tip_of
from handsight.envs.tasks.assist.scene import CROWN, Scene
from handsight.envs.world import World

CLOSE = 0.015  # distance of the teeth to a place on the hair that counts as combed [m]
FRONT, BACK, PLACES = -0.030, 0.040, 5  # from the crown [m]


class CombHair(Activity):
    """The comb's teeth pass over five places of the hair."""

    name = "assist/comb_hair"
    phrases = "comb_hair"
    carry_height = 0.34
    pace = 0.6

    def path(self, scene: Scene) -> Array:
        return np.array([self._places(scene)[0] + np.array([0.0, 0.0, 0.04]), *self._places(scene)])

    def _places(self, scene: Scene) -> Array:
        along = np.linspace(FRONT, BACK, PLACES)
        return np.asarray(scene.person + CROWN + np.stack([along, 0 * along, 0 * along + 0.002], axis=1))

    def done(self, world: World, scene: Scene, progress: Progress) -> bool:
        return progress.visit(self._places(scene), tip_of(world, scene, self.short), CLOSE)
