import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handsight.datasets_rb.keyframe import keyframe
from handsight.sensors.types import KeyframeKind

CLOSE, OPEN, END = KeyframeKind.CLOSE, KeyframeKind.OPEN, KeyframeKind.END


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
