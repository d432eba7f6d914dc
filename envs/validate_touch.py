"""The touch image of spheres against Hertz: `hertz_table()`.

Two 18 mm pads squeeze a sphere in MuJoCo with a known force. Hertz (K. L. Johnson, Contact Mechanics, section 4.2): contact radius
a = (3 F R / (4 E*))^(1/3), peak pressure p0 = 3 F / (2 pi a^2) = (6 F E*^2 / (pi^3 R^2))^(1/3).
"""

from dataclasses import dataclass
from typing import Final

import mujoco
import numpy as np

from handsight.envs.halfspace import KPA_MM2
from handsight.envs.touch import MODULUS, SurfaceProperties, TaxelSensor

LOADS: Final = (2.0, 4.0, 8.0)  # [N]
RADII: Final = (10.0, 20.0, 30.0)  # [mm]
PAD: Final = 9.0  # half width [mm]
TAXEL_AREA: Final = (2.0 * PAD / 16) ** 2  # [mm^2]
STEPS: Final = 1500  # until the squeeze is at rest


@dataclass(frozen=True)
class HertzRow:
    """One squeeze."""

    load: float
    """Force on the pad [N], MuJoCo's."""
    radius: float
    """Of the sphere [mm]."""
    peak: float
    """Largest taxel pressure [kPa]."""
    peak_expected: float
    """Hertz [kPa]."""
    contact: float
    """Radius of the disc that has the area of the pressed taxels [mm]."""
    contact_expected: float
    """Hertz [mm]."""

    @property
    def peak_error(self) -> float:
        """Relative."""
        return self.peak / self.peak_expected - 1.0

    @property
    def contact_error(self) -> float:
        """Relative."""
        return self.contact / self.contact_expected - 1.0


def hertz(load: float, radius: float, modulus: float) -> tuple[float, float]:
    """Peak pressure [kPa] and contact radius [mm] of a sphere; load [N], radius [mm], E* [kPa]."""
    contact = (3.0 * load * KPA_MM2 * radius / (4.0 * modulus)) ** (1.0 / 3.0)
    return 1.5 * load * KPA_MM2 / (np.pi * contact**2), contact


def hertz_table(modulus: float = MODULUS["medium"], offset: tuple[float, float] = (0.0, 0.0)) -> list[HertzRow]:
    """Every load with every radius; modulus: E* [kPa]; offset: of the sphere from the pads' centre along columns and rows [mm]."""
    return [_squeeze(load, radius, modulus, offset) for load in LOADS for radius in RADII]


def _squeeze(load: float, radius: float, modulus: float, offset: tuple[float, float]) -> HertzRow:
    model = mujoco.MjModel.from_xml_string(_scene(load, radius, offset))
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    mujoco.mj_step(model, data, nstep=STEPS)
    mujoco.mj_forward(model, data)
    properties = SurfaceProperties.smooth(model.ngeom, modulus)
    reading = TaxelSensor(model).read(data, properties)
    normal, force = reading.image[0, 0], float(reading.force[0])
    contact = float(np.sqrt(np.count_nonzero(normal) * TAXEL_AREA / np.pi))
    peak_expected, contact_expected = hertz(force, radius, modulus)
    return HertzRow(force, radius, float(normal.max()), peak_expected, contact, contact_expected)


def _scene(load: float, radius: float, offset: tuple[float, float]) -> str:
    """MJCF without gravity: pads 0.2 mm from the sphere, pushed by motors."""
    away = (radius + 4.2) / 1000
    fingers = "".join(
        f"""<body name="{side}_finger" pos="0 {sign * away} 0" euler="0 0 {turn}">
        <joint name="{side}" type="slide" axis="0 1 0" damping="20"/>
        <geom name="{side}_pad" type="box" size="{PAD / 1000} .004 {PAD / 1000}" mass=".1"/></body>"""
        for side, sign, turn in (("left", -1, 0), ("right", 1, 180))
    )
    motors = "".join(f'<motor joint="{side}" ctrlrange="0 50"/>' for side in ("left", "right"))
    return f"""<mujoco><compiler angle="degree"/>
      <option timestep=".002" integrator="implicitfast" cone="elliptic" gravity="0 0 0"/>
      <worldbody>{fingers}<body pos="{offset[0] / 1000} 0 {offset[1] / 1000}"><freejoint/>
        <geom size="{radius / 1000}" mass=".05"/></body></worldbody>
      <actuator>{motors}</actuator><keyframe><key ctrl="{load} {load}"/></keyframe></mujoco>"""
