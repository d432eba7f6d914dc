"""Steps a peer simulator and renders two cameras a step. Run by the peer's own Python, which has no handsight (launch/peers.py).

    python peer_steps.py metaworld

Prints one line of JSON that says what is simulated, then answers each line of its standard input with one line:
{"size": 128, "pictures": "same"} prepares the cameras, {"seconds": 2.0} plays for that long and tells what it cost. Ends with its input.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

WARM_UP_STEPS = 10

Act = Callable[[Any], NDArray[np.float32]]
Take = Callable[[str], NDArray[np.uint8]]


@dataclass(frozen=True)
class Simulator:
    """A peer's environment, what acts in it, and the two cameras that match ours: one looks at the table, one sits on the gripper."""

    env: Any
    model: Any
    data: Any
    substeps: int
    cameras: tuple[str, str]
    act: Act
    description: dict[str, str]

    def describe(self) -> dict[str, Any]:
        """What a step of it is; versions of what is installed."""
        timestep = float(self.model.opt.timestep)
        return self.description | {
            "senses": "neither touch nor sound",
            "control_hz": 1 / (self.substeps * timestep),
            "substeps": self.substeps,
            "timestep_ms": timestep * 1e3,
            "degrees_of_freedom": int(self.model.nv),
            "geoms": int(self.model.ngeom),
            "versions": {name: metadata.version(name) for name in ("mujoco", "gymnasium", "numpy")},
        }


def metaworld() -> Simulator:
    """Pick and place with Meta-World's own scripted policy; without the vector wrappers, which would cost more."""
    task, seed = "pick-place-v3", 0
    env = importlib.import_module("metaworld.env_dict").ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task}-goal-observable"](seed=seed)
    policy = importlib.import_module("metaworld.policies").SawyerPickPlaceV3Policy()

    def act(observation: Any) -> NDArray[np.float32]:
        return np.clip(policy.get_action(observation), -1.0, 1.0).astype(np.float32)

    description = {"task": task, "package": f"metaworld {metadata.version('metaworld')}", "acts": "its own scripted policy"}
    return Simulator(env, env.model, env.data, env.frame_skip, ("corner2", "gripperPOV"), act, description)


def gymnasium_robotics() -> Simulator:
    """Fetch picks and places."""
    gymnasium, task = importlib.import_module("gymnasium"), "FetchPickAndPlace-v4"
    gymnasium.register_envs(importlib.import_module("gymnasium_robotics"))
    env = gymnasium.make(task, disable_env_checker=True)
    inner = env.unwrapped
    package = f"gymnasium-robotics {metadata.version('gymnasium-robotics')}"
    description = {"task": task, "package": package, "acts": "a scripted grasp"}
    cameras = ("external_camera_0", "gripper_camera_rgb")
    return Simulator(env, inner.model, inner.data, inner.n_substeps, cameras, grasp, description)


def grasp(observation: Any) -> NDArray[np.float32]:
    """Fetch: above the object, down, close, to the goal. Actions: (3,) displacement / 0.05 m, then the gripper (1 opens)."""
    state, goal = observation["observation"], observation["desired_goal"]
    hand, target, opening = state[:3], state[3:6], float(state[9] + state[10])
    offset = target - hand
    if np.linalg.norm(offset[:2]) > 0.01 and np.linalg.norm(offset) > 0.02:
        way, grip = offset + np.array([0.0, 0.0, 0.08]), 1.0
    elif abs(offset[2]) > 0.01:
        way, grip = offset, 1.0
    else:
        way, grip = (goal - hand if opening < 0.055 else np.zeros(3)), -1.0
    return np.clip([*(way / 0.05), grip], -1.0, 1.0).astype(np.float32)


SIMULATORS: dict[str, Callable[[], Simulator]] = {"metaworld": metaworld, "gymnasium-robotics": gymnasium_robotics}


