"""Taxel images of two facing finger pads from MuJoCo's contact forces: a rigid object pressed into an elastic half-space.

MuJoCo has solved the contact force F and knows nothing of pressure. The gap g_i [mm] between taxel i and the surface of the object is
analytic (heights.py); the pressures are those of frictionless elastic contact over these gaps with sum(p_i) A = F exactly (halfspace.py,
A taxel area). Pad and object give way in series: 1/E* = (1 - nu1^2)/E1 + (1 - nu2^2)/E2 (K. L. Johnson, Contact Mechanics, section 4.2), so
an object is as soft as its E* [kPa] says. A sphere's peak pressure and contact radius are Hertz's (validate_touch.py). Shear is the
pressure times tangential/normal force, so it too sums to MuJoCo's tangential force. Several objects on one pad press independently of each
other. MuJoCo's own touch_grid bins contact points instead: a sphere lights one taxel and neither stiffness nor roughness leaves a trace.

Frames: a pad is a box geom. Its face is the side towards the other pad; the class finds that axis and its sign from the model's initial
pose. Of the remaining two axes of the pad's own frame the first gives the columns and the second the rows, both ascending. For pads
with +y towards each other and z along the finger: columns are x, rows are z. Both pads report in their own frames, as two identical
physical sensors would, so an object mirrored between the pads appears with its columns reversed on the other pad.
Shear is the force of the object on the pad: an object dragged towards +x gives positive shear x.
"""

from dataclasses import dataclass
from typing import Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.envs.halfspace import HalfSpace
from handsight.envs.heights import HEIGHT_OF_TYPE, MISS, Floats
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import TOUCH_SHAPE

ROWS: Final = TOUCH_SHAPE[2]
COLUMNS: Final = TOUCH_SHAPE[3]
MILLIMETRE: Final = 1.0e3  # [mm/m]
TEXTURE_WAVELENGTH: Final = 4.0  # [mm], 3.5 taxels of the 18 mm pads
MIN_ALIGNMENT: Final = 0.5  # cosine: contacts tilted by more than 60 degrees press on an edge of the pad, not on its face
FALLBACK_RADIUS: Final = 5.0  # [mm], curvature of the dome put under a contact whose surface no taxel sees
MODULUS: Final = {"soft": 175.0, "medium": 500.0, "hard": 850.0}  # E* [kPa]; Hertz: a 40 mm ball at 8 N peaks at 49, 99, 141 kPa


@dataclass(frozen=True)
class SurfaceProperties:
    """What a geom feels like, by geom id."""

    modulus: Floats
    """(ngeom,) contact modulus E* of pad and geom in series [kPa]; less spreads the same force over more taxels."""
    roughness: Floats
    """(ngeom,) height of the texture, mean to peak [mm]; 0 is smooth."""

    def __post_init__(self) -> None:
        if self.modulus.shape != self.roughness.shape or self.modulus.ndim != 1:
            raise ValueError(f"expected modulus and roughness of one shape (ngeom,), got {self.modulus.shape} and {self.roughness.shape}")
        if not (np.all(self.modulus > 0.0) and np.all(self.roughness >= 0.0)):
            raise ValueError("expected modulus > 0 [kPa] and roughness >= 0 [mm] for every geom; correct the object's definition")

    @classmethod
    def smooth(cls, ngeom: int, modulus: float = MODULUS["hard"]) -> "SurfaceProperties":
        """Every geom smooth and equally stiff; the arrays may be written to at reset."""
        return cls(np.full(ngeom, modulus), np.zeros(ngeom))


@dataclass(frozen=True)
class TouchReading:
    """One reading of both pads, in the order the pads were named."""

    image: NDArray[np.float32]
    """(2, 3, 16, 16) [kPa]: pad; normal pressure, shear along columns, shear along rows; rows; columns."""
    force: NDArray[np.float32]
    """(2,) normal force [N]; equals the sum of the normal image times the taxel area."""
    touched: frozenset[int]
    """Ids of the geoms that press on the face of a pad."""


