"""What differs between episodes besides the task itself: light, cameras, friction and mass. Ranges are data."""

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.envs.splits import Split
from handsight.envs.world import World


@dataclass(frozen=True)
class Ranges:
    """Half widths of uniform ranges; 0 switches a variation off."""

    camera: float = 0.02
    """Displacement of the front camera along each axis [m]."""
    light: float = 0.30
    """Relative change of the brightness of the key light and of the ambient light."""
    light_direction: float = 0.40
    """Change of the horizontal components of the key light's direction."""
    table: float = 0.08
    """Change of each colour channel of the table."""
    friction: float = 0.30
    """Relative change of sliding friction."""
    mass: float = 0.30
    """Relative change of mass."""
    start: tuple[float, float, float] = (0.06, 0.10, 0.05)
    """Displacement of the tcp's start along x, y, z [m]; from one start alone a policy learns when to stop instead of where."""
    split: Split = Split.ANY
    """Which combinations and objects occur."""


def around(rng: np.random.Generator, value: float, relative: float) -> float:
    """`value` times a factor uniform in [1 - relative, 1 + relative]."""
    return float(value * rng.uniform(1 - relative, 1 + relative))


class SceneVariation:
    """Remembers the compiled appearance of a world and varies it at each reset."""

    def __init__(self, world: World, ranges: Ranges) -> None:
        self._model = world.model
        self._ranges = ranges
        self._front = world.model.camera("front").id
        self._table = world.model.geom("table").id
        self._camera_position = world.model.cam_pos[self._front].copy()
        self._table_color = world.model.geom_rgba[self._table].copy()
        self._light = [field.copy() for field in self._light_fields(world.model)]

    @staticmethod
    def _light_fields(model: mujoco.MjModel) -> tuple[NDArray[np.float64], ...]:
        return model.light_diffuse[0], model.vis.headlight.ambient, model.light_dir[0]

    def apply(self, rng: np.random.Generator) -> None:
        """Draws light, camera position and table colour."""
        ranges = self._ranges
        self._model.cam_pos[self._front] = self._camera_position + rng.uniform(-ranges.camera, ranges.camera, 3)
        shade = rng.uniform(-ranges.table, ranges.table, 3)
        self._model.geom_rgba[self._table, :3] = self._table_color[:3] + shade
        diffuse, ambient, direction = self._light_fields(self._model)
        diffuse[:] = self._light[0] * around(rng, 1.0, ranges.light)
        ambient[:] = self._light[1] * around(rng, 1.0, ranges.light)
        direction[:] = self._light[2]
        direction[:2] += rng.uniform(-ranges.light_direction, ranges.light_direction, 2)
        direction /= np.linalg.norm(direction)
