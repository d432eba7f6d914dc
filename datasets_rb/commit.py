"""The step from a staged addition to a dataset that holds it: it either happened or did not, whenever the process is killed.

`publish.stage` builds everything in STAGING and renames it to READY. From then on it only moves forward: hide the old `meta`, move data and
videos into place, move the new `meta` last. Whoever opens the recording after a kill repeats what is left, so `meta/info.json` exists
exactly when the dataset is whole.
"""

import shutil
from pathlib import Path
from typing import Final

STAGING: Final = "staging"
READY: Final = "ready"
HIDDEN: Final = "old_meta"
RECORD: Final = Path("meta", "handsight.json")
"""Beside info.json: the recording's arguments, the seeds it holds in episode order, and the seeds the expert failed on."""


def finish(root: Path, folder: Path) -> None:
    """Moves what is READY in `folder` into the dataset in `root`, or does the rest of it after a kill."""
    ready = folder / READY
    if not ready.exists():
        return
    if (ready / "meta").exists():
        if (root / "meta").exists():
            shutil.rmtree(folder / HIDDEN, ignore_errors=True)
            (root / "meta").rename(folder / HIDDEN)
        for path in [path for part in ("data", "videos") for path in sorted((ready / part).rglob("*")) if path.is_file()]:
            target = root / path.relative_to(ready)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        (ready / "meta").rename(root / "meta")
    shutil.rmtree(ready)
