"""The room of the assistance tasks: a person at the table, four things on it, and what the activities in this scene need.

Four of the ten activities are possible in every scene; their things lie in four places in any order, so that only the instruction says what
to do and only the cameras where its thing lies. x points from the robot to the person, who faces the robot.
"""

from dataclasses import dataclass
from typing import Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.envs.randomize import Ranges, around
from handsight.envs.splits import Split
from handsight.envs.tasks.assist.tools import TOOLS, Dressed, Wardrobe, add_tool
from handsight.envs.tasks.base import Surface
from handsight.envs.touch import MODULUS
from handsight.envs.world import World

Array = NDArray[np.float64]
TOOL_OF: Final = {
    "sweep_trash": "brush",
    "pass_water": "cup",
    "hang_towel": "towel",
    "put_on_hat": "hat",
    "cover_food": "cover",
    "wipe_nose": "tissue",
    "wipe_forearm": "sponge",
    "feed": "spoon",
    "comb_hair": "comb",
    "brush_teeth": "toothbrush",
}
SLOTS: Final = np.array([[0.295, -0.29], [0.295, -0.13], [0.48, -0.29], [0.48, -0.13]])  # where things lie [m]
JITTER, TURN = 0.008, 0.12  # of a thing in its place [m], [rad]
PERSON: Final = np.array([0.68, 0.0])  # [m]
# Points of the person, from the body's origin on the table [m].
MOUTH, NOSE, CROWN = np.array([-0.047, 0.0, 0.170]), np.array([-0.062, 0.0, 0.200]), np.array([0.012, 0.0, 0.270])
HAIR_AXES, HAIR_CENTRE = np.array([0.049, 0.046, 0.045]), np.array([0.012, 0.0, 0.225])
ELBOW, WRIST, ARM_RADIUS = np.array([-0.02, 0.19, 0.028]), np.array([-0.17, 0.19, 0.028]), 0.026
PLATE, COASTER, RAIL, DUSTPAN = (np.array(p) for p in ([0.49, 0.06], [0.61, -0.17], [0.36, 0.33], [0.335, 0.17]))
PLATE_TOP, RAIL_HEIGHT, DUSTPAN_HALF = 0.008, 0.125, np.array([0.055, 0.040])
TRASH: Final = ("trash0", "trash1", "trash2")
CAMERAS: Final = {"front": ((0.44, -0.86, 0.62), (0.49, 0.02, 0.07), 42.0), "view": ((0.20, -0.86, 0.62), (0.49, -0.03, 0.09), 39.0)}
MEAL: Final = ((0.012, 0.010, (0.82, 0.30, 0.12)), (-0.014, 0.004, (0.30, 0.60, 0.18)), (0.002, -0.016, (0.90, 0.75, 0.30)))
SKIN, HAIR, SHIRT = [0.87, 0.66, 0.52, 1.0], [0.25, 0.15, 0.09, 1.0], [0.30, 0.42, 0.55, 1.0]
ELSEWHERE: Final = np.array([0.0, 0.0, -3.0])  # where things are that a scene does not have: below the floor [m]


@dataclass(frozen=True)
class Scene:
    """What one episode shows."""

    activities: tuple[str, ...]
    """Those that are possible, in the order of SLOTS."""
    tools: dict[str, Dressed]
    person: Array
    """(3,) origin of the person on the table [m]."""
    places: dict[str, Array]
    """(3,) of plate, coaster, rail and dustpan [m]."""
    surfaces: tuple[Surface, ...]
    """What the things feel like."""

    def slot(self, activity: str) -> int:
        """Where its thing lies."""
        return self.activities.index(activity)


def add_room(spec: mujoco.MjSpec) -> None:
    """Person, fixtures, things and cameras."""
    _add_person(spec)
    _add_fixtures(spec)
    for tool in TOOLS.values():
        add_tool(spec, tool)
    for name in TRASH:
        body = spec.worldbody.add_body(name=name)
        body.add_freejoint(name=name)
        size, color = [0.007, 0.007, 0.006], [0.35, 0.30, 0.22, 1.0]
        body.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_BOX, size=size, mass=0.004, rgba=color, friction=[0.7, 0.01, 0.0005])
    for name, (eye, at, fovy) in CAMERAS.items():
        camera = spec.camera(name)
        camera.pos, camera.fovy = eye, fovy
        camera.alt.xyaxes = _axes(np.array(eye), np.array(at))


def _axes(eye: Array, at: Array) -> Array:
    """Right and up (6,) of an upright camera at `eye` that looks at `at`."""
    back = eye - at
    right = np.cross([0.0, 0.0, 1.0], back)
    up = np.cross(back, right)
    return np.concatenate([right / np.linalg.norm(right), up / np.linalg.norm(up)])


