import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handsight.datasets_rb.keyframe import keyframe
from handsight.sensors.types import KeyframeKind

CLOSE, OPEN, END, PRESS = KeyframeKind.CLOSE, KeyframeKind.OPEN, KeyframeKind.END, KeyframeKind.PRESS


def label(gripper: list[float]) -> tuple[list[int], list[int]]:
    """(frame, kind) of every label; states are (i, i, i, ...) so that the position says the frame."""
    actions = np.zeros((len(gripper), 7), np.float32)
    actions[:, 6] = gripper
    states = np.repeat(np.arange(len(gripper), dtype=np.float32)[:, None], 15, axis=1)
    result = keyframe(actions, states)
    assert result.shape == (len(gripper), 4)
    assert result.dtype == np.float32
    assert (result[:, 0] == result[:, 1]).all()
    assert (result[:, 0] == result[:, 2]).all()
    return result[:, 0].astype(int).tolist(), result[:, 3].astype(int).tolist()


@pytest.mark.parametrize(
    ("gripper", "frames", "kinds"),
    [
        ([-1, -1, -1], [2, 2, 2], [END, END, END]),
        ([1, 1], [1, 1], [END, END]),
        ([-1, -1, 1, 1], [2, 2, 3, 3], [CLOSE, CLOSE, END, END]),
        ([1, -1, -1], [1, 2, 2], [OPEN, END, END]),
        ([-1, 1, 1, -1, -1], [1, 3, 3, 4, 4], [CLOSE, OPEN, OPEN, END, END]),
        ([-1, 1, -1], [1, 2, 2], [CLOSE, OPEN, END]),
        ([0, -0.2, 0.3, 1], [2, 2, 3, 3], [CLOSE, CLOSE, END, END]),  # the sign decides; 0 is open
        ([-1], [0], [END]),
    ],
)
def test_closed_cases(gripper: list[float], frames: list[int], kinds: list[int]) -> None:
    assert label(gripper) == (frames, kinds)


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_equals_a_search_frame_by_frame(closed: list[bool]) -> None:
    frames, kinds = label([1.0 if value else -1.0 for value in closed])
    for t in range(len(closed)):
        change = next((c for c in range(t + 1, len(closed)) if closed[c] != closed[c - 1]), None)
        expected = (len(closed) - 1, END) if change is None else (change, CLOSE if closed[change] else OPEN)
        assert (frames[t], kinds[t]) == expected


def test_a_lowest_point_of_shut_fingers_is_a_press() -> None:
    states = np.zeros((9, 15), np.float32)
    states[:, 0] = np.arange(9)
    states[:, 2] = [0.07, 0.05, 0.03, 0.05, 0.07, 0.066, 0.07, 0.02, 0.07]  # two presses, and a dip of 4 mm between them
    actions = np.ones((9, 7), np.float32)
    frames, kinds = keyframe(actions, states)[:, [0, 3]].astype(int).T.tolist()
    assert frames == [2, 2, 7, 7, 7, 7, 7, 8, 8]
    assert kinds == [PRESS] * 7 + [END] * 2
    states[:, 9] = 0.04  # with something between the fingers
    assert (keyframe(actions, states)[:, 3] == END).all()


def test_presses_and_gripper_changes_follow_one_another() -> None:
    states = np.zeros((8, 15), np.float32)
    states[:, 0] = np.arange(8)
    states[:, 2] = [0.07, 0.03, 0.07, 0.07, 0.07, 0.03, 0.07, 0.07]
    actions = np.ones((8, 7), np.float32)
    actions[3:, 6] = -1
    frames, kinds = keyframe(actions, states)[:, [0, 3]].astype(int).T.tolist()
    assert (frames[0], kinds[0]) == (1, PRESS)
    assert (frames[1], kinds[1]) == (3, OPEN)
    assert (frames[3], kinds[3]) == (5, PRESS)