@dataclass(frozen=True)
class _Pad:
    geom: int
    axes: tuple[int, int, int]  # column, face and row axis of the pad's frame
    outward: float  # sign of the face normal along its axis
    taxels: Floats  # (256, 3) taxel centres in the pad's frame [m], row by row
    surface: HalfSpace


def texture(points: Floats) -> Floats:
    """Fixed height field in [-1, 1] at surface points (N, 3) [mm] of the object's frame: a gyroid, alike on every side and in no need of a
    surface parametrisation."""
    phase = points * (2.0 * np.pi / TEXTURE_WAVELENGTH)
    sine, cosine = np.sin(phase), np.cos(phase)
    height: Floats = np.einsum("nk,nk->n", sine, cosine[:, [1, 2, 0]]) / 1.5
    return height


class TaxelSensor:
    """16x16 taxels on each of two facing box geoms.

    Raises:
        HandsightError: a pad is missing, is no box, or does not face the other pad along one of its own axes.
    """

    def __init__(self, model: mujoco.MjModel, pads: tuple[str, str] = ("left_pad", "right_pad")) -> None:
        self._model = model
        geoms = [_find_box(model, name) for name in pads]
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        self._pads = tuple(_build_pad(model, data, geom, other) for geom, other in (geoms, geoms[::-1]))
        self._pad_of_geom = np.full(model.ngeom + 1, -1)  # one more: contacts with a flex have geom -1
        self._pad_of_geom[geoms] = (0, 1)

    def read(self, data: mujoco.MjData, properties: SurfaceProperties, *, pressure: bool = True) -> TouchReading:
        """Both pads after `mj_step` or `mj_forward`; only MuJoCo's contacts count, so hidden and non-colliding geoms are not felt.

        Without `pressure` the image stays 0; forces and what is touched cost a quarter of it.
        """
        image = np.zeros((2, 3, ROWS * COLUMNS))
        force = np.zeros(2)
        touched = set()
        for (pad, geom), contacts in self._contacts(data).items():
            total = sum((reaction for _, reaction in contacts), np.zeros(3))
            if total[1] <= 0.0:
                continue
            force[pad] += total[1]
            touched.add(geom)
            if pressure:
                gap = self._gap(data, self._pads[pad], geom, np.array([point for point, _ in contacts]), float(properties.roughness[geom]))
                normal = self._pads[pad].surface.press(gap, float(total[1]), float(properties.modulus[geom]))
                image[pad] += np.outer((1.0, total[0] / total[1], total[2] / total[1]), normal)
        return TouchReading(image.reshape(TOUCH_SHAPE).astype(np.float32), force.astype(np.float32), frozenset(touched))

    def _contacts(self, data: mujoco.MjData) -> dict[tuple[int, int], list[tuple[Floats, Floats]]]:
        """By (pad, other geom): contact points in the world [m] and forces on the pad (column, into the face, row) [N]."""
        found: dict[tuple[int, int], list[tuple[Floats, Floats]]] = {}
        if data.ncon == 0:
            return found
        geoms, frames, points = data.contact.geom, data.contact.frame.reshape(-1, 3, 3), data.contact.pos
        pads = self._pad_of_geom[geoms]
        for index, side in np.argwhere(pads >= 0):
            pad = int(pads[index, side])
            # MuJoCo's contact normal points from the first geom to the second and its force acts on the second.
            reaction = self._reaction(data, int(index), frames[index], self._pads[pad], sign=1.0 if side == 1 else -1.0)
            if reaction is not None:
                found.setdefault((pad, int(geoms[index, 1 - side])), []).append((points[index], reaction))
        return found

    def _reaction(self, data: mujoco.MjData, index: int, frame: Floats, pad: _Pad, sign: float) -> Floats | None:
        """Force of one contact on the pad (column, into the face, row) [N], or None if it presses on another side than the face."""
        rotation = data.geom_xmat[pad.geom].reshape(3, 3)
        column, face, row = pad.axes
        normal_in_pad = frame[0] @ rotation  # rows of the frame: normal and two tangents, in the world
        if -sign * pad.outward * normal_in_pad[face] < MIN_ALIGNMENT:
            return None
        wrench = np.zeros(6)
        mujoco.mj_contactForce(self._model, data, index, wrench)
        on_pad = sign * (wrench[:3] @ frame @ rotation)
        return np.array([on_pad[column], -pad.outward * on_pad[face], on_pad[row]])

    def _gap(self, data: mujoco.MjData, pad: _Pad, geom: int, points: Floats, roughness: float) -> Floats:
        """Distance (256,) from each taxel along the face normal to the geom's surface [mm]."""
        pad_in_world, geom_in_world = data.geom_xmat[pad.geom].reshape(3, 3), data.geom_xmat[geom].reshape(3, 3)
        rotation = geom_in_world.T @ pad_in_world  # pad in geom
        offset = geom_in_world.T @ (data.geom_xpos[pad.geom] - data.geom_xpos[geom])
        origin = pad.taxels @ rotation.T + offset
        direction = rotation[:, pad.axes[1]] * pad.outward
        height = HEIGHT_OF_TYPE.get(int(self._model.geom_type[geom]))
        distance = np.full(len(origin), MISS) if height is None else height(origin, direction, self._model.geom_size[geom])
        seen = distance < MISS / 2
        if not seen.any():
            return _dome(pad, (points - data.geom_xpos[pad.geom]) @ pad_in_world)
        gap: Floats = distance * MILLIMETRE
        if roughness > 0.0:
            surface = (origin + np.where(seen, distance, 0.0)[:, None] * direction) * MILLIMETRE
            gap = gap - roughness * texture(surface)
        return gap


