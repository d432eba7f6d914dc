"""Where a point of the world appears in a camera's picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handsight.envs.world import World

Array = NDArray[np.float64]
OPENCV_OF_MUJOCO = np.diag([1.0, -1.0, -1.0])  # MuJoCo's cameras look along -z with y up, OpenCV's along +z with y down


@dataclass(frozen=True)
class Pinhole:
    """A camera without distortion, in OpenCV's convention (x right, y down, z forward; pixel centres at integers)."""

    matrix: Array
    """(3, 3) intrinsics [pixel]."""
    rotation: Array
    """(3, 3) from the world to the camera."""
    translation: Array
    """(3,) of the world's origin in the camera [m]."""

    @classmethod
    def of(cls, world: World, camera: str, size: int) -> "Pinhole":
        """The camera as it stands now; pictures are `size` pixels high and wide."""
        focal = 0.5 * size / np.tan(0.5 * np.deg2rad(world.model.camera(camera).fovy[0]))
        centre = 0.5 * (size - 1)
        seen = world.data.camera(camera)
        rotation = OPENCV_OF_MUJOCO @ seen.xmat.reshape(3, 3).T
        matrix = np.array([[focal, 0.0, centre], [0.0, focal, centre], [0.0, 0.0, 1.0]])
        return cls(matrix, rotation, -rotation @ seen.xpos)

    def project(self, points: Array) -> Array:
        """Points (N, 3) [m] of the world -> (N, 2) pixel column and row; NaN for points behind the camera."""
        homogeneous = (points @ self.rotation.T + self.translation) @ self.matrix.T
        depth = np.where(homogeneous[:, 2:] > 0, homogeneous[:, 2:], np.nan)
        pixels: Array = homogeneous[:, :2] / depth
        return pixels
