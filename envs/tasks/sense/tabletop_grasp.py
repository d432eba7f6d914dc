"""Pick up the object that the instruction names, one of three; cameras decide."""

from typing import ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.envs.expert import CLOSED, OPEN, Expert
from handsight.envs.props import COLORS, HARDNESS, add_body, dress, scatter, size_word, table_look
from handsight.envs.randomize import Ranges
from handsight.envs.sound import SoundSource
from handsight.envs.tasks.base import Setup, Status, Surface, Task, lifted
from handsight.envs.world import World
from handsight.sensors.grounding import Attributes
from handsight.sensors.types import Observation, Sensor

BODIES = ("object0", "object1", "object2")
LOW, HIGH = np.array([0.40, -0.17]), np.array([0.58, 0.17])  # where objects lie [m]
GAP = 0.095  # smallest distance between two objects [m]
LIFT = 0.10  # [m]


class GraspExpert(Expert):
    """Finds the named colour in the picture, then hovers, descends, closes, lifts; regrasps what slipped."""

    phases = ("approach", "descend", "close", "lift")
    fragile = ("close",)
    chosen = ""

    def decide(self, observation: Observation) -> NDArray[np.float32]:
        if not self.chosen:
            points = np.array([self.world.position(body) for body in BODIES])
            color = COLORS[self.setup.attributes["color"]]
            self.chosen = BODIES[self.recognise(observation, points, color, BODIES.index(self.setup.target))]
        target = self.world.position(self.chosen)
        across, above = self.distance(target)
        if self.phase == "approach" and across < 0.010 and abs(self._yaw_of_target() - self.yaw) < 0.08:
            self.enter("descend")
        elif self.phase == "descend" and across > 0.020:
            self.enter("approach")
        elif self.phase == "descend" and above < 0.005 and across < 0.004:
            self.enter("close")
        elif self.phase == "close" and self.steps_in_phase > 9:
            self.enter("lift")
        elif self.phase == "lift" and self.world.finger_opening < 0.010:
            self.enter("approach")
        return self._move(target)

    def _move(self, target: NDArray[np.float64]) -> NDArray[np.float32]:
        if self.phase == "approach":
            hover = np.array([target[0], target[1], 0.11])
            return self.towards(hover, OPEN, self._yaw_of_target())
        if self.phase == "lift":
            return self.towards(np.array([*self.arm.position[:2], 0.20]), CLOSED, self.yaw)
        return self.towards(target, OPEN if self.phase == "descend" else CLOSED, self._yaw_of_target())

    def _yaw_of_target(self) -> float:
        """Turn that aligns the fingers with a box's sides; round objects need none."""
        if self.setup.objects[self.chosen].shape != "box":
            return 0.0
        w, x, y, z = self.world.data.body(self.chosen).xquat
        yaw = float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))
        return (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4


class TabletopGrasp(Task):
    """Three objects of different colours; the named one must be lifted by LIFT and held."""

    name = "sense/tabletop_grasp"
    phrases = "tabletop_grasp"
    horizon = 120
    needs: ClassVar = {Sensor.CAMERAS: 1 / 3}
    expert = GraspExpert

    def add_props(self, spec: mujoco.MjSpec) -> None:
        for name in BODIES:
            add_body(spec, name)

    def reset(self, world: World, rng: np.random.Generator, ranges: Ranges) -> Setup:
        points = scatter(rng, len(BODIES), LOW, HIGH, GAP)
        colors = [str(color) for color in rng.choice(list(COLORS), len(BODIES), replace=False)]
        looks = [table_look(rng, color, ranges) for color in colors]
        surfaces = []
        for body, point, look in zip(BODIES, points, looks, strict=True):
            geom = dress(world, body, look)
            world.place(body, np.array([*point, look.radius]), rng.uniform(-0.6, 0.6))
            surfaces.append(Surface(geom, HARDNESS[look.hardness].modulus))
        named = int(rng.integers(len(BODIES)))
        return Setup(
            attributes={"color": colors[named], "shape": looks[named].shape},
            target=BODIES[named],
            others=tuple(body for body in BODIES if body != BODIES[named]),
            surfaces=tuple(surfaces),
            sounds={body: SoundSource(look.material, look.radius) for body, look in zip(BODIES, looks, strict=True)},
            objects={
                body: Attributes(color=color, shape=look.shape, size=size_word(look.radius), hardness=look.hardness, material=look.material)
                for body, color, look in zip(BODIES, colors, looks, strict=True)
            },
            combination=(colors[named], looks[named].shape),
            secret=str(named),
            privileged={"rest": {b: look.radius for b, look in zip(BODIES, looks, strict=True)}},
        )

    def status(self, world: World, setup: Setup) -> Status:
        rest = setup.privileged["rest"]
        assert isinstance(rest, dict)
        reached = bool(np.linalg.norm(world.tcp_position - world.position(setup.target)) < 0.025)
        wrong = any(lifted(world, body, LIFT / 2, rest[body]) for body in setup.others)
        return Status(lifted(world, setup.target, LIFT, rest[setup.target]), reached, wrong)
