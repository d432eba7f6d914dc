"""`handsight train`: LeRobot's trainer on our reader. What it is given, what it leaves behind, and how it stops."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from handsight.launch import train
from handsight.sensors.errors import HandsightError

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))

SMALL = ["--policy.condition_width=16", "--policy.head_blocks=1", "--policy.token_width=16", "--policy.touch_history=[-2, 0]"]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fake_episodes import record

    return record(tmp_path_factory.mktemp("train") / "tiny", range(8), "png")


def arguments(dataset: Path, out: Path, *more: str) -> list[str]:
    return ["--policy.type=fuse", f"--dataset.root={dataset}", f"--output_dir={out}", "--batch_size=2", "--save_freq=2", *SMALL, *more]


def step_of_last(out: Path) -> int:
    state: dict[str, int] = json.loads((out / "checkpoints" / "last" / "training_state" / "training_step.json").read_text())
    return state["step"]


# -- options


def test_defaults_fill_only_what_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    given = ["--policy.type=fuse", "--dataset.root=some/where", "--num_workers=3"]
    added = train.complete(given)[len(given) :]
    assert {"--dataset.repo_id=local/where", "--policy.push_to_hub=false", "--wandb.mode=offline"} <= set(added)
    assert {"--dataset.video_backend=pyav", "--dataset.use_imagenet_stats=false"} <= set(added)
    assert not any(word.startswith("--num_workers") for word in added)
    assert ("--policy.device=cpu" in added) == (not torch.cuda.is_available())


def test_a_configuration_file_decides_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert train.complete(["--config_path=a.json", "--resume=true"]) == ["--config_path=a.json", "--resume=true"]


def test_words_become_options() -> None:
    assert train.normalise(["--a", "1", "--resume", "--b=2"]) == ["--a=1", "--resume=true", "--b=2"]
    with pytest.raises(HandsightError, match="expected --key=value, got 'resume'"):
        train.normalise(["resume"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy.type=fuse"], "expected --dataset.root"),
        (["--dataset.root=nowhere"], "expected --policy.type or --policy.path"),
        (["--dataset.root=nowhere", "--policy.type=fuse"], "meta/info.json in nowhere"),
        (["--policy.type=fuse", "--dataset.repo_id=a/b", "--output_dir=."], "add --resume=true"),
        (["--resume=true"], "expected --output_dir of the run to resume"),
        (["--resume=true", "--output_dir=."], "expected a checkpoint to resume from"),
        (["--policy.path=zoo/nothing", "--dataset.root=nowhere"], "shipped checkpoints"),
        (["--policy.type=fuse", "--dataset.repo_id=a/b", "--threads=0"], "--threads of at least 1"),
    ],
)
def test_misuse_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(HandsightError, match=re.escape(message)) as caught:
        train.main(words)
    assert "\n" not in str(caught.value)


# -- the seam


def test_the_policy_gets_only_the_frames_it_reads(dataset: Path) -> None:
    from lerobot.datasets import LeRobotDatasetMetadata

    from handsight.launch.training_data import delta_timestamps
    from handsight.policies.fuse.configuration_fuse import FuseConfig

    meta = LeRobotDatasetMetadata("local/tiny", root=dataset)
    config = FuseConfig(touch_history=(-2, 0), chunk_size=4, n_action_steps=4)
    windows = delta_timestamps(config, meta)
    assert windows is not None
    assert windows["action"] == [0.0, 0.05, 0.1, 0.15]
    assert windows["observation.touch"] == [-0.1, 0.0]
    assert len(windows["observation.audio"]) == 20
    assert windows.keys() == {"action", "observation.touch", "observation.audio"}


@pytest.mark.parametrize(("chosen", "share"), [(None, 0.25), ([0, 1, 3, 5], 0.5)])
def test_held_out_episodes_are_lerobots(dataset: Path, chosen: list[int] | None, share: float) -> None:
    from lerobot.configs.default import DatasetConfig
    from lerobot.configs.train import TrainPipelineConfig
    from lerobot.datasets import factory

    from handsight.launch.training_data import make_train_eval_datasets
    from handsight.policies.fuse.configuration_fuse import FuseConfig

    options = DatasetConfig(
        "local/tiny", root=str(dataset), episodes=chosen, eval_split=share, video_backend="pyav", use_imagenet_stats=False
    )
    config = TrainPipelineConfig(dataset=options, policy=FuseConfig(device="cpu"))
    ours, theirs = make_train_eval_datasets(config), factory.make_train_eval_datasets(config)
    assert [part.episodes for part in ours] == [part.episodes for part in theirs]
    assert [len(part) for part in ours] == [len(part) for part in theirs]


def test_deviations_keep_their_floors_whatever_reads_the_statistics(dataset: Path) -> None:
    """LeRobot hands the dataset's statistics to the normaliser of a policy that is finetuned."""
    from lerobot.configs.default import DatasetConfig
    from lerobot.configs.train import TrainPipelineConfig

    from handsight.launch.training_data import make_train_eval_datasets
    from handsight.policies.fuse.configuration_fuse import FuseConfig

    options = DatasetConfig("local/tiny", root=str(dataset), video_backend="pyav", use_imagenet_stats=False)
    policy = FuseConfig(device="cpu", std_floor=7.0, state_std_floor=1e-6)
    data, _ = make_train_eval_datasets(TrainPipelineConfig(dataset=options, policy=policy))
    assert (data.meta.stats["action"]["std"] == 7.0).all()
    assert 0.1 < data.meta.stats["observation.state"]["std"].min() < 7.0


