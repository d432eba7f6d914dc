"""The proofs that a sensor is needed (SUITE.md), for any task: nothing hidden is seen, and nothing else gives the secret away.

hidden_pixels(env, seed)            # of hidden things, in what the cameras see during an expert's episode
independence_of(task, seeds)        # of the secret from instruction, start and pictures at reset
play(env, seed, zeroed=...)         # the expert without a sensor
"""

import functools
import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.envs.env import HandsightEnv, make
from handsight.envs.independence import Independence, halves, independence
from handsight.envs.observe import CAMERA_OF_KEY, Camera, View
from handsight.envs.randomize import Ranges
from handsight.envs.tasks.base import Task
from handsight.sensors.types import ACTION_NAMES, FRONT, WRIST, Observation, Sensor

SIDE: Final = 128  # of the pictures [pixel]
BLOCKS: Final = 4  # of a picture's side, each of which gives one feature a channel
AXES: Final = ("x", "y", "z")
NO_SENSOR: Final = Sensor(0)
NO_CAMERAS: Final = Sensor.STATE | Sensor.TOUCH | Sensor.AUDIO
DOWN: Final = np.eye(len(ACTION_NAMES), dtype=np.float32)[6] - np.eye(len(ACTION_NAMES), dtype=np.float32)[2]  # closed, straight down


@dataclass(frozen=True)
class Outcome:
    """How an episode ended."""

    success: bool
    wrong: bool
    steps: int


def sensors_for(task: Task) -> Sensor:
    """What decides a task, and the state; the other sensors would only cost time."""
    return functools.reduce(operator.or_, task.needs, Sensor.STATE)


def task_named(name: str) -> Task:
    """The task behind a name."""
    return make(name, sensors=Sensor.STATE).task


def make_lean(task: str, **options: Any) -> HandsightEnv:
    """`make`, without the cameras if they do not decide the task."""
    return make(task, sensors=sensors_for(task_named(task)), **options)


def make_unsensed(task: str, **options: Any) -> HandsightEnv:
    """`make`, for actors that sense nothing."""
    return make(task, sensors=Sensor.STATE, **options)


def without(observation: Observation, zeroed: Sensor) -> Observation:
    """The observation with these sensors all zero."""
    return {key: np.zeros_like(value) if key in zeroed.keys else value for key, value in observation.items()}


def play(env: HandsightEnv, seed: int, zeroed: Sensor = NO_SENSOR) -> Outcome:
    """An episode of the scripted expert, to whom `zeroed` sensors are all zero."""
    observation, info = env.reset(seed=seed)
    expert, done, steps = env.make_expert(), False, 0
    while not done:
        observation, _, terminated, truncated, info = env.step(expert.act(without(observation, zeroed)))
        done, steps = terminated or truncated, steps + 1
    return Outcome(bool(info["is_success"]), bool(info["wrong_object"]), steps)


def play_actions(env: HandsightEnv, seed: int, actions: Iterable[NDArray[np.float32]]) -> Outcome:
    """An episode of actions (7,) that do not depend on anything sensed."""
    _, info = env.reset(seed=seed)
    steps = 0
    for action in itertools.islice(actions, env.max_steps):
        _, _, terminated, truncated, info = env.step(action)
        steps += 1
        if terminated or truncated:
            break
    return Outcome(bool(info["is_success"]), bool(info["wrong_object"]), steps)


def random_actions(rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    """Uniform over the action space, without end."""
    while True:
        yield rng.uniform(-1.0, 1.0, len(ACTION_NAMES)).astype(np.float32)


def hidden(env: HandsightEnv) -> frozenset[str]:
    """What no camera can see now: things that the task says are not in view, and what is heard inside another thing (beads in a box)."""
    setup = env.setup
    inside = {source for source, thing in setup.voices.items() if thing not in ("", source)}
    return (frozenset(setup.objects) | inside) - env.task.visible(env.world, setup)


def geoms_of(model: mujoco.MjModel, bodies: Iterable[str]) -> NDArray[np.int64]:
    """Geoms of these bodies and of what is fixed to them, without those that are fully transparent."""
    wanted = {mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name) for name in bodies} - {-1}
    for body in range(model.nbody):  # a parent comes before its children
        if body and int(model.body_parentid[body]) in wanted:
            wanted.add(body)
    owners = np.asarray(model.geom_bodyid)
    return np.flatnonzero(np.isin(owners, sorted(wanted)) & (model.geom_rgba[:, 3] > 0))


