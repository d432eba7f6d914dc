"""Weights & Biases: the only file that imports it. WANDB_MODE=offline works; `wandb sync` uploads such runs later."""

import os
from pathlib import Path
from typing import Any, Final

import wandb
from wandb.util import generate_id

from handsight.launch.episodes import METRICS_FILE, RUN_FILE, read_episodes, read_json, write_text
from handsight.sensors.errors import HandsightError

PROJECT: Final = "handsight"
_ID_FILE: Final = "wandb_run_id.txt"
_COLUMNS: Final = ("seed", "instruction", "outcome", "success", "reached", "wrong_object", "steps", "video")


def log_rollout(folder: Path) -> str:
    """Log a finished rollout: one table row per episode with its video, and the rates as the run's summary.

    The run's id is kept in the folder, so that a continued rollout continues its run. Returns the id.
    Raises HandsightError when wandb cannot start (no key, no network).
    """
    metrics = read_json(folder / METRICS_FILE)
    identity = read_json(folder / RUN_FILE)
    run_id = _remembered_id(folder)
    with _start(folder, id=run_id, resume="allow", job_type="rollout", config=identity | {"versions": metrics["versions"]}) as run:
        run.log({"episodes": _table(folder, set(metrics["seeds"]))})
        for name in ("success", "reach", "wrong_object"):
            for part, value in metrics[name].items():
                run.summary[f"{name}/{part}"] = value
        run.summary["steps_per_second"] = metrics["steps_per_second"]
    return run_id


def start_for_resume(folder: Path, project: str, entity: str | None, mode: str | None) -> None:
    """Create the run that LeRobot's trainer insists on finding when a training run without wandb is resumed with it.

    LeRobot reads the run's id from `folder`/wandb/latest-run and resumes it with resume="must".
    """
    with _start(folder, project=project, entity=entity, mode=mode, job_type="train_eval"):
        pass


def _start(folder: Path, **options: Any) -> wandb.Run:
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        return wandb.init(dir=str(folder), **({"project": os.environ.get("WANDB_PROJECT", PROJECT)} | options))
    except wandb.Error as error:
        reason = " ".join(str(error).split())[:200]
        raise HandsightError(f"expected wandb to start, got: {reason}; run `wandb login`, or set WANDB_MODE=offline") from error


def _remembered_id(folder: Path) -> str:
    path = folder / _ID_FILE
    if not path.exists():
        write_text(path, generate_id())
    return path.read_text().strip()


def _table(folder: Path, seeds: set[int]) -> wandb.Table:
    rows = [
        [*(getattr(episode, name) for name in _COLUMNS[:-1]), _video(folder, episode.video)]
        for episode in read_episodes(folder)
        if episode.seed in seeds
    ]
    return wandb.Table(columns=list(_COLUMNS), data=rows)


def _video(folder: Path, name: str | None) -> wandb.Video | None:
    return wandb.Video(str(folder / name), format="mp4") if name and (folder / name).is_file() else None
