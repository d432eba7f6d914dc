"""Adding a task is one file, and it may lie outside the package: this file registers one."""

import warnings
from collections.abc import Iterator
from typing import ClassVar

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from handsight.envs import env as registry
from handsight.envs.env import HandsightEnv, gymnasium_id, make, register_task, task_names
from handsight.envs.expert import CLOSED, Expert
from handsight.envs.instructions import Phrasebook
from handsight.envs.proofs import independence_of, observe_resets, play
from handsight.envs.randomize import Ranges
from handsight.envs.tasks.base import Setup, Status, Task
from handsight.envs.world import World
from handsight.sensors.grounding import Attributes, Modality
from handsight.sensors.types import Observation, Sensor

HEIGHT = 0.15  # of the tcp above its place [m]
PADS = ("pad_left", "pad_right")
COLORS = {"pink": (0.95, 0.55, 0.70), "black": (0.08, 0.08, 0.08)}


class PointExpert(Expert):
    """Looks for the colour and goes above it."""

    phases = ("point",)
    chosen = -1

    def decide(self, observation: Observation) -> NDArray[np.float32]:
        places = np.array([self.world.position(pad) for pad in PADS])
        if self.chosen < 0:
            color = COLORS[self.setup.attributes["color"]]
            self.chosen = self.recognise(observation, places, color, PADS.index(self.setup.target))
        return self.towards(places[self.chosen] + np.array([0.0, 0.0, HEIGHT]), CLOSED)


class PointAt(Task):
    """Hold the hand above the disc of the named colour."""

    name = "outside/point_at"
    horizon = 80
    needs: ClassVar = {Sensor.CAMERAS: 1 / 2}
    expert = PointExpert

    def phrasebook(self) -> Phrasebook:
        return Phrasebook(("point at the {color} disc", "show me {color}"), ("where is {color}?",), {"color": {"black": ["black", "dark"]}})

    def add_props(self, spec: mujoco.MjSpec) -> None:
        for name in PADS:
            body = spec.worldbody.add_body(name=name)
            body.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[0.03, 0.002, 0], contype=0, conaffinity=0)

    def reset(self, world: World, rng: np.random.Generator, ranges: Ranges) -> Setup:
        colors = [str(color) for color in rng.permutation(list(COLORS))]
        for name, color, y in zip(PADS, colors, (0.10, -0.10), strict=True):
            world.model.body(name).pos[:] = [rng.uniform(0.42, 0.55), y, 0.002]
            world.model.geom(name).rgba[:3] = COLORS[color]
        target = int(rng.integers(len(PADS)))
        return Setup(
            attributes={"color": colors[target]},
            target=PADS[target],
            others=(PADS[1 - target],),
            objects={name: Attributes(color=color) for name, color in zip(PADS, colors, strict=True)},
            combination=(colors[target], PADS[target]),
            secret=PADS[target],
        )

    def status(self, world: World, setup: Setup) -> Status:
        offset = world.tcp_position - world.position(setup.target)
        there = bool(np.hypot(*offset[:2]) < 0.02 and abs(offset[2] - HEIGHT) < 0.02)
        return Status(there, there, wrong=False)


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    task_names()  # those of the package first
    register_task(PointAt)
    yield
    registry._registered.pop(PointAt.name)
    gymnasium.registry.pop(gymnasium_id(PointAt.name))


@pytest.fixture(scope="module")
def env() -> Iterator[HandsightEnv]:
    environment = make("outside/point_at")
    yield environment
    environment.close()


def test_it_is_known_by_name_and_to_gymnasium(env: HandsightEnv) -> None:
    assert "outside/point_at" in task_names()
    made = gymnasium.make("handsight/outside.point_at-v0", sensors=Sensor.STATE)
    _, info = made.reset(seed=0)
    made.close()
    assert info["task"] == env.reset(seed=0)[1]["task"]


def test_check_env_is_clean(env: HandsightEnv) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*Not able to test alternative render modes")
        check_env(env)


def test_it_speaks_in_its_own_phrasings(env: HandsightEnv) -> None:
    said = {env.reset(seed=seed)[1]["task"] for seed in range(30)}
    assert said == {
        "point at the pink disc",
        "point at the black disc",
        "point at the dark disc",
        "show me pink",
        "show me black",
        "show me dark",
    }
    heldout = make("outside/point_at", sensors=Sensor.STATE, phrasings="heldout")
    assert heldout.reset(seed=0)[1]["task"].startswith("where is ")
    heldout.close()


def test_the_expert_succeeds_by_looking(env: HandsightEnv) -> None:
    assert all(play(env, seed).success for seed in range(1000, 1010))
    blind = [play(env, seed, zeroed=Sensor.CAMERAS).success for seed in range(1000, 1024)]
    assert 4 <= sum(blind) <= 20


def test_the_proofs_run_on_it(env: HandsightEnv) -> None:
    assert independence_of(observe_resets(PointAt(), range(1000, 1300))).p > 0.01
    _, info = env.reset(seed=0)
    assert set(info["privileged"]["evidence"].values()) == {Modality.VISION}
