"""The taxel image is MuJoCo's contact force spread over an elastic half-space: sums, signs, frames, spreading and Hertz."""

from dataclasses import dataclass

import mujoco
import numpy as np
import pytest

from handsight.envs.touch import COLUMNS, MODULUS, ROWS, SurfaceProperties, TaxelSensor, TouchReading
from handsight.envs.validate_touch import hertz, hertz_table
from handsight.sensors.errors import HandsightError

AREA = (18.0 / 16) ** 2 * 1e-3  # [N/kPa] area of one taxel
SHAPES = {
    "sphere": 'type="sphere" size=".02"',
    "box": 'type="box" size=".015 .02 .012"',
    "small box": 'type="box" size=".004 .02 .005"',
    "cylinder upright": 'type="cylinder" size=".02 .03"',
    "cylinder end on": 'type="cylinder" size=".006 .02" euler="90 0 0"',
    "cylinder askew": 'type="cylinder" size=".02 .03" euler="0 40 0"',
    "capsule": 'type="capsule" size=".02 .01" euler="0 30 0"',
    "ellipsoid": 'type="ellipsoid" size=".02 .02 .03"',
}


@dataclass
class Scene:
    """Two pads 41 mm apart squeezing an object with 4 N each, without gravity; the world frame has the left pad's axes."""

    model: mujoco.MjModel
    data: mujoco.MjData
    sensor: TaxelSensor

    def read(self, modulus: float = 500.0, roughness: float = 0.0) -> TouchReading:
        return self.sensor.read(self.data, SurfaceProperties(np.full(self.model.ngeom, modulus), np.full(self.model.ngeom, roughness)))


def build(shape: str, *, position: str = "0 0 0", object_first: bool = False, extra: str = "", force: float = 4.0) -> mujoco.MjModel:
    thing = f'<body name="object" pos="{position}"><freejoint/><geom name="object" {shape} mass=".05" {extra}/></body>'
    pads = """
    <body name="left_finger" pos="0 -.0245 0"><joint name="left" type="slide" axis="0 1 0" damping="20"/>
      <geom name="left_pad" type="box" size=".009 .004 .009" mass=".1"/></body>
    <body name="right_finger" pos="0 .0245 0" euler="0 0 180"><joint name="right" type="slide" axis="0 1 0" damping="20"/>
      <geom name="right_pad" type="box" size=".009 .004 .009" mass=".1"/></body>"""
    return mujoco.MjModel.from_xml_string(f"""<mujoco><compiler angle="degree"/>
      <option timestep=".002" integrator="implicitfast" cone="elliptic" gravity="0 0 0"/>
      <worldbody>{thing + pads if object_first else pads + thing}</worldbody>
      <actuator><motor joint="left" ctrlrange="0 50"/><motor joint="right" ctrlrange="0 50"/></actuator>
      <keyframe><key ctrl="{force} {force}"/></keyframe></mujoco>""")


def squeeze(shape: str, *, steps: int = 400, pull: tuple[float, float, float] = (0, 0, 0), **options: object) -> Scene:
    model = build(shape, **options)  # type: ignore[arg-type]
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    for step in range(steps):
        data.body("object").xfrc_applied[:3] = pull if step > steps // 2 else 0.0
        mujoco.mj_step(model, data)
    mujoco.mj_forward(model, data)
    return Scene(model, data, TaxelSensor(model))


def contact_force(scene: Scene, pad: str) -> np.ndarray:
    """Net force on a pad in the world, summed over its contacts."""
    total, wrench = np.zeros(3), np.zeros(6)
    for index, contact in enumerate(scene.data.contact):
        if scene.model.geom(pad).id in contact.geom:
            mujoco.mj_contactForce(scene.model, scene.data, index, wrench)
            total += (1 if contact.geom[1] == scene.model.geom(pad).id else -1) * contact.frame.reshape(3, 3).T @ wrench[:3]
    return total


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("roughness", [0.0, 0.2])
@pytest.mark.parametrize("object_first", [False, True])
def test_image_sums_to_the_contact_force(shape: str, roughness: float, object_first: bool) -> None:
    scene = squeeze(SHAPES[shape], object_first=object_first)
    reading = scene.read(roughness=roughness)
    expected = np.array([-contact_force(scene, "left_pad")[1], contact_force(scene, "right_pad")[1]])
    assert np.all(expected > 3.9)
    np.testing.assert_allclose(reading.image[:, 0].sum((1, 2), dtype=np.float64) * AREA, expected, rtol=1e-6)
    np.testing.assert_allclose(reading.force, expected, rtol=1e-6)
    assert np.all(reading.image[:, 0] >= 0)