@contextmanager
def glass_is_no_cover(model: mujoco.MjModel, geoms: NDArray[np.int64]) -> Iterator[None]:
    """Segmentation draws what is translucent as solid; in here it hides nothing, and is seen itself if it is of `geoms`."""
    alpha = model.geom_rgba[:, 3].copy()
    translucent = (alpha > 0) & (alpha < 1)
    model.geom_rgba[translucent, 3] = 0.0
    model.geom_rgba[geoms, 3] = 1.0
    try:
        yield
    finally:
        model.geom_rgba[:, 3] = alpha


def pixels_of(env: HandsightEnv, camera: Camera, bodies: Iterable[str]) -> int:
    """Pixels of these bodies in the cameras that a policy sees, now."""
    geoms = geoms_of(env.world.model, bodies)
    if not len(geoms):
        return 0
    with glass_is_no_cover(env.world.model, geoms):
        return sum(int(np.isin(camera.segmentation(name), geoms).sum()) for name in CAMERA_OF_KEY.values())


@dataclass(frozen=True)
class Occlusion:
    """What was seen of hidden things during an expert's episode."""

    pixels: int
    """Of hidden things, over all frames and cameras."""
    frames: int
    """In which something was hidden."""


def hidden_pixels(env: HandsightEnv, camera: Camera, seed: int) -> Occlusion:
    """Plays the expert and looks for everything hidden in every frame of every camera."""
    observation, _ = env.reset(seed=seed)
    expert, done, pixels, frames = env.make_expert(), False, 0, 0
    while not done:
        unseen = hidden(env)
        pixels, frames = pixels + pixels_of(env, camera, unseen), frames + bool(unseen)
        observation, _, terminated, truncated, _ = env.step(expert.act(observation))
        done = terminated or truncated
    return Occlusion(pixels, frames)


def occlusion_of(task: str, seeds: Sequence[int]) -> Occlusion:
    """`hidden_pixels` over several episodes of a task."""
    env = make(task, sensors=sensors_for(task_named(task)), image_size=SIDE)
    camera = Camera(env.world, View(SIDE, SIDE))
    found = [hidden_pixels(env, camera, seed) for seed in seeds]
    camera.close()
    env.close()
    return Occlusion(sum(each.pixels for each in found), sum(each.frames for each in found))


@dataclass(frozen=True)
class Reset:
    """What could be known at a reset."""

    secret: str
    slots: dict[str, str]
    """What the instruction says."""
    numbers: dict[str, float]
    """Start of the tcp [m]; mean grey levels of the pictures' blocks."""


def observe_reset(env: HandsightEnv, seed: int) -> Reset:
    """Draws one scene; pictures count if the environment has cameras."""
    observation, _ = env.reset(seed=seed)
    slots = dict(env.setup.attributes)
    slots["instruction"] = "/".join(slots.values())
    start = dict(zip((f"start {axis}" for axis in AXES), map(float, env.world.tcp_position), strict=True))
    pictures = {name: value for key in (FRONT, WRIST) if key in observation for name, value in _blocks(key, observation[key]).items()}
    return Reset(env.setup.secret, slots, start | pictures)


def _blocks(key: str, picture: NDArray[np.uint8]) -> dict[str, float]:
    """Mean of each channel of BLOCKS by BLOCKS blocks of a picture (H, W, 3)."""
    side = picture.shape[0] // BLOCKS
    means = picture[: side * BLOCKS, : side * BLOCKS].reshape(BLOCKS, side, BLOCKS, side, 3).mean(axis=(1, 3))
    return {f"{CAMERA_OF_KEY[key]} {'/'.join(map(str, where))}": float(mean) for where, mean in np.ndenumerate(means)}


def features_of(resets: Sequence[Reset]) -> dict[str, list[str]]:
    """Categories of every feature: the words of the instruction, numbers below or above their median."""
    words = {f"slot {slot}": [reset.slots[slot] for reset in resets] for slot in resets[0].slots}
    return words | {name: halves(np.array([reset.numbers[name] for reset in resets])) for name in resets[0].numbers}


def looks_are_free(task: Task) -> bool:
    """Whether the pictures must not give the secret away: they may where cameras alone are needed."""
    return not all(sensor & Sensor.CAMERAS for sensor in task.needs)


def independence_of(resets: Sequence[Reset]) -> Independence:
    """Of the secret from all that could be known at reset."""
    return independence([reset.secret for reset in resets], features_of(resets))


def observe_resets(task: Task, seeds: Iterable[int]) -> list[Reset]:
    """`observe_reset` for every seed, in an environment of its own."""
    sensors = Sensor.CAMERAS | Sensor.STATE if looks_are_free(task) else Sensor.STATE
    env = HandsightEnv(task, sensors=sensors, image_size=SIDE // 2, phrasings="train", ranges=Ranges())
    resets = [observe_reset(env, seed) for seed in seeds]
    env.close()
    return resets
