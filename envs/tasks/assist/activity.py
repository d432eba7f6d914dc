"""What the ten activities share: fetch the thing that the instruction calls for, bring its working end along a path, let go where it must.

An activity says what it handles, where the working end goes and when it is done; see feed.py (hold) and put_on_hat.py (let go).
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.envs.arm import Arm
from handsight.envs.expert import CLOSED, OPEN, Expert
from handsight.envs.randomize import Ranges
from handsight.envs.sound import SoundSource
from handsight.envs.tasks.assist.scene import SLOTS, TOOL_OF, Scene, add_room, draw_scene
from handsight.envs.tasks.assist.tools import COLOR_WORDS, TOOLS, Wardrobe
from handsight.envs.tasks.base import Setup, Status, Task
from handsight.envs.world import World
from handsight.sensors.grounding import Attributes
from handsight.sensors.types import Observation, Sensor

Array = NDArray[np.float64]
TAKEN = 0.05  # height [m] above which a thing counts as chosen
CLEAR = 0.10  # height of the tcp above the grip on the way to a thing [m]
SAFE = 0.20  # least height of the tcp while carrying [m]
NEAR = 0.007  # distance of the working end to a point of its path that counts as there [m]
PATIENCE = 15  # control steps at the end of the path until it is followed again, if the activity is not done
GRIPPED = 0.005  # opening of the fingers below which they hold nothing [m]


@dataclass
class Progress:
    """A scene and what the activity has done in it so far."""

    scene: Scene
    visited: set[int] = field(default_factory=set)
    """Points of the path that the working end has been at."""
    travel: float = 0.0
    """How far the working end has moved at its place [m]."""
    last: Array | None = None
    """Where the working end was at its place in the step before."""

    def visit(self, points: Array, tip: Array, near: float) -> bool:
        """Marks the points (P, 3) within `near` [m] of the working end; whether all have been visited."""
        self.visited |= {int(i) for i in np.flatnonzero(np.linalg.norm(points - tip, axis=1) < near)}
        return len(self.visited) == len(points)

    def stroke(self, place: Array, tip: Array, near: float) -> float:
        """Adds what the working end has moved while within `near` [m] of `place`; the whole way so far [m]."""
        here = tip if np.linalg.norm(tip - place) < near else None
        if here is not None and self.last is not None:
            self.travel += float(np.linalg.norm(here - self.last))
        self.last = here
        return self.travel


class ActivityExpert(Expert):
    """Looks for the thing's colour in the picture, fetches it, follows the path, lets go if the activity says so."""

    phases = ("approach", "descend", "close", "lift", "carry", "act", "release", "rise")
    fragile = ("close", "act", "release")
    firm = ("lift", "carry")
    chosen = ""
    waypoint = 0
    waited = 0

    def __init__(self, world: World, arm: Arm, setup: Setup, rng: np.random.Generator, activity: "Activity") -> None:
        super().__init__(world, arm, setup, rng)
        self.activity = activity
        self.scene = Activity.scene(setup)

    def decide(self, observation: Observation) -> NDArray[np.float32]:
        if not self.chosen:
            self._choose(observation)
        self._advance()
        return self._move()

    def _choose(self, observation: Observation) -> None:
        scene = self.scene
        grips = np.array([grip_of(self.world, scene, name) for name in scene.activities])
        color = scene.tools[self.activity.short].variant.color
        slot = self.recognise(observation, grips, color, scene.slot(self.activity.short))
        self.chosen, self.grip_at_first = scene.activities[slot], grips[slot]

    def _advance(self) -> None:
        """Goes on to the next phase, or back to the beginning where the thing was lost."""
        grip = grip_of(self.world, self.scene, self.chosen)
        across, above = self.distance(grip)
        if self.phase == "approach" and across < 0.010 and abs(self._turn() - self.yaw) < 0.06:
            self.enter("descend")
        elif self.phase == "descend" and across > 0.020:
            self.enter("approach")
        elif self.phase == "descend" and above < 0.006 and across < 0.005:
            self.enter("close")
        elif self.phase == "close" and self.steps_in_phase > 11:
            self.touches = [self.grip_at_first]
            self.enter("lift")
        elif self.phase in ("lift", "carry", "act") and self.world.finger_opening < GRIPPED:
            self.waypoint = 0
            self.enter("approach")
        else:
            self._advance_holding()

    def _advance_holding(self) -> None:
        offset = self._goal() - self.world.tcp_position
        if self.phase == "lift" and self.world.tcp_position[2] > self.activity.carry_height - 0.02:
            self.enter("carry")
        elif self.phase == "carry" and np.hypot(*offset[:2]) < 0.015 and abs(self.yaw) < 0.04:
            self.enter("act")
        elif self.phase == "act" and np.linalg.norm(offset) < NEAR:
            self._reach_waypoint()
        elif self.phase == "release" and self.steps_in_phase > 9:
            self.enter("rise")

    def _reach_waypoint(self) -> None:
        path = self._path()
        if self.waypoint in range(len(path))[self.activity.contacts] and len(self.touches) <= self.waypoint:
            self.touches.append(tip_of(self.world, self.scene, self.chosen))
        if self.waypoint + 1 < len(path):
            self.waypoint += 1
        elif self.activity.lets_go:
            self.enter("release")
        else:
            self.waited += 1
            self.waypoint = self.waypoint if self.waited % PATIENCE else 0

    def _path(self) -> Array:
        return self.activity.path(self.scene)

    def _goal(self) -> Array:
        """Where the tcp must be for the working end to be at its next point."""
        offset = tip_of(self.world, self.scene, self.chosen) - self.world.tcp_position
        return np.asarray(self._path()[self.waypoint] - offset)

    def _turn(self) -> float:
        """Turn of the thing about the vertical [rad]."""
        rotation = self.world.data.body(TOOL_OF[self.chosen]).xmat.reshape(3, 3)
        return float(np.arctan2(rotation[1, 0], rotation[0, 0]))

    def _move(self) -> NDArray[np.float32]:
        grip = grip_of(self.world, self.scene, self.chosen)
        here, goal = self.arm.position, self._goal()
        if self.phase == "approach":
            return self.towards(grip + np.array([0.0, 0.0, CLEAR]), OPEN, self._turn())
        if self.phase in ("descend", "close"):
            return self.towards(grip, OPEN if self.phase == "descend" else CLOSED, self._turn())
        if self.phase == "lift":
            return self.towards(np.array([*here[:2], self.activity.carry_height]), CLOSED, self.yaw)
        if self.phase == "carry":
            return self.towards(np.array([*goal[:2], max(self.activity.carry_height, goal[2])]), CLOSED)
        if self.phase == "act":
            return self.towards(goal, CLOSED) * self._pace()
        return self.towards(here if self.phase == "release" else np.array([*here[:2], here[2] + 0.10]), OPEN, self.yaw)

    def _pace(self) -> NDArray[np.float32]:
        return np.array([*[self.activity.pace] * 3, 1, 1, 1, 1], np.float32)


