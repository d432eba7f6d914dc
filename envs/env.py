"""The simulated robot in Gymnasium: `make("sense/tabletop_grasp")` or `gymnasium.make("handsight/sense.tabletop_grasp-v0")`."""

import copy
import difflib
import importlib
import pkgutil
from dataclasses import replace
from functools import cache
from typing import Any, cast

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from handsight.envs import tasks
from handsight.envs.arm import Arm
from handsight.envs.evidence import Evidence
from handsight.envs.expert import Expert
from handsight.envs.observe import Camera, Observer, View
from handsight.envs.randomize import Ranges, SceneVariation
from handsight.envs.splits import admits
from handsight.envs.tasks.base import Setup, Status, Task
from handsight.envs.world import World
from handsight.sensors.describe import Phrasings
from handsight.sensors.errors import HandsightError
from handsight.sensors.realism import IDEAL, Realism
from handsight.sensors.types import (
    ACTION_NAMES,
    AUDIO,
    AUDIO_STEP,
    CONTROL_HZ,
    FRONT,
    STATE,
    STATE_NAMES,
    TOUCH,
    TOUCH_SHAPE,
    WRIST,
    Observation,
    Sensor,
)

HOLD = 10  # control steps for which the success predicate must hold
GUESSES, NOISE = 7, 8  # tell the expert's and the sensors' random numbers from the scene's
MAX_DRAWS = 1000  # of scenes until one belongs to the split
_registered: dict[str, type[Task]] = {}


def gymnasium_id(task: str) -> str:
    """family/task -> handsight/family.task-v0; Gymnasium allows one slash."""
    return f"handsight/{task.replace('/', '.')}-v0"


def register_task(task: type[Task]) -> type[Task]:
    """Makes a task known by its name, also to Gymnasium. Tasks inside envs/tasks are registered by themselves."""
    if task.name not in _registered:
        gymnasium.register(gymnasium_id(task.name), entry_point="handsight.envs.env:make", kwargs={"task": task.name})
    _registered[task.name] = task
    return task


@cache
def _load_tasks() -> None:
    for module in pkgutil.walk_packages(tasks.__path__, tasks.__name__ + "."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, Task) and value.__module__ == module.name and hasattr(value, "name"):
                register_task(value)


def task_names() -> list[str]:
    """Every known task, sorted."""
    _load_tasks()
    return sorted(_registered)


def task_class(name: str) -> type[Task]:
    """The task of this name. Raises HandsightError for an unknown one."""
    known = task_names()
    if name not in _registered:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise HandsightError(f"expected --env.task to be one of {', '.join(known)}, got '{name}'{hint}")
    return _registered[name]


def observation_space(sensors: Sensor, image_size: int) -> spaces.Dict:
    """Boxes with the shapes of sensors/types.py; bounds are physical limits."""
    image = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
    known: dict[str, spaces.Space[Any]] = {
        FRONT: image,
        WRIST: image,
        STATE: spaces.Box(-1000.0, 1000.0, (len(STATE_NAMES),), np.float32),
        TOUCH: spaces.Box(-10_000.0, 10_000.0, TOUCH_SHAPE, np.float32),
        AUDIO: spaces.Box(-1.0, 1.0, (AUDIO_STEP,), np.float32),
    }
    return spaces.Dict({key: known[key] for key in sensors.keys})


class HandsightEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    """One task in MuJoCo at CONTROL_HZ.

    Observations and actions: the table in sensors/types.py. Reward 1 on success, else 0. An episode terminates when the success
    predicate has held for HOLD steps or another object was chosen, and is truncated at `max_steps`. `info` has task, is_success,
    reached, wrong_object and privileged (never part of an observation).

    Raises:
        HandsightError: an action is not finite or has another shape than (7,).
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - declared so by Gymnasium
        "render_modes": ["rgb_array"],
        "render_fps": CONTROL_HZ,
    }
    render_mode = "rgb_array"

    def __init__(
        self,
        task: Task,
        *,
        sensors: Sensor,
        image_size: int,
        phrasings: Phrasings,
        ranges: Ranges,
        realism: Realism = IDEAL,
        prompt: str = "",
    ) -> None:
        self.task = task
        self.task_description = ""
        self.max_steps = self._max_episode_steps = task.horizon  # LeRobot reads the second
        self.observation_space: spaces.Space[Any] = observation_space(sensors, image_size)
        self.action_space = spaces.Box(-1.0, 1.0, (len(ACTION_NAMES),), np.float32)
        self.world = World(task.add_props, realism.actuator_delay_s)
        self.arm = Arm(self.world)
        self._phrasings: Phrasings = phrasings
        self._phrasebook = task.phrasebook().speaking(prompt)
        self._ranges = ranges
        self._variation = SceneVariation(self.world, ranges)
        self._observer = Observer(self.world, sensors, image_size, realism)
        self.image_size = image_size
        self._view: Camera | None = None
        self._episode = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """A new episode; with `seed` it is a function of the seed alone."""
        super().reset(seed=seed)
        self.look(True)
        self._episode = 0 if seed is not None else self._episode + 1
        world, rng = self.world, self.np_random
        world.reset()
        self._variation.apply(rng)
        self.setup: Setup = self._draw()
        mujoco.mj_setConst(world.model, mujoco.MjData(world.model))
        mujoco.mj_forward(world.model, world.data)
        self.arm.reset()
        self.arm.start_at(rng.uniform(-1, 1, 3) * self._ranges.start)
        self.task_description = self._phrasebook.phrase(rng, self._phrasings, **self.setup.attributes)
        resting = world.simulate()[-1]
        self._observer.reset(self.setup, rng, resting, self._generator(NOISE))
        self._evidence = Evidence(world.model, self.setup)
        self._steps = self._held = 0
        self._reached = False
        status = Status(False, False, False)
        return self._observe(np.tile(resting, (world.substeps, 1)), status), self._info(status)

    def _draw(self) -> Setup:
        """The first scene that belongs to the split."""
        for _ in range(MAX_DRAWS):
            setup = self.task.reset(self.world, self.np_random, self._ranges)
            if admits(self._ranges.split, setup.combination):
                return setup
        raise HandsightError(f"expected {self.task.name} to have scenes in --env.split={self._ranges.split}, got none; use another split")

    def _observe(self, forces: NDArray[np.float64], status: Status) -> Observation:
        observation = self._observer.read(forces, status.struck)
        visible = self.task.visible(self.world, self.setup)
        self._evidence.add(visible=visible, touched=self._observer.touched, heard=self._observer.heard)
        return observation

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step of 50 ms."""
        self._check(action)
        self.arm.command(action)
        forces = self.world.simulate()
        status = self.task.status(self.world, self.setup)
        self._steps += 1
        self._held = self._held + 1 if status.success else 0
        observation, info = self._observe(forces, status), self._info(status)
        terminated = info["is_success"] or info["wrong_object"]
        return observation, float(info["is_success"]), terminated, self._steps >= self.max_steps, info

    def instruct(self, text: str) -> None:
        """Replaces the instruction for the rest of the episode: words that a policy has said can be its next command.

        Raises:
            HandsightError: the text is blank.
        """
        if not text.strip():
            raise HandsightError(f"expected an instruction in words, got {text!r}; leave the old one in place if nothing was said")
        self.task_description = text

    def look(self, looking: bool) -> None:
        """Whether the cameras are read at the next steps, until the episode ends: who executes a chunk of actions need not look meanwhile.

        Without, an observation has no pictures, but for cameras whose realism makes later pictures depend on them. Nothing else changes.
        """
        self._observer.looking = looking

    def _check(self, action: NDArray[np.float32]) -> None:
        expected = self.action_space.shape
        if np.shape(action) != expected or not np.isfinite(action).all():
            raise HandsightError(
                f"expected a finite action of shape {expected}, got {np.asarray(action).tolist()} at step {self._steps}; "
                "check the policy's normalisation"
            )

    def _info(self, status: Status) -> dict[str, Any]:
        self._reached = self._reached or status.reached
        return {
            "task": self.task_description,
            "is_success": self._held >= HOLD,
            "reached": self._reached,
            "wrong_object": status.wrong,
            "privileged": self._privileged(),
        }

    def _privileged(self) -> dict[str, Any]:
        """What the task keeps, what each object is like, which senses have met it, and the moment's label (sensors/referent.py)."""
        setup = self.setup
        known = {"attributes": dict(setup.attributes), "target": setup.target, "objects": dict(setup.objects)}
        met = {"evidence": dict(self._evidence.met), "grounding": self._evidence.grounding().row()}
        return copy.deepcopy(setup.privileged) | known | met

    def make_expert(self) -> Expert:
        """The scripted expert for the episode that `reset` began. It knows of the thing that is meant what the instruction names."""
        told = replace(self.setup, attributes=self._phrasebook.named(self.setup.attributes))
        return self.task.expert(self.world, self.arm, told, self._generator(GUESSES))

    def _generator(self, purpose: int) -> np.random.Generator:
        """A generator of this episode's own, from which nothing is drawn that decides the scene."""
        seeds = self.np_random.bit_generator.seed_seq
        assert isinstance(seeds, np.random.SeedSequence)
        return np.random.default_rng([cast(int, seeds.entropy), self._episode, purpose])

    def render(self) -> NDArray[np.uint8]:
        """(360, 480, 3) view of the whole scene, with shadows, for people."""
        if self._view is None:
            self._view = Camera(self.world, View(360, 480, shadows=True, samples=4))
        return self._view.picture("view")

    def close(self) -> None:
        """Frees the OpenGL contexts."""
        if self._view is not None:
            self._view.close()
            self._view = None
        self._observer.close()


def make(
    task: str,
    *,
    image_size: int = 128,
    sensors: Sensor = Sensor.ALL,
    phrasings: Phrasings = "train",
    ranges: Ranges | None = None,
    realism: Realism = IDEAL,
    prompt: str = "",
    render_mode: str = "rgb_array",
) -> HandsightEnv:
    """Builds an environment.

    Args:
        task: family/task, one of `task_names()`.
        image_size: height and width of the cameras [px]; 84, 128 and 224 are measured.
        sensors: what is sensed and returned.
        phrasings: which split of the instructions' phrasings to draw from.
        ranges: what varies between episodes besides the task.
        realism: rates, delays, noise and gains of sensors and actuators; the same seed gives the same scene with any.
        prompt: letters of the senses that instructions speak to, such as V in a task that needs VT; its own if empty.
        render_mode: "rgb_array", the only one.

    Raises:
        HandsightError: unknown task, or no such instructions for it.
    """
    return HandsightEnv(
        task_class(task)(),
        sensors=sensors,
        image_size=image_size,
        phrasings=phrasings,
        ranges=ranges or Ranges(),
        realism=realism,
        prompt=prompt,
    )
