"""Rollouts: a result depends on its seed alone, nothing finished is lost, and every misuse is one line that says what to do."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from handsight.launch import rollout as verb
from handsight.launch.episodes import read_episodes
from handsight.sensors.errors import HandsightError

ENV = ["--env.maker=fake_env:make", "--videos=0"]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "fakes"))


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes each tiny policy once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "fakes"))
        import tiny_policies
    made: dict[Any, Path] = {}

    def make(kind: str, **options: Any) -> Path:
        key = (kind, tuple(sorted(options.items())))
        if key not in made:
            made[key] = tiny_policies.save(kind, tmp_path_factory.mktemp(kind), **options)
        return made[key]

    return make


def run(out: Path, policy: Path | str, *more: str, task: str = "fake/digest", episodes: int = 7) -> dict[str, Any]:
    code = verb.main([f"--policy.path={policy}", f"--env.task={task}", f"--episodes={episodes}", f"--out={out}", *ENV, *more])
    assert code == 0
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return metrics


@pytest.mark.parametrize(
    ("kind", "options"),
    [("act", {}), ("act", {"temporal_ensemble_coeff": 0.01, "n_action_steps": 1}), ("tdmpc", {"image_size": 64}), ("diffusion", {})],
)
def test_results_do_not_depend_on_how_episodes_are_spread(checkpoints: Any, tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    """The fake task turns every bit of every action into the outcome, so equal outcomes mean equal actions."""
    if kind == "diffusion":
        pytest.importorskip("diffusers")
    policy = checkpoints(kind, **options)
    runs = []
    for batch, workers in ((1, 1), (2, 2), (8, 2)):
        out = tmp_path / f"{batch}_{workers}"
        run(out, policy, f"--batch_size={batch}", f"--workers={workers}", episodes=9)
        runs.append(read_episodes(out))
    assert all(results == runs[0] for results in runs[1:])
    assert len({(result.success, result.reached, result.wrong_object) for result in runs[0]}) > 1


@pytest.mark.parametrize("name", ["random", "constant", "expert"])
def test_scripted_actors_do_not_depend_on_the_spread_either(tmp_path: Path, name: str) -> None:
    run(tmp_path / "a", name, "--batch_size=1", "--workers=0", task="fake/reach")
    run(tmp_path / "b", name, "--batch_size=3", "--workers=2", task="fake/reach")
    assert read_episodes(tmp_path / "a") == read_episodes(tmp_path / "b")


def test_metrics_and_files(tmp_path: Path) -> None:
    metrics = run(tmp_path, "expert", "--videos=2", "--workers=0", task="fake/reach", episodes=5)
    assert metrics["success"] == {"mean": 1.0, "low": pytest.approx(0.5655, abs=1e-4), "high": 1.0, "n": 5}
    assert metrics["seeds"] == [1000, 1001, 1002, 1003, 1004]
    assert metrics["policy"]["fingerprint"] == "expert"
    assert {"reach", "wrong_object", "seconds", "steps_per_second", "versions", "args", "peak_memory_mb"} <= metrics.keys()
    films = [f"seed_{seed}{kind}" for seed in (1000, 1001) for kind in (".mp4", ".npz")]
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == films
    assert (tmp_path / "report.html").read_text().count("<video") == 2


def test_an_interrupted_rollout_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "whole", "random", episodes=9)
    played: list[int] = []
    add = verb.ResultFolder.add

    def interrupt_after_four(self: verb.ResultFolder, result: Any) -> None:
        add(self, result)
        played.append(result.seed)
        if len(played) == 4:
            raise KeyboardInterrupt

    arguments = ["--policy.path=random", "--env.task=fake/digest", "--episodes=9", f"--out={tmp_path / 'cut'}", *ENV]
    monkeypatch.setattr(verb.ResultFolder, "add", interrupt_after_four)
    assert verb.main(arguments) == 130
    assert f"--out={tmp_path / 'cut'}" in capsys.readouterr().err
    assert len(read_episodes(tmp_path / "cut")) == 4
    with (tmp_path / "cut" / "episodes.jsonl").open("a") as file:
        file.write('{"seed": 1, "instr')  # as a crash in the middle of writing leaves it
    assert verb.main(arguments) == 0
    assert len(played) == 9
    assert sorted(played) == list(range(1000, 1009))
    assert read_episodes(tmp_path / "cut") == read_episodes(tmp_path / "whole")


def test_more_episodes_are_added_to_the_finished_ones(tmp_path: Path) -> None:
    run(tmp_path, "random", episodes=3)
    assert run(tmp_path, "random", episodes=5)["resumed_episodes"] == 3
    assert run(tmp_path, "random", episodes=2)["success"]["n"] == 2


def test_other_arguments_are_refused_unless_overwritten(tmp_path: Path) -> None:
    run(tmp_path, "random")
    with pytest.raises(HandsightError, match=r"seed: 1000 -> 7.*--overwrite"):
        run(tmp_path, "random", "--seed=7")
    assert run(tmp_path, "random", "--seed=7", "--overwrite")["seeds"][0] == 7


def test_zeroed_sensors_are_zero_for_policy_and_expert(checkpoints: Any, tmp_path: Path) -> None:
    policy = checkpoints("act")
    seeing = run(tmp_path / "seeing", policy, episodes=12)
    blind = run(tmp_path / "blind", policy, "--sensors.zero=front,state", episodes=12)
    deaf = run(tmp_path / "deaf", policy, "--sensors.zero=touch,audio", episodes=12)  # which this policy does not use
    assert blind["outcomes"] != seeing["outcomes"]
    assert deaf["outcomes"] == seeing["outcomes"]


def test_swapped_sensors_are_part_of_what_a_folder_is(tmp_path: Path) -> None:
    run(tmp_path, "random", "--sensors.swap=touch", episodes=1)
    assert json.loads((tmp_path / "run.json").read_text())["swapped"] == ["TOUCH"]
    with pytest.raises(HandsightError, match="swapped"):
        run(tmp_path, "random", episodes=1)
    with pytest.raises(HandsightError, match="got touch in both"):
        run(tmp_path / "both", "random", "--sensors.swap=touch", "--sensors.zero=front,touch", episodes=1)


def test_notes_that_are_left_out_are_part_of_what_a_folder_is(tmp_path: Path) -> None:
    run(tmp_path, "random", "--notes=false", episodes=1)
    assert json.loads((tmp_path / "run.json").read_text())["notes"] is False
    with pytest.raises(HandsightError, match="notes"):
        run(tmp_path, "random", episodes=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env.task=fake/reach"], "expected --policy.path"),
        (["--policy.path=random"], "expected --env.task"),
        (["--policy.path=random", "--env.task=fake/reach", "--episodes=0"], "--episodes of at least 1"),
        (["--policy.path=random", "--env.task=fake/reach", "--sensors.zero=smell"], "among front,wrist,state,touch,audio, got smell"),
        (["--policy.path=random", "--env.task=fake/reach", "--sensors.zero=wrist"], "sensors to zero"),
        (["--policy.path=random", "--env.task=fake/raise"], "the fake arm fell off"),
        (["--policy.path=/no/such/folder", "--env.task=fake/reach"], "which does not exist; check --policy.path"),
        (["--policy.path=zoo/nothing", "--env.task=fake/reach"], "expected one of the shipped checkpoints"),
        (["--policy.path=nobody/nothing", "--env.task=fake/reach"], "check the spelling, the network and HF_HUB_OFFLINE"),
    ],
)
def test_misuse_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(HandsightError, match=message) as caught:
        verb.main([*arguments, *ENV, f"--out={tmp_path}"])
    assert "\n" not in str(caught.value)


def damage(folder: Path, what: str) -> None:
    weights, config = folder / "model.safetensors", folder / "config.json"
    match what:
        case "no config":
            config.unlink()
        case "no weights":
            weights.unlink()
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-1000])
        case "no processor":
            (folder / "policy_preprocessor.json").unlink()
        case "unknown type":
            config.write_text(config.read_text().replace('"act"', '"telepathy"'))
        case "unknown field":
            config.write_text(json.dumps(json.loads(config.read_text()) | {"mood": 1}))
        case "nan":
            from safetensors.torch import load_file, save_file

            save_file({name: torch.full_like(tensor, np.nan) for name, tensor in load_file(weights).items()}, weights)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no config", "expected a checkpoint folder with config.json"),
        ("no weights", "the checkpoint is incomplete"),
        ("truncated", "truncated or damaged"),
        ("no processor", "expected policy_preprocessor.json"),
        ("unknown type", "'telepathy'.*not registered"),
        ("unknown field", "mood"),
        ("nan", "expected finite actions, got .* in the episode with seed 100[01] at step 0"),
    ],
)
def test_a_bad_checkpoint_is_one_line(checkpoints: Any, tmp_path: Path, what: str, message: str) -> None:
    folder = tmp_path / "policy"
    shutil.copytree(checkpoints("act"), folder)
    damage(folder, what)
    with pytest.raises(HandsightError, match=message) as caught:
        run(tmp_path / "out", folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        ({"sensors": ("smell",)}, [], "expected an environment with observation.smell"),
        ({"image_size": 64}, ["--env.image_size=32"], "try --env.image_size=64"),
        ({}, ["--num_inference_steps=3"], "got --num_inference_steps; leave it out"),
        ({}, ["--n_action_steps=100"], "n_action_steps"),
    ],
)
def test_what_does_not_fit_the_checkpoint_is_one_line(
    checkpoints: Any, tmp_path: Path, options: dict[str, Any], more: list[str], message: str
) -> None:
    with pytest.raises(HandsightError, match=message) as caught:
        run(tmp_path, checkpoints("act", **options), *more)
    assert "\n" not in str(caught.value)


def test_images_come_in_the_size_that_the_policy_was_trained_on(checkpoints: Any, tmp_path: Path) -> None:
    run(tmp_path, checkpoints("act", image_size=64, sensors=("touch", "audio")), episodes=1)


def test_a_training_output_folder_is_enough(checkpoints: Any, tmp_path: Path) -> None:
    shutil.copytree(checkpoints("act"), tmp_path / "train" / "checkpoints" / "last" / "pretrained_model")
    assert run(tmp_path / "out", tmp_path / "train", episodes=1)["success"]["n"] == 1
