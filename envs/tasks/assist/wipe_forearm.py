"""Wipe the person's forearm with the sponge, from the wrist to the elbow."""

import numpy as np

from handsight.envs.tasks.assist.activity import Activity, Array, Progress, tip_of
from handsight.envs.tasks.assist.scene import ARM_RADIUS, ELBOW, WRIST, Scene
from handsight.envs.world import World

CLOSE = 0.016  # distance of the sponge to a place on the skin that counts as wiped [m]
PLACES = 6
SHARE = np.linspace(0.02, 0.80, PLACES)  # of the way from the wrist to the elbow, up to the sleeve


class WipeForearm(Activity):
    """The sponge passes over six places of the forearm."""

    name = "assist/wipe_forearm"
    phrases = "wipe_forearm"
    pace = 0.6

    def path(self, scene: Scene) -> Array:
        return np.array([self._places(scene)[0] + np.array([0.0, 0.0, 0.05]), *self._places(scene)])

    def _places(self, scene: Scene) -> Array:
        line = WRIST + SHARE[:, None] * (ELBOW - WRIST)
        return np.asarray(scene.person + line + np.array([0.0, 0.0, ARM_RADIUS]))

    def done(self, world: World, scene: Scene, progress: Progress) -> bool:
        return progress.visit(self._places(scene), tip_of(world, scene, self.short), CLOSE)
