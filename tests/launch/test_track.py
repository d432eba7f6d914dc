"""Tracking without a network: a rollout becomes one run with a table and videos, and continuing the rollout continues the run."""

from pathlib import Path

import pytest

from handsight.launch import rollout


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "fakes"))
    monkeypatch.setenv("WANDB_MODE", "offline")


def run(out: Path, episodes: int) -> int:
    arguments = ["--policy.path=expert", "--env.task=fake/reach", "--env.maker=fake_env:make", "--workers=0", "--videos=1", "--wandb"]
    return rollout.main([*arguments, f"--episodes={episodes}", f"--out={out}"])


def test_a_continued_rollout_continues_its_run(tmp_path: Path) -> None:
    assert run(tmp_path, episodes=2) == 0
    identifier = (tmp_path / "wandb_run_id.txt").read_text()
    assert run(tmp_path, episodes=3) == 0
    assert (tmp_path / "wandb_run_id.txt").read_text() == identifier
    stores = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert stores
    assert {store.name for store in stores} == {f"run-{identifier}.wandb"}
    assert list((tmp_path / "wandb").glob("offline-run-*/files/media/videos/**/*.mp4"))
    assert list((tmp_path / "wandb").glob("offline-run-*/files/media/table/episodes*.table.json"))