@pytest.mark.parametrize("shape", ["sphere", "box", "cylinder upright"])
def test_force_is_the_one_that_squeezes(shape: str) -> None:
    """At rest the pads carry the 4 N of the actuators: physics, not our own bookkeeping."""
    scene = squeeze(SHAPES[shape], steps=2500)
    np.testing.assert_allclose(scene.read().force, 4.0, rtol=0.01)


@pytest.mark.parametrize("extra", ['contype="0" conaffinity="0"', ""])
def test_zero_without_contact(extra: str) -> None:
    scene = squeeze(SHAPES["box"], extra=extra, position="0 0 0" if extra else ".1 0 0", steps=3)
    reading = scene.read()
    assert not reading.image.any()
    assert not reading.force.any()
    assert reading.image.shape == (2, 3, 16, 16)
    assert reading.image.dtype == np.float32


@pytest.mark.parametrize("shape", ["box", "sphere"])
def test_geom_order_does_not_matter(shape: str) -> None:
    one, other = (squeeze(SHAPES[shape], object_first=first, position=".002 0 .001") for first in (True, False))
    for scene, first in ((one, 0), (other, 2)):
        assert scene.model.geom("object").id == first
    np.testing.assert_allclose(one.read().image, other.read().image, rtol=1e-3, atol=1e-3)


def test_softer_spreads_wider_at_the_same_force() -> None:
    scene = squeeze(SHAPES["sphere"])
    peaks, areas = [], []
    for modulus in (MODULUS["hard"], MODULUS["medium"], MODULUS["soft"]):
        image = scene.read(modulus).image[0, 0]
        peaks.append(image.max())
        areas.append(int((image > 0).sum()))
    assert peaks == sorted(peaks, reverse=True)
    assert areas == sorted(areas)
    assert areas[0] < 0.6 * areas[-1]
    assert peaks[-1] < 0.7 * peaks[0]


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.5625, 0.5625), (0.5625, 0.0), (0.8, 1.3)])
def test_spheres_follow_hertz(offset: tuple[float, float]) -> None:
    """Three loads on three radii, at the pad's centre (between taxels), on a taxel, on an edge between two and anywhere."""
    rows = hertz_table(offset=offset)
    assert len({round(row.load) for row in rows}) == len({row.radius for row in rows}) == 3
    assert len(rows) == 9
    for row in rows:
        np.testing.assert_allclose(row.peak, row.peak_expected, rtol=0.10)
        np.testing.assert_allclose(row.contact, row.contact_expected, rtol=0.10)


def test_hertz_itself() -> None:
    """Peak and radius from Johnson's two other forms: p0 = (6 F E*^2 / (pi^3 R^2))^(1/3) and F = 2/3 p0 pi a^2."""
    peak, radius = hertz(5.0, 20.0, 400.0)
    np.testing.assert_allclose(peak, (6 * 5e3 * 400.0**2 / (np.pi**3 * 20.0**2)) ** (1 / 3))
    np.testing.assert_allclose(2 / 3 * peak * np.pi * radius**2, 5e3)


def test_second_moment_agrees_with_hertz() -> None:
    """The contact radius again, without counting taxels: sum(p r^2) / sum(p) = 2/5 a^2."""
    reading = squeeze(SHAPES["sphere"]).read(MODULUS["hard"])
    image = reading.image[0, 0].astype(np.float64)
    rows, columns = (np.mgrid[:ROWS, :COLUMNS] - 7.5) * 1.125
    moment = (image * (rows**2 + columns**2)).sum() / image.sum() + 1.125**2 / 6  # the second term is the moment of a taxel itself
    np.testing.assert_allclose(np.sqrt(2.5 * moment), hertz(float(reading.force[0]), 20.0, MODULUS["hard"])[1], rtol=0.03)


def test_cylinder_follows_hertz_in_the_middle_of_the_pad() -> None:
    """Line contact: p0 = sqrt(P' E* / (pi R)), with the load per length P' of the middle rows; near its ends a line contact differs."""
    for modulus in (MODULUS["medium"], MODULUS["hard"]):
        image = squeeze(SHAPES["cylinder upright"], force=8.0).read(modulus).image[0, 0].astype(np.float64)[6:10]
        per_length = image.sum(axis=1) * 1.125  # [kPa mm]
        np.testing.assert_allclose(image.max(axis=1), np.sqrt(per_length * modulus / (np.pi * 20.0)), rtol=0.10)
        half_width = np.sqrt(4 * per_length * 20.0 / (np.pi * modulus))
        variance = (image * ((np.arange(COLUMNS) - 7.5) * 1.125) ** 2).sum(axis=1) / image.sum(axis=1) + 1.125**2 / 12
        np.testing.assert_allclose(2 * np.sqrt(variance), half_width, rtol=0.10)


