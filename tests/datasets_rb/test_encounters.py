"""Which frames are encounters, and how often they are drawn."""

import numpy as np
import pytest

from handsight.datasets_rb.encounters import FIRST, LAST, QUIET, encounters
from handsight.sensors.errors import HandsightError
from handsight.sensors.referent import HEARD, NEVER, TOUCHED
from handsight.sensors.types import GROUNDING_SIZE


def labels(touched: list[int], heard: list[int] | None = None) -> np.ndarray:
    """Grounding labels that differ in when the referent was last touched and heard."""
    rows = np.full((len(touched), GROUNDING_SIZE), NEVER, np.int16)
    rows[:, TOUCHED] = touched
    if heard is not None:
        rows[:, HEARD] = heard
    return rows


def test_an_encounter_follows_the_beginning_of_a_touch() -> None:
    touched = [NEVER] * 5 + [0] * 30
    assert np.flatnonzero(encounters(labels(touched), np.array([0]))).tolist() == list(range(5 + FIRST, 5 + LAST[TOUCHED] + 1))


def test_a_short_break_is_no_new_beginning() -> None:
    short = [0] * 20 + list(range(1, QUIET)) + [0] * 20
    assert not encounters(labels(short), np.array([0]))[20:].any()
    long = [0] * 20 + list(range(1, QUIET + 1)) + [0] * 20
    assert np.flatnonzero(encounters(labels(long), np.array([0]))[20:]).tolist() == list(range(QUIET + FIRST, QUIET + LAST[TOUCHED] + 1))


def test_sound_counts_as_well_and_episodes_are_apart() -> None:
    heard = [NEVER] * 3 + [0, 1] + [NEVER] * 30  # a sound at the end of the first episode of five frames
    found = encounters(labels([NEVER] * 35, heard), np.array([0, 5]))
    assert not found.any()
    assert encounters(labels([NEVER] * 35, heard), np.array([0])).sum() == LAST[HEARD] - FIRST + 1


def test_an_episode_that_begins_in_touch_is_an_encounter_of_its_own() -> None:
    found = encounters(labels([0] * 40), np.array([0, 20]))
    assert found[20 + FIRST]
    assert not found[20 : 20 + FIRST].any()


def test_other_rows_are_refused() -> None:
    with pytest.raises(HandsightError, match="grounding labels"):
        encounters(np.zeros((3, 4), np.int16), np.array([0]))
