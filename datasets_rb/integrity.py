"""Is a dataset on disk whole? If not: one line saying what is missing and what to do."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from handsight.datasets_rb.record import JOURNAL
from handsight.sensors.errors import HandsightError

_TABLES = {"data": "the frames", "meta/episodes": "the episode table"}
_FILES = {"meta/stats.json": "the statistics", "meta/tasks.parquet": "the instructions"}


def require_whole(root: Path) -> None:
    """Checks what can be checked without decoding: every file is there, every parquet file has its footer, the number of frames agrees.

    Raises HandsightError.
    """
    info = _info(root)
    for name, meaning in _FILES.items():
        if not (root / name).exists():
            raise broken(root, f"no {name} ({meaning})")
    rows = {folder: _rows(root, folder, meaning) for folder, meaning in _TABLES.items()}
    for folder, expected in (("data", info["total_frames"]), ("meta/episodes", info["total_episodes"])):
        if rows[folder] != expected:
            raise broken(root, f"{rows[folder]} rows in {folder} instead of {expected} (a file is missing or too many)")
    for key, feature in info["features"].items():
        if feature["dtype"] == "video" and not any((root / "videos" / key).rglob("*.mp4")):
            raise broken(root, f"no videos/{key}/*/*.mp4 (the camera frames)")


def broken(root: Path, problem: str) -> HandsightError:
    """The error for a dataset with this problem, with advice that fits how it was made."""
    if (root / JOURNAL).exists():
        advice = "its recording was interrupted: run the same command again"
    else:
        advice = "copy or download it again, or delete the folder and collect it again"
    return HandsightError(f"expected a whole LeRobotDataset v3 in {root}, got {problem}; {advice}")


def _info(root: Path) -> dict[str, Any]:
    path = root / "meta" / "info.json"
    if not root.is_dir():
        raise HandsightError(f"expected a LeRobotDataset v3 in {root}, got no such folder; check --dataset.root")
    if not path.exists():
        raise broken(root, "no meta/info.json")
    try:
        info: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise broken(root, f"a meta/info.json that is not JSON ({error})") from error
    return info


def _rows(root: Path, folder: str, meaning: str) -> int:
    paths = sorted((root / folder).glob("*/*.parquet"))
    if not paths:
        raise broken(root, f"no {folder}/*/*.parquet ({meaning})")
    return sum(_row_count(root, path) for path in paths)


def _row_count(root: Path, path: Path) -> int:
    try:
        count: int = pq.read_metadata(path).num_rows
    except pa.ArrowInvalid as error:
        raise broken(root, f"a truncated {path.relative_to(root)} (no parquet footer)") from error
    return count