def test_a_punch_presses_hardest_on_its_edge() -> None:
    """Boussinesq: under a flat face the pressure is lowest in the middle."""
    image = squeeze(SHAPES["box"]).read().image[0, 0]
    assert image[7:9, 7:9].mean() < 0.7 * image.mean()
    assert image[0, 0] > 2 * image.mean()


def test_rough_differs_from_smooth() -> None:
    scene = squeeze(SHAPES["sphere"])
    smooth, rough = scene.read().image[0, 0], scene.read(roughness=0.2).image[0, 0]
    steps = [np.abs(np.diff(image, axis=0)).sum() / image.sum() for image in (smooth, rough)]
    assert steps[1] > 2 * steps[0]


def test_mirror_symmetry() -> None:
    """The right pad is turned by pi about z: what lies at +x of one is at -x of the other."""
    image = squeeze(SHAPES["sphere"], position=".003 0 .002", pull=(0.5, 0, 0.3)).read().image
    np.testing.assert_allclose(image[0, 0], image[1, 0, :, ::-1], rtol=0.02, atol=0.5)
    np.testing.assert_allclose(image[0, 1], -image[1, 1, :, ::-1], rtol=0.05, atol=0.5)
    np.testing.assert_allclose(image[0, 2], image[1, 2, :, ::-1], rtol=0.05, atol=0.5)


@pytest.mark.parametrize("pull", [(1.0, 0, 0), (-1.0, 0, 0), (0, 0, 1.0), (0, 0, -1.0)])
def test_shear_follows_a_tangential_pull(pull: tuple[float, float, float]) -> None:
    scene = squeeze(SHAPES["box"], pull=pull)
    shear = scene.read().image[:, 1:].sum((2, 3), dtype=np.float64) * AREA  # (pad, [x, z]) [N]
    shear[1, 0] *= -1  # the right pad's x is the world's -x
    np.testing.assert_allclose(shear.sum(0), [pull[0], pull[2]], atol=0.05)
    for index, pad in enumerate(("left_pad", "right_pad")):
        np.testing.assert_allclose(shear[index], contact_force(scene, pad)[[0, 2]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("position", "row", "column"), [(".005 0 0", 7.5, 7.5 + 5 / 1.125), ("0 0 .005", 7.5 + 5 / 1.125, 7.5)])
def test_columns_are_x_and_rows_are_z(position: str, row: float, column: float) -> None:
    image = squeeze(SHAPES["sphere"], position=position, steps=60).read().image[0, 0]
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    np.testing.assert_allclose([(image * rows).sum() / image.sum(), (image * columns).sum() / image.sum()], [row, column], atol=0.3)


def test_touched_names_the_geoms_that_press() -> None:
    scene = squeeze(SHAPES["sphere"])
    assert scene.read().touched == {scene.model.geom("object").id}
    assert squeeze(SHAPES["sphere"], position="1 0 0", steps=3).read().touched == frozenset()
    closed = squeeze(SHAPES["sphere"], position="1 0 0", steps=3000)
    assert closed.read().touched == {closed.model.geom(pad).id for pad in ("left_pad", "right_pad")}


def test_pads_that_touch_each_other_feel_each_other() -> None:
    scene = squeeze(SHAPES["sphere"], position="1 0 0", steps=3000)
    np.testing.assert_allclose(scene.read().force, 4.0, rtol=0.01)
    assert (scene.read().image[:, 0] > 0).all()


def test_a_push_on_the_edge_of_a_pad_is_not_a_touch() -> None:
    model = build('type="box" size=".01 .01 .01"', position="0 -.0245 .0185")  # rests on the rim, not on the face
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert data.ncon > 0
    assert not TaxelSensor(model).read(data, SurfaceProperties.smooth(model.ngeom)).force.any()


def test_missing_pad_is_named() -> None:
    model = build(SHAPES["box"])
    with pytest.raises(HandsightError, match="'thumb'"):
        TaxelSensor(model, ("left_pad", "thumb"))
    with pytest.raises(HandsightError, match="'ball'"):
        TaxelSensor(
            mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom name="ball" size="1"/></worldbody></mujoco>'), ("ball", "ball")
        )


def test_properties_are_checked() -> None:
    with pytest.raises(ValueError, match="ngeom"):
        SurfaceProperties(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="modulus > 0"):
        SurfaceProperties(np.zeros(3), np.zeros(3))
