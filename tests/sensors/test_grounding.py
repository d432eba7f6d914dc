"""Which senses can truthfully describe a thing: the table of the seven combinations."""

from dataclasses import fields

import pytest

from handsight.sensors.grounding import COMBINATIONS, NOTHING, REVEALED_BY, Attributes, Modality, describable

V, T, A = Modality.VISION, Modality.TOUCH, Modality.AUDIO
BALL = Attributes(color="red", shape="sphere", size="small", hardness="soft", texture="rough", material="rubber")


def test_there_are_seven_combinations_by_their_letters() -> None:
    assert [combination.letters for combination in COMBINATIONS] == ["V", "T", "A", "VT", "VA", "TA", "VTA"]
    assert NOTHING.letters == ""


def test_every_attribute_is_revealed_by_some_sense() -> None:
    assert set(REVEALED_BY) == {field.name for field in fields(Attributes)}
    assert all(REVEALED_BY.values())


@pytest.mark.parametrize("evidence", [NOTHING, *COMBINATIONS])
def test_only_senses_that_met_the_thing_describe_it(evidence: Modality) -> None:
    table = describable(BALL, evidence)
    assert set(table) == set(COMBINATIONS)
    for combination, said in table.items():
        assert bool(said) == (combination | evidence == evidence), combination


@pytest.mark.parametrize(
    ("combination", "names"),
    [
        (V, {"color", "shape", "size"}),
        (T, {"shape", "size", "hardness", "texture"}),
        (A, {"material"}),
        (V | A, {"color", "shape", "size", "material"}),
        (V | T | A, {"color", "shape", "size", "hardness", "texture", "material"}),
    ],
)
def test_a_combination_says_what_its_senses_reveal(combination: Modality, names: set[str]) -> None:
    said = describable(BALL, V | T | A)[combination]
    assert set(said) == names
    assert all(said[name] == getattr(BALL, name) for name in names)


def test_a_sense_without_anything_to_say_describes_nothing() -> None:
    table = describable(Attributes(color="red"), V | T | A)
    assert table[V] == {"color": "red"}
    assert all(not said for combination, said in table.items() if combination != V)
