"""Units, frames and inverse kinematics of the arm; mink is the oracle."""

import mink
import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handsight.envs.arm import Arm, ArmConfig, Kinematics, rotation_of, rotation_vector
from handsight.envs.tasks.sense.tabletop_grasp import TabletopGrasp
from handsight.envs.world import HOME, World
from handsight.sensors.types import ROTATION_STEP, TRANSLATION_STEP

small = st.floats(-1.0, 1.0, allow_nan=False)


@pytest.fixture(scope="module")
def world() -> World:
    return World(TabletopGrasp().add_props)


def standing(world: World) -> Arm:
    world.reset()
    for body, y in zip(world.free_bodies, (-0.3, 0.0, 0.3), strict=True):
        world.place(body, np.array([0.75, y, 0.03]))
    mujoco.mj_forward(world.model, world.data)
    return Arm(world)


@given(st.tuples(small, small, small))
def test_rotation_vector_is_the_inverse_of_rotation_of(vector: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(rotation_vector(rotation_of(np.array(vector))), vector, atol=1e-9)


def test_home_points_down_with_fingers_along_y(world: World) -> None:
    standing(world)
    np.testing.assert_allclose(world.tcp_rotation, np.diag([1.0, -1.0, -1.0]), atol=1e-3)
    assert abs(world.tcp_position[1]) < 1e-6


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_unit_action_moves_the_tcp_by_one_step_along_its_base_axis(world: World, axis: int, sign: float) -> None:
    arm = standing(world)
    start = world.tcp_position
    action = np.zeros(7, np.float32)
    action[axis], action[6] = sign, -1.0
    for _ in range(4):
        arm.command(action)
        world.simulate()
    action[axis] = 0.0
    for _ in range(20):
        arm.command(action)
        world.simulate()
    expected = np.zeros(3)
    expected[axis] = 4 * sign * TRANSLATION_STEP
    np.testing.assert_allclose(world.tcp_position - start, expected, atol=1.5e-3)


def test_a_unit_yaw_turns_the_tcp_about_the_base_vertical(world: World) -> None:
    arm = standing(world)
    action = np.array([0, 0, 0, 0, 0, 1, -1], np.float32)
    for _ in range(4):
        arm.command(action)
        world.simulate()
    for _ in range(20):
        arm.command(np.array([0, 0, 0, 0, 0, 0, -1], np.float32))
        world.simulate()
    turn = rotation_vector(world.tcp_rotation @ np.diag([1.0, -1.0, -1.0]).T)
    np.testing.assert_allclose(turn, [0, 0, 4 * ROTATION_STEP], atol=5e-3)


def test_the_gripper_ramps_at_finger_speed_and_closes(world: World) -> None:
    arm = standing(world)
    openings = []
    for _ in range(16):
        arm.command(np.array([0, 0, 0, 0, 0, 0, 1], np.float32))
        world.simulate()
        openings.append(world.finger_opening)
    steps = -np.diff([0.08, *openings])
    assert steps.max() < 2 * 1.6 * ArmConfig().finger_speed / 20  # two fingers; a servo may catch up, never jump
    assert openings[-1] < 2e-3


def test_actions_beyond_one_are_clipped_and_the_workspace_holds(world: World) -> None:
    arm = standing(world)
    for _ in range(60):
        arm.command(np.array([0, 0, -9, 0, 0, 0, -1], np.float32))
        world.simulate()
    assert arm.position[2] >= ArmConfig().lowest[2] - 1e-9
    assert world.tcp_position[2] > 0.0


@settings(max_examples=20, deadline=None)
@given(st.tuples(st.floats(0.38, 0.60), st.floats(-0.22, 0.22), st.floats(0.02, 0.30)), st.floats(-0.8, 0.8))
def test_damped_least_squares_reaches_the_pose_that_mink_reaches(position: tuple[float, float, float], yaw: float) -> None:
    world = World(TabletopGrasp().add_props)
    world.reset()
    mujoco.mj_forward(world.model, world.data)
    target = np.array(position)
    rotation = rotation_of(np.array([0, 0, yaw])) @ np.diag([1.0, -1.0, -1.0])
    ours = Kinematics(world, ArmConfig(iterations=60, posture_gain=0.0))
    ours.reset(HOME)
    joints = ours.solve(target, rotation)
    theirs = _mink(world, target, rotation)
    for solution in (joints, theirs):
        world.data.qpos[world.arm_qpos] = solution
        mujoco.mj_kinematics(world.model, world.data)
        np.testing.assert_allclose(world.tcp_position, target, atol=1e-3)
        assert np.linalg.norm(rotation_vector(rotation @ world.tcp_rotation.T)) < 5e-3


def _mink(world: World, target: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    configuration = mink.Configuration(world.model, q=world.data.qpos.copy())
    task = mink.FrameTask("tcp", "site", position_cost=1.0, orientation_cost=1.0)
    task.set_target(mink.SE3.from_rotation_and_translation(mink.SO3.from_matrix(rotation), target))
    for _ in range(200):
        velocity = mink.solve_ik(configuration, [task], 0.1, "daqp", damping=1e-6)
        configuration.integrate_inplace(velocity, 0.1)
    return np.asarray(configuration.q[world.arm_qpos])