def _add_person(spec: mujoco.MjSpec) -> None:
    """A head that looks at the robot, a torso, and a forearm that lies on the table."""
    person = spec.worldbody.add_body(name="person", mocap=True, pos=[*PERSON, 0.0])
    ellipsoid, capsule = mujoco.mjtGeom.mjGEOM_ELLIPSOID, mujoco.mjtGeom.mjGEOM_CAPSULE
    person.add_geom(name="head", type=ellipsoid, pos=[0, 0, 0.20], size=[0.048, 0.042, 0.060], rgba=SKIN)
    person.add_geom(name="hair", type=ellipsoid, pos=HAIR_CENTRE, size=HAIR_AXES, rgba=HAIR)
    person.add_geom(name="forearm", type=capsule, fromto=[*ELBOW, *WRIST], size=[ARM_RADIUS, 0, 0], rgba=SKIN)
    decoration: tuple[tuple[str, int, list[float], list[float], list[float]], ...] = (
        ("nose", ellipsoid, [-0.050, 0, 0.200], [0.012, 0.008, 0.009], SKIN),
        ("lips", ellipsoid, [-0.041, 0, 0.170], [0.006, 0.013, 0.005], [0.72, 0.18, 0.20, 1]),
        ("left_eye", ellipsoid, [-0.042, -0.018, 0.216], [0.005, 0.006, 0.005], [0.05, 0.05, 0.06, 1]),
        ("right_eye", ellipsoid, [-0.042, 0.018, 0.216], [0.005, 0.006, 0.005], [0.05, 0.05, 0.06, 1]),
        ("left_ear", ellipsoid, [0.0, -0.043, 0.200], [0.009, 0.006, 0.014], SKIN),
        ("right_ear", ellipsoid, [0.0, 0.043, 0.200], [0.009, 0.006, 0.014], SKIN),
        ("torso", ellipsoid, [0.05, 0, 0.055], [0.055, 0.115, 0.085], SHIRT),
        ("palm", ellipsoid, [-0.20, 0.19, 0.020], [0.032, 0.022, 0.014], SKIN),
    )
    for name, kind, position, size, color in decoration:
        person.add_geom(name=name, type=kind, pos=position, size=size, rgba=color, contype=0, conaffinity=0)
    for name, ends, radius in (
        ("neck", [0.01, 0, 0.10, 0.005, 0, 0.16], 0.024),
        ("upper_arm", [0.05, 0.115, 0.10, *ELBOW], 0.032),
        ("other_arm", [0.05, -0.115, 0.10, 0.0, -0.15, 0.03], 0.032),
    ):
        color = SKIN if name == "neck" else SHIRT
        person.add_geom(name=name, type=capsule, fromto=ends, size=[radius, 0, 0], rgba=color, contype=0, conaffinity=0)


def _add_fixtures(spec: mujoco.MjSpec) -> None:
    box, cylinder, ellipsoid = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_ELLIPSOID
    plate = spec.worldbody.add_body(name="plate", mocap=True)
    plate.add_geom(name="plate", type=cylinder, pos=[0, 0, PLATE_TOP / 2], size=[0.066, PLATE_TOP / 2, 0], rgba=[0.97, 0.97, 0.96, 1])
    for i, (x, y, color) in enumerate(MEAL):
        position, size = [x, y, PLATE_TOP + 0.007], [0.014, 0.014, 0.010]
        plate.add_geom(name=f"food{i}", type=ellipsoid, pos=position, size=size, rgba=[*color, 1], contype=0, conaffinity=0)
    coaster = spec.worldbody.add_body(name="coaster", mocap=True)
    coaster.add_geom(name="coaster", type=cylinder, pos=[0, 0, 0.001], size=[0.042, 0.001, 0], rgba=[0.80, 0.62, 0.40, 1])
    rail = spec.worldbody.add_body(name="rail", mocap=True)
    metal = [0.55, 0.57, 0.60, 1.0]
    rail.add_geom(name="rail", type=box, pos=[0, 0, RAIL_HEIGHT - 0.004], size=[0.090, 0.005, 0.004], rgba=metal)
    for side in (-1, 1):
        foot = [0.090 * side, 0, (RAIL_HEIGHT - 0.008) / 2]
        rail.add_geom(name=f"rail_post{side}", type=box, pos=foot, size=[0.006, 0.006, foot[2]], rgba=metal)
    dustpan = spec.worldbody.add_body(name="dustpan", mocap=True)
    pan = [0.20, 0.35, 0.60, 1.0]
    dustpan.add_geom(name="dustpan", type=box, pos=[0, 0, 0.0004], size=[*DUSTPAN_HALF, 0.0004], rgba=pan, contype=0, conaffinity=0)
    dustpan.add_geom(name="dustpan_back", type=box, pos=[0, DUSTPAN_HALF[1], 0.008], size=[DUSTPAN_HALF[0], 0.003, 0.008], rgba=pan)


