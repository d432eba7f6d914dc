"""Actions from poses: what is added up leads back to the poses; the gripper against the definition, step by step."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from handsight.datasets_rb.reached_action import binary_gripper, reached_actions

grippers = hnp.arrays(np.float32, st.integers(1, 12), elements=st.floats(0, 1, width=32))


@given(grippers)
def test_the_gripper_goes_where_it_is_on_its_way_to(commands: NDArray[np.float32]) -> None:
    expected = np.empty_like(commands)
    carry = commands[-1]
    for step in reversed(range(len(commands))):
        if commands[step] > np.float32(0.95):
            carry = np.float32(1)
        elif commands[step] < np.float32(0.05):
            carry = np.float32(0)
        expected[step] = carry
    np.testing.assert_array_equal(binary_gripper(commands), expected)


def test_actions_lead_from_each_pose_to_the_next(rng: np.random.Generator) -> None:
    states = rng.normal(0, 0.3, (20, 7)).astype(np.float32)
    commands = rng.uniform(0, 1, (20, 7)).astype(np.float32)
    actions = reached_actions(states, commands)
    assert (actions.shape, actions.dtype) == ((19, 7), np.float32)
    np.testing.assert_array_equal(actions[:, :6], states[1:, :6] - states[:-1, :6])  # exactly: nothing here turns by pi
    np.testing.assert_array_equal(actions[:, 6], binary_gripper(commands[:, 6])[:-1])


def test_angles_turn_the_short_way() -> None:
    states = np.zeros((2, 7), np.float32)
    states[:, 5] = [3.1, -3.1]
    action = reached_actions(states, states)[0]
    np.testing.assert_allclose(action[5], 2 * np.pi - 6.2, atol=1e-6)
    assert not action[:5].any()


def test_the_states_are_left_alone() -> None:
    states = np.array([[0, 0, 0, 0, 0, 3, 1], [1, 0, 0, 0, 0, -3, 1]], np.float32)
    before = states.copy()
    reached_actions(states, states)
    np.testing.assert_array_equal(states, before)
