"""`handsight train` and LeRobot's own command on fuse_act, fuse_diffusion and fuse_smolvla: a few steps; what they leave behind plays."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from handsight.launch import train

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))

SENSORS = ["--policy.touch_history=[-2, 0]", "--policy.audio_history=[-1, 0]", "--policy.memory_bank=8"]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fake_episodes import record

    return record(tmp_path_factory.mktemp("recipes") / "tiny", range(4), "png")


def arguments(host: str, dataset: Path, out: Path, *more: str) -> list[str]:
    """Every option of the tiny policies as a word of the command line."""
    import tiny_policies
    import tiny_smolvla

    if host == "diffusion":
        pytest.importorskip("diffusers", reason="needs the extra diffusion")
    options: dict[str, Any] = dict(tiny_policies.OPTIONS.get(host, tiny_smolvla.OPTIONS))
    if host == "smolvla":
        options["vlm_model_name"] = str(tiny_smolvla.save(out.parent / "vlm"))
    words = [f"--policy.{name}={_spelled(value)}" for name, value in options.items()]
    run = [f"--policy.type=fuse_{host}", f"--dataset.root={dataset}", f"--output_dir={out}", "--batch_size=2", "--save_freq=100"]
    return [*run, *words, *SENSORS, *more]


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.slow
@pytest.mark.parametrize("host", ["act", "diffusion", "smolvla"])
def test_trains_resumes_and_plays(host: str, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train.main(arguments(host, dataset, out, "--steps=3")) == 0
    assert train.main(["--resume=true", f"--output_dir={out}", "--steps=4"]) == 0

    from handsight.launch.policies import Overrides, load

    cast = load(str(out), Overrides(device="cpu", n_action_steps=2))
    assert cast.image_size == 32


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_stock_lerobot_train_knows_them(dataset: Path, tmp_path: Path) -> None:
    """LeRobot's own command and reader, which gives every key the union of all histories."""
    out = tmp_path / "run"
    command = [str(Path(sys.executable).with_name("lerobot-train")), *arguments("act", dataset, out, "--steps=3", "--num_workers=0")]
    options = ["--dataset.repo_id=local/tiny", "--policy.device=cpu", "--dataset.video_backend=pyav"]
    subprocess.run([*command, *options], check=True, cwd=tmp_path)
    state = json.loads((out / "checkpoints" / "last" / "training_state" / "training_step.json").read_text())
    assert state["step"] == 3