def grip_of(world: World, scene: Scene, activity: str) -> Array:
    """Where a thing is to be held, (3,) in the world [m]."""
    return _point(world, TOOL_OF[activity], scene.tools[activity].grip)


def tip_of(world: World, scene: Scene, activity: str) -> Array:
    """The working end of a thing, (3,) in the world [m]."""
    return _point(world, TOOL_OF[activity], scene.tools[activity].tip)


def _point(world: World, body: str, offset: Array) -> Array:
    pose = world.data.body(body)
    return np.asarray(pose.xpos + pose.xmat.reshape(3, 3) @ offset)


def let_go(world: World) -> bool:
    """Whether the fingers are wide open."""
    return world.finger_opening > 0.07


def upright(world: World, body: str, least: float = 0.94) -> bool:
    """Whether the body's vertical is within 20 degrees of the world's."""
    return bool(world.data.body(body).xmat[8] > least)


class Activity(Task):
    """One of ten activities of daily living; its thing lies among three others, and the instruction alone says which is meant."""

    horizon = 220
    needs: ClassVar[dict[Sensor, float]] = {Sensor.CAMERAS: 1 / len(SLOTS)}
    touches = True
    lets_go: ClassVar[bool] = False
    """Whether the thing is put down at the end of the path."""
    carry_height: ClassVar[float] = SAFE
    """Height of the tcp on the way [m]."""
    pace: ClassVar[float] = 1.0
    """Share of full speed along the path."""

    @abstractmethod
    def path(self, scene: Scene) -> Array:
        """Points (P, 3) in the world [m] that the working end visits in order."""

    @abstractmethod
    def done(self, world: World, scene: Scene, progress: Progress) -> bool:
        """Whether the activity is finished; updates `progress`."""

    contacts: ClassVar[slice] = slice(1, None)
    """Which of the path's points are contacts: all but the one that it comes from."""

    @property
    def expert(self) -> Callable[[World, Arm, Setup, np.random.Generator], Expert]:
        return partial(ActivityExpert, activity=self)

    @property
    def short(self) -> str:
        """The name without the family."""
        return self.name.partition("/")[2]

    @staticmethod
    def scene(setup: Setup) -> Scene:
        """What the episode shows."""
        assert isinstance(setup.memory, Progress)
        return setup.memory.scene

    def add_props(self, spec: mujoco.MjSpec) -> None:
        add_room(spec)
        self._wardrobe: Wardrobe | None = None

    def reset(self, world: World, rng: np.random.Generator, ranges: Ranges) -> Setup:
        self._wardrobe = self._wardrobe or Wardrobe(world)
        return self.setup_in(draw_scene(world, self._wardrobe, rng, ranges, self.short))

    def setup_in(self, scene: Scene) -> Setup:
        """This activity in a scene in which it is possible, drawn by whichever task."""
        target = TOOL_OF[self.short]
        return Setup(
            attributes={},
            target=target,
            others=tuple(TOOL_OF[name] for name in scene.activities if name != self.short),
            surfaces=scene.surfaces,
            sounds={dressed.tool.name: SoundSource(dressed.tool.material) for dressed in scene.tools.values()},
            objects={dressed.tool.name: _words(dressed.tool.name, dressed.variant.color) for dressed in scene.tools.values()},
            combination=(self.short, COLOR_WORDS[scene.tools[self.short].variant.color], f"slot{scene.slot(self.short)}"),
            secret=f"slot{scene.slot(self.short)}",
            privileged={"activities": scene.activities},
            memory=Progress(scene),
        )

    def status(self, world: World, setup: Setup) -> Status:
        scene = self.scene(setup)
        reached = bool(np.linalg.norm(world.tcp_position - grip_of(world, scene, self.short)) < 0.025)
        wrong = any(world.position(body)[2] > TAKEN for body in setup.others)
        return Status(self.done(world, scene, setup.memory), reached, wrong)


def _words(tool: str, color: tuple[float, float, float]) -> Attributes:
    kind, word = TOOLS[tool], COLOR_WORDS[color]
    return Attributes(color=word, shape=kind.shape, size=kind.size, hardness=kind.hardness, texture="smooth", material=kind.material)
