"""The nine-slot table: the files, what may be drawn, and how often (chi-square)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from handsight.datasets_rb.language import DRAWN, REPHRASINGS, SIMPLE, SLOT_OF, SLOTS, LanguageTable, draw_slots
from handsight.sensors.errors import HandsightError

FROG = "grab the green frog"
TEXTS = (FROG, "", "grab what looks green", "grab what feels soft", "", "grab the soft green one", "", "", "")
VALID = (True, False, True, True, False, True, False, False, False)
OTHERS = {text: tuple(f"{text}, in other words {i}" for i in range(REPHRASINGS)) for text in TEXTS if text}
TABLE = LanguageTable({FROG: TEXTS}, {FROG: VALID}, OTHERS)
MANY = 40_000


def test_slots_are_the_public_codes() -> None:
    assert {combination.letters: slot for combination, slot in SLOT_OF.items()} == {
        "V": 2, "T": 3, "A": 4, "VT": 5, "VA": 6, "TA": 7, "VTA": 8
    }  # fmt: skip


words = st.text(st.characters(exclude_characters="|", exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(st.dictionaries(words, st.tuples(st.lists(words, min_size=7, max_size=7), st.integers(0, 511)), min_size=1, max_size=3))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, book: dict[str, tuple[list[str], int]]) -> None:
    table = LanguageTable(
        {simple: (simple, "", *texts) for simple, (texts, _) in book.items()},
        {simple: tuple(bool(bits >> slot & 1) for slot in range(SLOTS)) for simple, (_, bits) in book.items()},
        {simple: (simple,) * REPHRASINGS for simple in book},
    )
    folder = tmp_path_factory.mktemp("table")
    table.write(folder / "modal.json", folder / "rephrasings.json")
    assert LanguageTable.read(folder / "modal.json", folder / "rephrasings.json") == table


def test_files_are_the_public_codes(tmp_path: Path) -> None:
    TABLE.write(tmp_path / "modal.json", tmp_path / "rephrasings.json")
    book = json.loads((tmp_path / "modal.json").read_text())
    assert book["rephrase"][FROG] == "grab the green frog||grab what looks green|grab what feels soft||grab the soft green one|||"
    assert book["valid"][FROG] == 0b101101
    assert json.loads((tmp_path / "rephrasings.json").read_text())[FROG].count("|") == 19


def test_half_of_the_texts_are_rephrased_and_all_rephrasings_are_alike(rng: np.random.Generator) -> None:
    drawn = TABLE.sample([FROG] * MANY, rng)
    assert {texts[1] for texts in drawn} == {""}
    for slot in (0, 2, 3, 5):
        options = (TEXTS[slot], *OTHERS[TEXTS[slot]])
        counts = np.array([sum(texts[slot] == option for texts in drawn) for option in options])
        assert chisquare(counts, MANY * np.array([0.5, *[0.5 / REPHRASINGS] * REPHRASINGS])).pvalue > 1e-3
    joint = np.array([(texts[0] != TEXTS[0]) + 2 * (texts[2] != TEXTS[2]) for texts in drawn])
    assert chisquare(np.bincount(joint)).pvalue > 1e-3  # slots are independent


@pytest.mark.parametrize(("respect", "expected"), [(True, (0, 2, 3, 5)), (False, DRAWN)])
def test_instructions_are_drawn_uniformly_from_what_is_allowed(respect: bool, expected: tuple[int, ...], rng: np.random.Generator) -> None:
    drawn = draw_slots(TABLE.validity([FROG] * MANY), rng, respect_validity=respect)
    counts = np.bincount(drawn, minlength=SLOTS)
    assert set(np.flatnonzero(counts)) == set(expected)
    assert chisquare(counts[list(expected)]).pvalue > 1e-3


def test_the_simple_instruction_is_left_where_nothing_is_valid(rng: np.random.Generator) -> None:
    assert (draw_slots(np.zeros((100, SLOTS), bool), rng) == SIMPLE).all()


def test_the_same_seed_draws_the_same() -> None:
    first, second = (TABLE.sample([FROG] * 50, np.random.default_rng(5)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("modal", "others", "message"),
    [
        ({"rephrase": {}}, {}, "an entry 'valid'"),
        ({"rephrase": {}, "valid": {}, "more": {}}, {}, "only the entries rephrase, valid"),
        ({"rephrase": {FROG: "a||b"}, "valid": {FROG: 1}}, {}, "a text like"),
        ({"rephrase": {FROG: "a|b" + "|" * 7}, "valid": {FROG: 1}}, {}, "a text like"),
        ({"rephrase": {FROG: "a" + "|" * 8}, "valid": {FROG: 512}}, {}, "a number from 0 to 511"),
        ({"rephrase": {FROG: "a" + "|" * 8}, "valid": {FROG: True}}, {}, "of type integer"),
        ({"rephrase": {FROG: "a" + "|" * 8}, "valid": {}}, {}, "the same instructions"),
        ({"rephrase": {FROG: "a" + "|" * 8}, "valid": {FROG: 8}}, {}, "none in slot 3"),
        ({"rephrase": {}, "valid": {}}, {"a": "only|two"}, "a text like"),
        ({"rephrase": {}, "valid": {}}, ["a"], "of type object"),
    ],
)
def test_wrong_files_are_one_line(modal: Any, others: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "modal.json").write_text(json.dumps(modal))
    (tmp_path / "rephrasings.json").write_text(json.dumps(others))
    with pytest.raises(HandsightError, match=message) as caught:
        LanguageTable.read(tmp_path / "modal.json", tmp_path / "rephrasings.json")
    assert "\n" not in str(caught.value)


def test_missing_and_broken_files_and_unknown_instructions_are_one_line(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(HandsightError, match="no such file"):
        LanguageTable.read(tmp_path / "none.json", tmp_path / "none.json")
    with pytest.raises(HandsightError, match="expected JSON"):
        LanguageTable.read(tmp_path / "broken.json", tmp_path / "broken.json")
    with pytest.raises(HandsightError, match="got 'fly'"):
        TABLE.sample(["fly"], rng)
    with pytest.raises(HandsightError, match="got 'fly'"):
        TABLE.validity(["fly"])