# -- runs


@pytest.mark.slow
def test_train_resume_and_resume_with_wandb(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    out = tmp_path / "run"
    assert train.main(arguments(dataset, out, "--steps=3", "--dataset.eval_split=0.25", "--eval_steps=2")) == 0
    assert step_of_last(out) == 3
    assert f"handsight rollout --policy.path={out}" in capsys.readouterr().out
    first_cost = train.Cost.of(out)
    assert first_cost is not None
    assert first_cost.cpu_s > 0
    assert train.main(["--resume=true", f"--output_dir={out}", "--steps=4"]) == 0
    assert step_of_last(out) == 4
    both = train.Cost.of(out)
    assert both is not None
    assert both.cpu_s > first_cost.cpu_s
    assert both.wall_s > first_cost.wall_s
    assert train.main(["--resume=true", f"--output_dir={out}", "--steps=5", "--wandb.enable=true", "--wandb.disable_artifact=true"]) == 0
    assert step_of_last(out) == 5
    first = {path.name for path in (out / "wandb").glob("offline-run-*/*.wandb")}
    assert len(first) == 1
    assert train.main(["--resume=true", f"--output_dir={out}", "--steps=6"]) == 0
    assert {path.name for path in (out / "wandb").glob("offline-run-*/*.wandb")} == first

    from handsight.launch.policies import Overrides, load

    cast = load(str(out), Overrides(device="cpu", n_action_steps=2, num_inference_steps=1))
    assert cast.image_size == 32


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_resume(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lerobot.common import train_utils

    save, saves = train_utils.save_training_state, []

    def interrupted_while_saving(*words: Any, **options: Any) -> None:
        saves.append(1)
        if len(saves) == 2:
            raise KeyboardInterrupt
        save(*words, **options)

    monkeypatch.setattr(train_utils, "save_training_state", interrupted_while_saving)
    out = tmp_path / "run"
    assert train.main(arguments(dataset, out, "--steps=6")) == 130
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["000002", "last"]
    assert f"resume from step 2 with: handsight train --resume=true --output_dir={out}" in capsys.readouterr().err
    assert train.main(["--resume=true", f"--output_dir={out}"]) == 0
    assert step_of_last(out) == 6


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from handsight.policies.fuse.modeling_fuse import FusePolicy

    forward, calls = FusePolicy.forward, []

    def poisoned(self: FusePolicy, batch: dict[str, Any]) -> Any:
        calls.append(1)
        loss, metrics = forward(self, batch)
        return (loss * float("nan") if len(calls) == 3 else loss), metrics

    monkeypatch.setattr(FusePolicy, "forward", poisoned)
    with pytest.raises(HandsightError, match=r"got NaN or infinity at step 3 .* resume from step 2") as caught:
        train.main(arguments(dataset, tmp_path / "run", "--steps=6"))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_help_and_unknown_options(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--help"]) == 0
    assert "--dataset.root" in capsys.readouterr().out
    for wrong, message in (
        ("--stepz=3", "--stepz=3"),
        ("--steps=many", "'many' into an int"),
        ("--policy.n_action_steps=99", "chunk_size = 16"),
    ):
        with pytest.raises(HandsightError, match=message) as caught:
            train.main(arguments(dataset, tmp_path / "run", wrong))
        assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_stock_lerobot_train_knows_our_policy(dataset: Path, tmp_path: Path) -> None:
    """LeRobot's own command and reader, our policy found as a plugin."""
    out = tmp_path / "run"
    command = [str(Path(sys.executable).with_name("lerobot-train")), *arguments(dataset, out, "--steps=20", "--num_workers=0")]
    options = ["--dataset.repo_id=local/tiny", "--policy.device=cpu", "--policy.push_to_hub=false", "--dataset.video_backend=pyav"]
    subprocess.run([*command, *options], check=True, cwd=tmp_path)
    assert step_of_last(out) == 20