def _find_box(model: mujoco.MjModel, name: str) -> int:
    geom = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, name)
    if geom < 0 or int(model.geom_type[geom]) != int(mujoco.mjtGeom.mjGEOM_BOX):
        found = "no geom of that name" if geom < 0 else "another shape"
        raise HandsightError(f"expected a box geom named {name!r} as a touch pad, got {found}; name a box on each finger in the arm's MJCF")
    return int(geom)


def _build_pad(model: mujoco.MjModel, data: mujoco.MjData, geom: int, other: int) -> _Pad:
    towards = data.geom_xmat[geom].reshape(3, 3).T @ (data.geom_xpos[other] - data.geom_xpos[geom])
    face = int(np.argmax(np.abs(towards)))
    if abs(towards[face]) < 0.9 * np.linalg.norm(towards) or not towards.any():
        raise HandsightError(
            "expected touch pads that face each other along an axis of their own frame, got the other pad at "
            f"{np.round(towards, 4).tolist()} m; turn the pad geoms in the arm's MJCF"
        )
    column, row = (axis for axis in range(3) if axis != face)
    half = model.geom_size[geom]
    taxels = np.zeros((ROWS, COLUMNS, 3))
    taxels[..., column] = _centres(half[column], COLUMNS)
    taxels[..., row] = _centres(half[row], ROWS)[:, None]
    taxels[..., face] = np.sign(towards[face]) * half[face]
    height, width = 2.0 * MILLIMETRE * half[row] / ROWS, 2.0 * MILLIMETRE * half[column] / COLUMNS
    surface = HalfSpace(ROWS, COLUMNS, float(height), float(width))
    return _Pad(geom, (column, face, row), float(np.sign(towards[face])), taxels.reshape(-1, 3), surface)


def _centres(half: float, count: int) -> Floats:
    centres: Floats = half * ((np.arange(count, dtype=np.float64) + 0.5) * (2.0 / count) - 1.0)
    return centres


def _dome(pad: _Pad, points: Floats) -> Floats:
    """Gaps under small spheres at the contact points (P, 3) [m, pad's frame]: for meshes, and for contacts past the outermost taxels, which
    would otherwise lose their force."""
    column, _, row = pad.axes
    offset = (pad.taxels[:, None, (column, row)] - points[None, :, (column, row)]) * MILLIMETRE  # (256, P, 2)
    squared: Floats = (offset**2).sum(axis=-1).min(axis=1)
    return squared / (2.0 * FALLBACK_RADIUS)