FIXTURE_OF: Final = {"cover_food": "plate", "pass_water": "coaster", "hang_towel": "rail", "sweep_trash": "dustpan"}
_PLACE: Final = {"plate": PLATE, "coaster": COASTER, "rail": RAIL, "dustpan": DUSTPAN}


def draw_scene(world: World, wardrobe: Wardrobe, rng: np.random.Generator, ranges: Ranges, activity: str) -> Scene:
    """A scene in which `activity` and three others are possible; places everything."""
    activities, tools = _draw_things(rng, ranges.split, activity)
    person = np.array([*(PERSON + rng.uniform([-0.012, -0.02], [0.012, 0.02])), 0.0])
    world.data.mocap_pos[_mocap(world, "person")] = person
    places = {}
    for name, fixture in FIXTURE_OF.items():
        place = np.array([*(_PLACE[fixture] + rng.uniform(-0.010, 0.010, 2)), 0.0])
        world.data.mocap_pos[_mocap(world, fixture)] = place if name in activities else ELSEWHERE
        places[fixture] = place
    _lay_out(world, wardrobe, rng, ranges, tools)
    _scatter_trash(world, rng, places["dustpan"], "sweep_trash" in activities)
    return Scene(activities, tools, person, places, _surfaces(world, tools))


def _surfaces(world: World, tools: dict[str, Dressed]) -> tuple[Surface, ...]:
    kinds = [dressed.tool for dressed in tools.values()]
    geoms = [(world.model.geom(f"{tool.name}{i}").id, tool.hardness) for tool in kinds for i in range(len(tool.parts))]
    return tuple(Surface(geom, MODULUS[hardness]) for geom, hardness in geoms)


def _draw_things(rng: np.random.Generator, split: Split, activity: str) -> tuple[tuple[str, ...], dict[str, Dressed]]:
    """Four activities in random order and their things, in different colours, so that a colour tells the things of a scene apart."""
    others = [name for name in TOOL_OF if name != activity]
    while True:
        chosen = [activity, *(str(name) for name in rng.choice(others, len(SLOTS) - 1, replace=False))]
        activities = tuple(chosen[i] for i in rng.permutation(len(SLOTS)))
        looks = {name: 2 if split is Split.NEW_OBJECT else int(rng.integers(2)) for name in activities}
        tools = {name: Dressed(TOOLS[TOOL_OF[name]], TOOLS[TOOL_OF[name]].variants[look]) for name, look in looks.items()}
        if len({dressed.variant.color for dressed in tools.values()}) == len(tools):
            return activities, tools


def _lay_out(world: World, wardrobe: Wardrobe, rng: np.random.Generator, ranges: Ranges, tools: dict[str, Dressed]) -> None:
    """One thing a slot, in the order of `tools`; the others are put away."""
    wardrobe.undress(world)
    absent = [tool for activity, tool in TOOL_OF.items() if activity not in tools]
    for i, name in enumerate(absent):
        _put_away(world, name, i)
    for slot, dressed in zip(SLOTS, tools.values(), strict=True):
        wardrobe.dress(world, dressed, around(rng, 1.0, ranges.mass), around(rng, 1.0, ranges.friction))
        where = np.array([*(slot + rng.uniform(-JITTER, JITTER, 2)), 0.001])
        world.place(dressed.tool.name, where, rng.uniform(-TURN, TURN))
        world.model.body_gravcomp[world.model.body(dressed.tool.name).id] = 0.0


def _put_away(world: World, name: str, place: int) -> None:
    world.place(name, ELSEWHERE + np.array([0.25 * place, 0.0, 0.0]))
    world.model.body_gravcomp[world.model.body(name).id] = 1.0  # nothing holds it there


def _scatter_trash(world: World, rng: np.random.Generator, dustpan: Array, present: bool) -> None:
    for i, name in enumerate(TRASH):
        offset = np.array([0.022 * (i - 1) + rng.uniform(-0.004, 0.004), -0.125 + rng.uniform(-0.012, 0.012), 0.006])
        if present:
            world.place(name, dustpan + offset, rng.uniform(-0.7, 0.7))
            world.model.body_gravcomp[world.model.body(name).id] = 0.0
        else:
            _put_away(world, name, len(TOOL_OF) + i)


def _mocap(world: World, name: str) -> int:
    return int(world.model.body(name).mocapid[0])
