"""Stages of a chained task, and what the benchmark asks for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handsight.launch import bench_compose as verb
from handsight.launch.bench_compose import CELLS, ROOTS, notes, stages, table
from handsight.launch.metrics import EpisodeResult
from handsight.sensors.errors import HandsightError


def episode(seed: int, *, stage: str, said: list[str], success: bool = False) -> EpisodeResult:
    return EpisodeResult(seed, "words", success, success, False, 100, None, said, stage)


def test_a_stage_counts_only_after_those_before_it() -> None:
    true, false = ["step 20, A: it makes a low tone (true)"], ["step 20, A: it makes a high tone (false)", "step 60, A: that was (true)"]
    episodes = [
        episode(0, stage="listen", said=[]),
        episode(1, stage="listen", said=true),  # another button sounded
        episode(2, stage="press", said=[]),
        episode(3, stage="press", said=false),
        episode(4, stage="press", said=true),
        episode(5, stage="press", said=true, success=True),
    ]
    found = stages(episodes)
    assert found["sample pressed"] == [False, False, True, True, True, True]
    assert found["and described"] == [False, False, False, False, True, True]
    assert found["and its like pressed"] == [False] * 5 + [True]


def test_every_task_has_cells_and_held_out_triples_are_played_with_and_without_sound() -> None:
    assert {cell.task for cell in CELLS} == set(ROOTS)
    held_out = [cell for cell in CELLS if cell.split == "new_combination"]
    assert {(cell.zero, cell.notes) for cell in held_out} == {("", True), ("audio", True), ("", False)}


def test_notes_are_counted_one_by_one() -> None:
    said = ["step 20, V: it looks red (true)", "step 60, V: it looks blue (false)"]
    episodes = [episode(0, stage="", said=said), episode(1, stage="", said=said[:1])]
    assert notes(episodes) == {"true notes": [True, False, True]}
    assert notes([episode(0, stage="", said=[])]) == {}


def test_success_is_told_apart_by_the_note_before_that_of_what_was_grasped() -> None:
    true, false, grasped = "step 20, V: it looks red (true)", "step 60, V: it looks blue (false)", "step 90, V: it looks blue (true)"
    episodes = [
        episode(0, stage="", said=[false, true, grasped], success=True),
        replace(episode(1, stage="", said=[true, false, grasped]), wrong_object=True),
        episode(2, stage="", said=[true, false]),  # nothing was grasped
    ]
    found = notes(episodes)
    assert found["success where the button's was true"] == [True]
    assert found["success where the button's was false"] == [False]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(HandsightError, match="got nowhere, which does not exist"):
        verb.main([f"--data={tmp_path}", "--base=nowhere"])
    with pytest.raises(HandsightError, match=r"got no .*grasp_by_button"):
        verb.main([f"--data={tmp_path}", "--base=zoo/bag_stiff"])
    with pytest.raises(HandsightError, match="expected --tasks out of grasp_by_button"):
        verb.main(["--tasks=magic"])


def test_the_table_tells_the_stages_apart() -> None:
    rate: dict[str, Any] = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 100}
    row = {"task": "t", "cell": "c", "training_seed": 0, "success": rate, "wrong_object": rate, "stages": {"sample pressed": rate}}
    row["training_cpu_minutes"] = 33.6
    assert "| t | c | 0 | 34 | 0.50 [0.40, 0.60] | 0.50 [0.40, 0.60] | sample pressed 0.50 [0.40, 0.60] |" in table([row])
