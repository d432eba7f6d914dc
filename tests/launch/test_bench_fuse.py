"""The grid of the fuse benchmark: what is compared, and that its differences are computed on what they say."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handsight.launch import bench_fuse as verb
from handsight.launch.cells import slug
from handsight.launch.checkpoints import find
from handsight.launch.episodes import write_json
from handsight.launch.fuse_grid import ARMS, CONTROLS, HIDDEN, PARTIAL, PLAIN, SHIPPED, TASKS, WORDS, Arm, cells, decides, runs
from handsight.launch.fuse_table import outcomes, seeded_difference, selection, summary, table
from handsight.policies.weights import fingerprint
from handsight.sensors.errors import HandsightError

BEST = ARMS[0].name


def row(arm: str, seed: int, task: str, condition: str, successes: str) -> dict[str, Any]:
    """One episode in two of those that fail chose wrongly, the other has only reached."""
    failed = iter(range(len(successes)))
    wrong = "".join(str(int(letter == "0" and next(failed) % 2 == 0)) for letter in successes)
    outcome = {"successes": successes, "wrong": wrong, "reached": "1" * len(successes)}
    return {"arm": arm, "training_seed": seed, "task": task, "condition": condition, **outcome}


def grid(rate: dict[str, str], condition: str = PLAIN.name, seeds: int = 3) -> list[dict[str, Any]]:
    """Every task with the same outcomes, by arm."""
    return [row(arm, seed, task, condition, outcome) for arm, outcome in rate.items() for seed in range(seeds) for task in TASKS]


def test_deciding_arms_have_three_seeds_and_whole_seeds_come_first() -> None:
    order = list(runs())
    assert [seed for _, seed in order] == sorted(seed for _, seed in order)
    for arm in ("both losses", "all sensors without losses", "vision only"):
        assert [seed for found, seed in order if found.name == arm] == [0, 1, 2]


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_controls_are_asked_of_policies_with_both_losses(arm: Arm) -> None:
    conditions = {PLAIN, *CONTROLS} if arm in (ARMS[0], SHIPPED) else {PLAIN}
    assert {cell.condition for cell in cells(arm, 0)} == conditions


def test_the_shipped_policy_is_copied_and_what_others_played_is_not_kept(tmp_path: Path) -> None:
    """Its export goes beside the copy, and not into the package."""
    run = tmp_path / "zoo_fuse_shipped"
    verb._train(SHIPPED, 0, verb.FuseArguments(folder=str(tmp_path)))
    (run / "plain").mkdir()
    verb._train(SHIPPED, 0, verb.FuseArguments(folder=str(tmp_path)))
    assert (run / "plain").is_dir()
    assert fingerprint(run / "train") == fingerprint(find("zoo/fuse"))
    (run / "train" / "model.safetensors").write_bytes((find("zoo/bag_stiff") / "model.safetensors").read_bytes())
    verb._train(SHIPPED, 0, verb.FuseArguments(folder=str(tmp_path)))
    assert not (run / "plain").exists()
    assert fingerprint(run / "train") == fingerprint(find("zoo/fuse"))


def test_runs_start_from_the_base_or_from_its_way_there_and_some_learn_to_speak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = dict[str, tuple[int, list[str]]]()
    monkeypatch.setattr(
        verb, "train_once", lambda run, steps, given: trained.update({run.relative_to(tmp_path).as_posix(): (steps, given)})
    )
    remembered = dict[str, tuple[str, int]]()
    monkeypatch.setattr(
        verb, "remember", lambda path, given, out: remembered.update({out.relative_to(tmp_path).as_posix(): (path, len(given))})
    )
    arguments = verb.FuseArguments(folder=str(tmp_path))
    for arm in (ARMS[0], SHIPPED):
        verb._train(arm, 1, arguments)
    assert remembered == {"zoo_fuse_1/remembering": (str(tmp_path / "zoo_fuse_1" / "words"), 75)}
    assert verb._played(SHIPPED, 1, arguments) == tmp_path / "zoo_fuse_1" / "remembering"
    assert verb._played(ARMS[0], 1, arguments) == tmp_path / "both_losses_1" / "train"
    short = slug(SHIPPED.name) + "_1"
    assert {run: steps for run, (steps, _) in trained.items()} == {
        "both_losses_1/train": arguments.steps,
        "both_losses_1/words": arguments.word_steps,
        f"{short}/before": SHIPPED.before and SHIPPED.before.steps,
        f"{short}/train": SHIPPED.steps,
        f"{short}/words": arguments.word_steps,
    }
    base, words = tmp_path / "base" / "train", trained["both_losses_1/words"][1]
    assert f"--policy.path={base}" in trained["both_losses_1/train"][1]
    assert f"--policy.path={base / 'checkpoints' / '010000' / 'pretrained_model'}" in trained[f"{short}/before"][1]
    assert f"--policy.path={tmp_path / short / 'before'}" in trained[f"{short}/train"][1]
    assert f"--policy.path={tmp_path / 'both_losses_1' / 'train'}" in words
    assert set(WORDS) <= set(words)
    twice = {run for run, (_, options) in trained.items() if any("bag_color_feel:2.0" in option for option in options)}
    assert twice == {f"{short}/before", f"{short}/train", f"{short}/words"}
    heard = {run for run, (_, options) in trained.items() if any("button_sound:3.0" in option for option in options)}
    assert heard == {f"{short}/train", f"{short}/words"}


def test_difference_over_hidden_tasks_leaves_the_visible_task_out() -> None:
    rows = grid({BEST: "1111", "vision only": "0101"})
    for found in rows:
        if found["task"] not in HIDDEN:
            found["successes"] = "0000"
    assert summary(rows)[f"{BEST} minus vision only, hidden tasks"]["mean"] == pytest.approx(0.5)


def test_controls_are_told_apart_by_whether_their_sensor_decides() -> None:
    rows = grid({SHIPPED.name: "1" * 20}, seeds=1)
    for task in TASKS:
        rows.append(row(SHIPPED.name, 0, task, "touch zeroed", "0" * 20 if decides("touch", task) else "1" * 20))
    found = summary(rows)
    assert found["zoo/fuse minus touch zeroed, touch decides"]["mean"] == 1
    assert found["zoo/fuse minus touch zeroed, touch does not decide"]["mean"] == 0


def test_a_control_is_compared_with_the_training_seeds_that_have_it() -> None:
    """Seed 1 alone was played without touch, and its own success is what is lost."""
    rows = grid({BEST: "0000"}) + [row(BEST, 1, task, "touch zeroed", "0000") for task in TASKS]
    for found in rows:
        if found["training_seed"] == 1 and found["condition"] == PLAIN.name:
            found["successes"] = "1111"
    difference = summary(rows)[f"{BEST} minus touch zeroed, touch decides"]
    assert difference["mean"] == 1
    assert difference["training_seeds"] == [1, 1]


def test_a_choice_is_right_or_wrong_only_where_one_was_made() -> None:
    chosen = selection(grid({BEST: "1100"}, seeds=2), BEST, PLAIN.name, TASKS)
    assert chosen is not None
    assert (chosen.mean, chosen.n) == (pytest.approx(2 / 3), 3 * 2 * len(TASKS))


def test_prompts_are_compared_on_the_task_that_has_them() -> None:
    rows = [*grid({SHIPPED.name: "11"}, seeds=1), row(SHIPPED.name, 0, "bag_color_feel", "prompt V", "10")]
    found = summary(rows)
    assert found["zoo/fuse minus prompt V"]["mean"] == 0.5
    assert found["zoo/fuse minus prompt V, reach"]["mean"] == 0


def test_incomplete_seeds_do_not_count() -> None:
    rows = [row(BEST, seed, task, PLAIN.name, "1") for seed in (0, 1) for task in TASKS][:-1]
    found = outcomes(rows, BEST, PLAIN.name, TASKS)
    assert found is not None
    assert found.shape == (1, len(TASKS), 1)


def test_the_interval_covers_the_truth_as_often_as_it_says(rng: np.random.Generator) -> None:
    """Arms that are equally good, whose training seeds differ: an interval of episodes alone would exclude 0 far too often."""
    misses = 0
    for _ in range(60):
        rates = np.clip(0.5 + 0.1 * rng.standard_normal((2, 8, 1, 1)), 0, 1)
        first, second = (rng.random((8, 2, 50)) < rate for rate in rates)
        misses += seeded_difference(first.astype(float), second.astype(float), rng, draws=300).excludes_zero
    assert misses <= 9  # 5% of 60 are 3; a bootstrap over 8 seeds is a little narrow


def test_the_table_has_a_row_an_arm_and_says_how_many_seeds_it_had() -> None:
    rows = grid({BEST: "11"}) + grid({"vision only": "10"}, seeds=1)
    text = table(rows, summary(rows))
    assert f"| {BEST} | 3 | " in text
    assert "| vision only | 1 | 0.50" in text


def test_rows_of_runs_that_are_not_chosen_stay_unless_they_were_made_otherwise(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, rows = verb.FuseArguments(), grid({BEST: "11"})
    monkeypatch.setattr(verb, "RESULT", tmp_path / "fuse.json")
    assert verb.earlier_rows(arguments) == {}
    write_json(verb.RESULT, {"args": asdict(arguments), "rows": rows})
    assert list(verb.earlier_rows(replace(arguments, arms="vision only", jobs=1)).values()) == rows
    assert verb.earlier_rows(replace(arguments, steps=2 * arguments.steps)) == {}


def test_missing_recordings_and_unknown_names_are_one_line(tmp_path: Any) -> None:
    with pytest.raises(HandsightError, match="got none of bag_shape"):
        verb.main([f"--data={tmp_path}"])
    for task in (*TASKS, *PARTIAL):
        (tmp_path / task / "meta").mkdir(parents=True)
        (tmp_path / task / "meta" / "info.json").write_text("{}")
    with pytest.raises(HandsightError, match="expected --arms out of"):
        verb.main([f"--data={tmp_path}", "--arms=magic"])
