"""Weights & Biases: the only file that imports it. WANDB_MODE=offline works; `wandb sync` uploads such runs later."""

import os
from pathlib import Path
from typing import Any, Final

import wandb
from wandb.util import generate_id

from handsight.launch.episodes import METRICS_FILE, RUN_FILE, read_episodes, read_json, write_text
from handsight.launch.metrics import EpisodeResult
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
        episodes = [episode for episode in read_episodes(folder) if episode.seed in set(metrics["seeds"])]
        # the films also apart from the table: offline, a table's media stay outside the run's folder until they are synced
        run.log({"episodes": _table(folder, episodes), "videos": _films(folder, episodes)})
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


def finish_open_run() -> None:
    """LeRobot's trainer leaves its run open until Python exits; close it, also after an error."""
    if wandb.run is not None:
        wandb.run.finish()


def _start(folder: Path, **options: Any) -> wandb.Run:
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its crash reports go over the network, also offline
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


def _table(folder: Path, episodes: list[EpisodeResult]) -> wandb.Table:
    rows = [[*(getattr(episode, name) for name in _COLUMNS[:-1]), _video(folder, episode)] for episode in episodes]
    return wandb.Table(columns=list(_COLUMNS), data=rows)


def _films(folder: Path, episodes: list[EpisodeResult]) -> list[wandb.Video]:
    return [video for episode in episodes if (video := _video(folder, episode)) is not None]


def _video(folder: Path, episode: EpisodeResult) -> wandb.Video | None:
    if episode.video is None or not (folder / episode.video).is_file():
        return None
    return wandb.Video(str(folder / episode.video), format="mp4", caption=f"{episode.outcome}: seed {episode.seed}, {episode.instruction}")
