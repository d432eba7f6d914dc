"""Labels survive the trip through ten numbers, and a sense speaks only while its window still shows the referent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import COMBINATIONS, VALUES, Attributes, Modality, describable
from handsight.sensors.referent import NEVER, SHOWN, Referent, require_rows, speakable
from handsight.sensors.types import GROUNDING_SIZE

attributes = st.builds(Attributes, **{name: st.sampled_from(("", *values)) for name, values in VALUES.items()})
ages = st.integers(NEVER, 60)
referents = st.builds(Referent, attributes, ages, ages, st.booleans())


@given(referents)
def test_a_row_says_everything(referent: Referent) -> None:
    row = referent.row()
    assert (row.shape, row.dtype) == ((GROUNDING_SIZE,), np.int16)
    assert Referent.of(row) == Referent.of(row.astype(np.int64)) == referent


def test_without_a_referent_nothing_may_speak() -> None:
    row = Referent().row()
    np.testing.assert_array_equal(row, [NEVER] * 9 + [0])
    assert not speakable(row[None], 1000, 1000).any()


@given(st.lists(referents, min_size=1, max_size=8), st.integers(1, 50), st.integers(1, 50))
def test_many_rows_agree_with_the_table_of_one_thing(referents: list[Referent], touch_window: int, audio_window: int) -> None:
    allowed = speakable(np.stack([referent.row() for referent in referents]), touch_window, audio_window)
    for referent, row in zip(referents, allowed, strict=True):
        table = describable(referent.attributes, referent.evidence(touch_window, audio_window))
        assert [bool(table[combination]) for combination in COMBINATIONS] == row.tolist()


@pytest.mark.parametrize(("window", "speaks"), [(3, False), (4, True)])
def test_a_window_ends_with_the_frame_that_it_still_holds(window: int, speaks: bool) -> None:
    """Touched three steps ago: the oldest of four frames shows it, none of three does."""
    row = Referent(Attributes(hardness="soft", sound="low tone"), since_touched=3, since_heard=3).row()[None]
    assert speakable(row, window, 1)[0].tolist() == [False, speaks, *[False] * 5]
    assert speakable(row, 1, window)[0].tolist() == [False, False, speaks, *[False] * 4]


@pytest.mark.parametrize("met", ["since_touched", "since_heard"])
def test_vision_speaks_while_the_hand_is_still_there(met: str) -> None:
    def sees(age: int, *, visible: bool = True) -> bool:
        referent = Referent(Attributes(color="red"), **{met: age}, visible=visible)
        assert speakable(referent.row()[None], 100, 100)[0].any() == (referent.evidence(100, 100) & Modality.VISION == Modality.VISION)
        return bool(speakable(referent.row()[None], 100, 100)[0][COMBINATIONS.index(Modality.VISION)])

    assert [sees(age) for age in (NEVER, 0, SHOWN - 1, SHOWN)] == [False, True, True, False]
    assert not sees(0, visible=False)


def test_long_ago_stays_long_ago() -> None:
    assert Referent.of(Referent(since_touched=100_000).row()).since_touched == np.iinfo(np.int16).max


def test_unlisted_values_and_wrong_rows_are_one_line() -> None:
    with pytest.raises(HandsightError, match=r"color to be one of red, .* got 'mauve'"):
        Referent(Attributes(color="mauve")).row()
    for wrong in (np.zeros(9, np.int16), np.zeros((2, GROUNDING_SIZE), np.float32)):
        with pytest.raises(HandsightError, match="expected grounding labels"):
            require_rows(wrong)
