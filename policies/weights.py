"""The weights in a checkpoint's folder, without importing torch or LeRobot."""

import hashlib
from pathlib import Path
from typing import Final

from handsight.sensors.errors import HandsightError

_WEIGHTS: Final = ("model.safetensors", "adapter_model.safetensors")


def fingerprint(folder: Path) -> str:
    """sha256 of the weights: by it a result or an export knows what it was made of."""
    return hashlib.sha256(weights(folder).read_bytes()).hexdigest()


def weights(folder: Path) -> Path:
    """The file. Raises HandsightError where there is none."""
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise HandsightError(f"expected {' or '.join(_WEIGHTS)} in {folder}, got neither; the checkpoint is incomplete: fetch it again")