@contextmanager
def pictures_as_handsight(model: Any, data: Any, size: int) -> Iterator[Take]:
    """No shadows, reflections or multisampling, as envs/observe.py."""
    samples = int(model.vis.quality.offsamples)
    model.vis.quality.offsamples = 0
    model.vis.global_.offwidth = model.vis.global_.offheight = size
    renderer = mujoco.Renderer(model, size, size)
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False

    def take(camera: str) -> NDArray[np.uint8]:
        renderer.update_scene(data, camera)
        return np.asarray(renderer.render())

    yield take
    renderer.close()
    model.vis.quality.offsamples = samples


@contextmanager
def pictures_as_shipped(model: Any, data: Any, size: int) -> Iterator[Take]:
    """What the peers' `render()` calls: Gymnasium's viewer with the model's own settings."""
    viewer = importlib.import_module("gymnasium.envs.mujoco.mujoco_rendering").OffScreenViewer(model, data, size, size)
    number = {model.camera(index).name: index for index in range(model.ncam)}

    def take(camera: str) -> NDArray[np.uint8]:
        return np.asarray(viewer.render("rgb_array", camera_id=number[camera]))

    yield take
    # In this order: freed later, it would delete what the next OpenGL context draws into.
    viewer.make_context_current()
    viewer.con.free()
    viewer.free()


PICTURES = {"same": pictures_as_handsight, "own": pictures_as_shipped}


class Player:
    """Plays episode after episode."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._seed = 0

    def warm_up(self, take: Take) -> None:
        """Compiles shaders; refuses to measure cameras that do not see the robot move (a lost OpenGL context costs nothing to draw)."""
        simulator = self._simulator
        observation, _ = simulator.env.reset(seed=0)
        before = [take(camera).copy() for camera in simulator.cameras]
        for _ in range(WARM_UP_STEPS):
            observation, *_ = simulator.env.step(simulator.act(observation))
        for camera, picture in zip(simulator.cameras, before, strict=True):
            if not (picture != take(camera)).any():
                raise SystemExit(f"expected {camera} to see the robot move, got the same picture after {WARM_UP_STEPS} steps")

    def play(self, seconds: float, take: Take) -> dict[str, Any]:
        """Whole steps until `seconds` of wall time have passed, at least one. `rest` has the resets and what acts."""
        simulator, spent, steps = self._simulator, {"physics": 0.0, "render": 0.0}, 0
        start, cpu, done, observation = time.perf_counter(), time.process_time(), True, None
        while not steps or time.perf_counter() - start < seconds:
            if done:
                self._seed += 1
                observation, _ = simulator.env.reset(seed=self._seed)
            action = simulator.act(observation)
            before = time.process_time()
            observation, _, terminated, truncated, info = simulator.env.step(action)
            between = time.process_time()
            for camera in simulator.cameras:
                take(camera)
            spent["physics"] += between - before
            spent["render"] += time.process_time() - between
            steps += 1
            done = terminated or truncated or bool(info.get("success"))  # Meta-World goes on after a success, its evaluation does not
        total, wall = time.process_time() - cpu, time.perf_counter() - start
        parts = spent | {"rest": total - sum(spent.values()), "total": total}
        return {"cpu_ms": {name: value / steps * 1e3 for name, value in parts.items()}, "steps_per_second": steps / wall, "steps": steps}


def serve(name: str, requests: Iterator[str], answer: Callable[[dict[str, Any]], None]) -> None:
    """Answers until the requests end."""
    simulator = SIMULATORS[name]()
    player = Player(simulator)
    answer(simulator.describe())
    for line in requests:
        request = json.loads(line)
        with PICTURES[request["pictures"]](simulator.model, simulator.data, request["size"]) as take:
            player.warm_up(take)
            answer({"ready": True})
            # The second line of the pair is the signal that every worker is ready.
            answer(player.play(json.loads(next(requests))["seconds"], take))


def main() -> None:
    """Keeps the standard output for answers: libraries that print are sent to the standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(content: dict[str, Any]) -> None:
        print(json.dumps(content), file=answers, flush=True)

    serve(sys.argv[1], iter(sys.stdin.readline, ""), answer)


if __name__ == "__main__":
    main()
