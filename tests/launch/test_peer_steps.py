"""What runs in a peer's own Python, tried on a toy simulator in ours: both ways to draw, and cameras that see nothing are refused."""

import json
import sys
from types import ModuleType
from typing import Any

import mujoco
import numpy as np
import pytest

from handsight.launch import peer_steps
from handsight.launch.peer_steps import PICTURES, Player, Simulator, grasp, serve

SUBSTEPS = 20
TOY = """
<mujoco>
  <worldbody>
    <light pos="0 0 3"/>
    <geom type="plane" size="1 1 .1"/>
    <camera name="top" pos="0 0 1.5"/>
    <camera name="side" pos="0 -1.5 .2" euler="90 0 0"/>
    <camera name="away" pos="0 0 1.5" euler="180 0 0"/>
    <body pos="0 0 .2"><joint name="slide" type="slide" axis="1 0 0"/><geom type="box" size=".1 .1 .1" rgba="1 0 0 1"/></body>
  </worldbody>
  <actuator><velocity joint="slide" kv="200"/></actuator>
</mujoco>
"""


class ToyEnv:
    """A box that slides; an episode has 20 steps."""

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(TOY)
        self.data = mujoco.MjData(self.model)
        self.seeds: list[int] = []

    def reset(self, seed: int) -> tuple[Any, dict[str, Any]]:
        self.seeds.append(seed)
        self.steps = 0
        mujoco.mj_resetData(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)
        return self.data.qpos.copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data, SUBSTEPS)
        self.steps += 1
        return self.data.qpos.copy(), 0.0, False, self.steps == 20, {}


def toy(*cameras: str) -> Simulator:
    env = ToyEnv()
    first, second = cameras
    return Simulator(env, env.model, env.data, SUBSTEPS, (first, second), lambda observation: np.ones(1, np.float32), {"task": "slide"})


def films_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gymnasium's viewer imports imageio, which a peer's environment has and ours has not, to write films."""
    monkeypatch.setitem(sys.modules, "imageio", ModuleType("imageio"))


def test_both_ways_to_draw_follow_each_other_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    films_only(monkeypatch)
    simulator = toy("top", "side")
    for pictures in ("own", "same", "own", "same"):
        with PICTURES[pictures](simulator.model, simulator.data, 48) as take:
            Player(simulator).warm_up(take)
            picture = take("top")
            assert (picture.shape, picture.dtype) == ((48, 48, 3), np.uint8)
            red = picture[..., 0].astype(int) - picture[..., 1] > 50
            assert red.any(), f"no box in the {pictures} picture"
            assert not red.all()


def test_the_model_keeps_its_own_multisampling() -> None:
    simulator = toy("top", "side")
    before = int(simulator.model.vis.quality.offsamples)
    with PICTURES["same"](simulator.model, simulator.data, 48):
        assert int(simulator.model.vis.quality.offsamples) == 0
    assert int(simulator.model.vis.quality.offsamples) == before > 0


def test_a_camera_that_sees_nothing_move_is_refused() -> None:
    simulator = toy("top", "away")
    with PICTURES["same"](simulator.model, simulator.data, 48) as take, pytest.raises(SystemExit, match="expected away to see the robot"):
        Player(simulator).warm_up(take)


def test_episodes_follow_each_other_and_the_parts_add_up() -> None:
    simulator = toy("top", "side")
    taken: list[str] = []

    def take(camera: str) -> Any:
        taken.append(camera)
        return np.zeros((1, 1, 3), np.uint8)

    result = Player(simulator).play(0.05, take)
    assert taken == ["top", "side"] * result["steps"]
    assert simulator.env.seeds == list(range(1, -(-result["steps"] // 20) + 1))
    cost = result["cpu_ms"]
    assert cost["total"] == pytest.approx(cost["physics"] + cost["render"] + cost["rest"])


def test_each_request_has_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    films_only(monkeypatch)
    monkeypatch.setitem(peer_steps.SIMULATORS, "toy", lambda: toy("top", "side"))
    monkeypatch.setattr(peer_steps.metadata, "version", lambda name: "1")
    requests = [{"size": 32, "pictures": "same"}, {"seconds": 0.0}, {"size": 40, "pictures": "own"}, {"seconds": 0.0}]
    answers: list[dict[str, Any]] = []
    serve("toy", iter([json.dumps(request) for request in requests]), answers.append)
    described, ready, played, *again = answers
    assert (described["control_hz"], described["substeps"], described["senses"]) == (25.0, SUBSTEPS, "neither touch nor sound")
    assert (ready, played["steps"], len(again)) == ({"ready": True}, 1, 2)


def test_the_grasp_goes_above_then_down_then_closes_then_to_the_goal() -> None:
    def act(hand: list[float], opening: float) -> Any:
        state = np.zeros(25)
        state[:3], state[3:6], state[9:11] = hand, [0.0, 0.0, 0.4], opening / 2
        return grasp({"observation": state, "desired_goal": np.array([0.2, 0.0, 0.6])})

    assert act([0.1, 0.0, 0.4], 0.1).tolist() == pytest.approx([-1.0, 0.0, 1.0, 1.0])
    assert act([0.0, 0.0, 0.44], 0.1).tolist() == pytest.approx([0.0, 0.0, -0.8, 1.0])
    assert act([0.0, 0.0, 0.4], 0.1).tolist() == pytest.approx([0.0, 0.0, 0.0, -1.0])
    assert act([0.0, 0.0, 0.4], 0.05).tolist() == pytest.approx([1.0, 0.0, 1.0, -1.0])
