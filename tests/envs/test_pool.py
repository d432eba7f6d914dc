"""The pool: same episodes however they are spread, everything a worker has to say reaches the parent, and workers stay light."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handsight.envs.pool import EnvPool, Transition
from handsight.envs.substitute import DONOR
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import FRONT, WRIST, Sensor

FAKE = "fake_env:make"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "fakes"))


def episode(pool: EnvPool, slot: int, seed: int, steps: int) -> list[Transition]:
    pool.reset(slot, seed, frames=True, expert=True)
    transitions = pool.receive()
    for _ in range(steps):
        expert = transitions[-1].expert_action
        assert expert is not None
        pool.step(slot, expert)
        transitions += pool.receive()
    return transitions


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_episode_is_the_same_in_any_worker(workers: int) -> None:
    with EnvPool("fake/reach", 3, 0, maker=FAKE) as reference, EnvPool("fake/reach", 3, workers, maker=FAKE) as pool:
        expected = episode(reference, 0, seed=5, steps=4)
        got = episode(pool, 2, seed=5, steps=4)
    for one, other in zip(expected, got, strict=True):
        assert one.frame is not None
        assert other.frame is not None
        assert np.array_equal(one.frame, other.frame)
        for key, value in one.observation.items():
            assert np.array_equal(value, other.observation[key]), key
        assert (one.reward, one.success, one.reached, one.task) == (other.reward, other.success, other.reached, other.task)
    assert {transition.slot for transition in got} == {2}


def test_frames_and_expert_only_when_asked() -> None:
    with EnvPool("fake/reach", 1, 0, maker=FAKE) as pool:
        pool.reset(0, 1)
        [transition] = pool.receive()
    assert transition.frame is None
    assert transition.expert_action is None


def test_every_slot_answers_once() -> None:
    with EnvPool("fake/reach", 5, 2, maker=FAKE) as pool:
        for slot in range(5):
            pool.reset(slot, slot)
        seen: list[int] = []
        while len(seen) < 5:
            seen += [transition.slot for transition in pool.receive()]
        assert sorted(seen) == [0, 1, 2, 3, 4]
        assert pool.receive() == []


def test_attributes_describe_the_environment() -> None:
    with EnvPool("fake/reach", 1, 1, maker=FAKE, image_size=40) as pool:
        assert pool.attributes.observation_shapes["observation.images.front"] == (40, 40, 3)
        assert pool.attributes.max_steps == 40
        assert pool.attributes.fps == 20
        assert pool.attributes.action_low.shape == (7,)


@pytest.mark.parametrize(
    ("task", "message"),
    [("fake/raise", "ValueError: the fake arm fell off"), ("fake/die", r"died \(exit code 7\)"), ("fake/nowhere", "choose fake/reach")],
)
def test_failures_reach_the_parent_in_one_line(task: str, message: str) -> None:
    with pytest.raises(HandsightError, match=message) as caught, EnvPool(task, 2, 2, maker=FAKE) as pool:
        episode(pool, 1, seed=0, steps=5)
    assert "\n" not in str(caught.value)


def test_bad_counts_are_refused() -> None:
    with pytest.raises(HandsightError, match="at least 1 slot"):
        EnvPool("fake/reach", 0, 1, maker=FAKE)


@pytest.mark.parametrize(("maker", "task"), [(FAKE, "fake/modules"), ("fake_env:make_real_and_tell", "sense/tabletop_grasp")])
def test_workers_import_neither_torch_nor_lerobot(maker: str, task: str) -> None:
    if "real" in maker:
        pytest.importorskip("handsight.envs.env")
    sys.modules.setdefault("torch", __import__("torch"))  # the parent has it; the child must not
    with EnvPool(task, 2, 2, maker=maker) as pool:
        for slot in (0, 1):
            pool.reset(slot, 0)
        told: list[Any] = []
        while len(told) < 2:
            told += [transition.task for transition in pool.receive()]
    assert set(told) <= {"", "loaded:"}, told


def test_swapped_sensors_are_those_of_another_episode_and_the_rest_is_untouched() -> None:
    with EnvPool("fake/reach", 1, 0, maker=FAKE) as own, EnvPool("fake/reach", 1, 0, maker=FAKE, swapped=["observation.state"]) as pool:
        plain, swapped, other = episode(own, 0, 5, 4), episode(pool, 0, 5, 4), episode(own, 0, 5 + DONOR, 4)
    for step, (mine, got, theirs) in enumerate(zip(plain, swapped, other, strict=True)):
        assert np.array_equal(got.observation["observation.state"], theirs.observation["observation.state"]), step
        assert np.array_equal(got.observation["observation.images.front"], mine.observation["observation.images.front"]), step
    assert not np.array_equal(plain[-1].observation["observation.state"], other[-1].observation["observation.state"])


def test_cameras_that_are_zeroed_and_swapped_need_not_be_looked_at() -> None:
    with EnvPool("sense/tabletop_grasp", 1, 0, zeroed=[FRONT], swapped=[WRIST], sensors=Sensor.CAMERAS, image_size=84) as pool:
        pool.reset(0, 5)
        pool.receive()
        for look in (False, True):
            pool.step(0, np.zeros(7, np.float32), look=look)
            (transition,) = pool.receive()
            assert set(transition.observation) == ({FRONT, WRIST} if look else set())
    assert not transition.observation[FRONT].any()
    assert transition.observation[WRIST].any()


def test_a_sensor_that_is_not_there_cannot_be_swapped() -> None:
    with pytest.raises(HandsightError, match=r"expected sensors to swap among .*--sensors\.swap"):
        EnvPool("fake/reach", 1, 0, maker=FAKE, swapped=["observation.images.wrist"])
