"""`handsight bench reader`: our cached reader beside LeRobot's, on the same items, in the same run."""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from lerobot.datasets import LeRobotDataset
from torch.utils.data import default_collate

from handsight.datasets_rb.cache import CachedDataset
from handsight.datasets_rb.schema import FPS, RecordingSpec
from handsight.launch.arguments import parse
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import ACTION, AUDIO, FRONT, STATE, TOUCH, WRIST

RESULT: Final = Path("launch/results/reader.json")
CHUNK: Final[dict[str, Sequence[int]]] = {ACTION: range(16)}
HISTORY: Final = {FRONT: (-8, 0), WRIST: (-8, 0), STATE: (-8, 0), TOUCH: (-24, -16, -8, 0), AUDIO: range(-19, 1)}
WINDOWS: Final[dict[str, dict[str, Sequence[int]]]] = {"one frame, 16 actions": CHUNK, "strided history, 16 actions": {**CHUNK, **HISTORY}}
"""What an item holds of each key [frames]; the second is what a policy with one second of audio asks for."""


@dataclass(frozen=True)
class ReaderArguments:
    """Arguments of `handsight bench reader`."""

    root: str = ""
    """Dataset to read; without it, one is collected into a temporary folder."""
    task: str = "sense/tabletop_grasp"
    """FAMILY/NAME of what is collected if there is no --root."""
    episodes: int = 20
    """How many episodes are collected if there is no --root."""
    batches: int = 6
    """How many batches each reader reads, in turns."""
    batch_size: int = 64
    """Items a batch."""
    out: str = ""
    """The JSON file with the result; launch/results/reader.json, or none after --quick."""
    quick: bool = False
    """2 batches of 8 of 4 episodes."""


def main(argv: list[str]) -> int:
    """Measures and writes the result; 1 if an item differs."""
    arguments = parse(ReaderArguments, argv, "handsight bench reader", __doc__ or "")
    if arguments.quick:
        arguments = replace(arguments, episodes=4, batches=2, batch_size=8)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(arguments.root) if arguments.root else _collect(Path(folder) / "dataset", arguments)
        rows = {name: compare(root, windows, arguments.batches, arguments.batch_size) for name, windows in WINDOWS.items()}
        result = {
            "command": " ".join(["handsight bench reader", *argv]),
            "versions": _versions(),
            "dataset": _dataset(root),
            "readers": rows,
        }
    for name, row in rows.items():
        print(
            f"{name}: LeRobot {row['lerobot_ms_per_item']:.2f} ms, cached {row['cached_ms_per_item']:.3f} ms of CPU an item, "
            f"{row['ratio']:.0f} times ({row['ratio_with_collate']:.0f} with the DataLoader's collation); equal: {row['equal']}"
        )
    if arguments.out or not arguments.quick:
        out = Path(arguments.out or RESULT)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n")
        print(f"written: {out}")
    return 0 if all(row["equal"] for row in rows.values()) else 1


def compare(root: Path, windows: dict[str, Sequence[int]], batches: int, batch_size: int) -> dict[str, Any]:
    """CPU time an item of both readers, batch by batch in turns, over random items; the items must be equal."""
    delta_timestamps = {key: [offset / FPS for offset in offsets] for key, offsets in windows.items()}
    theirs = LeRobotDataset("local/bench", root=root, delta_timestamps=delta_timestamps, video_backend="pyav", return_uint8=True)
    ours = CachedDataset("local/bench", root=root, delta_timestamps=delta_timestamps, return_uint8=True)
    _check(set(windows) <= set(theirs.features), root)
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {"lerobot": [], "cached": [], "collate": []}
    equal = True
    for _ in range(batches + 1):
        indices = rng.integers(0, len(ours), batch_size).tolist()
        expected = _timed(seconds["lerobot"], partial(_each, theirs, indices))
        got = _timed(seconds["cached"], partial(ours.__getitems__, indices))
        _timed(seconds["collate"], partial(default_collate, got))
        equal &= all(same(a, b) for a, b in zip(expected, got, strict=True))
    lerobot, cached, collate = (float(np.median(values[1:])) for values in seconds.values())  # the first batch warms up
    return {
        "items": batches * batch_size,
        "lerobot_ms_per_item": 1e3 * lerobot / batch_size,
        "cached_ms_per_item": 1e3 * cached / batch_size,
        "collate_ms_per_item": 1e3 * collate / batch_size,
        "ratio": lerobot / cached,
        "ratio_with_collate": (lerobot + collate) / (cached + collate),
        "equal": equal,
    }


def same(expected: dict[str, Any], got: dict[str, Any]) -> bool:
    """Whether two items have the same keys in the same order, dtypes, shapes and bits."""
    return list(expected) == list(got) and all(
        value == got[key] if isinstance(value, str) else value.dtype == got[key].dtype and torch.equal(value, got[key])
        for key, value in expected.items()
    )


def _each(dataset: LeRobotDataset, indices: Sequence[int]) -> list[dict[str, Any]]:
    return [dataset[index] for index in indices]


def _timed(record: list[float], work: Callable[[], Any]) -> Any:
    begin = time.process_time()
    result = work()
    record.append(time.process_time() - begin)
    return result


def _check(known: bool, root: Path) -> None:
    if not known:
        raise HandsightError(f"expected a dataset with all sensors in {root}, got one without; leave out --root to collect one")


def _collect(root: Path, arguments: ReaderArguments) -> Path:
    from handsight.launch.collect import collect

    collect(root, RecordingSpec(arguments.task), arguments.episodes, workers=2)
    return root


def _dataset(root: Path) -> dict[str, Any]:
    info = json.loads((root / "meta" / "info.json").read_text())
    frames = info["total_frames"]
    sizes = {part: sum(path.stat().st_size for path in (root / part).rglob("*") if path.is_file()) for part in ("data", "videos", "meta")}
    statistics = (root / "meta" / "stats.json").stat().st_size
    return {"episodes": info["total_episodes"], "frames": frames, "bytes": sizes, "stats_bytes": statistics}


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("lerobot", "torch", "numpy", "av", "lerobot_policy_handsight")}
