"""Where a checkpoint is and whether it is whole, without importing torch or LeRobot.

A checkpoint is LeRobot's `pretrained_model` folder: config.json, model.safetensors, policy_preprocessor.json, policy_postprocessor.json.
"""

import re
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open

import handsight
from handsight.policies.weights import weights
from handsight.sensors.errors import HandsightError

ZOO: Final = Path(handsight.__file__).parent / "policies" / "zoo"
_PROCESSORS: Final = ("policy_preprocessor.json", "policy_postprocessor.json")


def find(path: str) -> Path:
    """The checkpoint folder behind `zoo/NAME`, a folder (also a training output or one of its checkpoints) or a hub id.

    Raises HandsightError when there is none.
    """
    if path.startswith("zoo/"):
        return _find_in_zoo(path.removeprefix("zoo/"))
    folder = Path(path).expanduser()
    for candidate in (folder, folder / "pretrained_model", folder / "checkpoints" / "last" / "pretrained_model"):
        if (candidate / "config.json").is_file():
            return candidate
    if folder.exists():
        raise HandsightError(f"expected a checkpoint folder with config.json, got {path} without; give LeRobot's pretrained_model folder")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", path) is None:
        raise HandsightError(
            f"expected a checkpoint folder, a hub id, zoo/NAME, expert, random, constant or down, got {path}, which does not exist; "
            "check --policy.path"
        )
    return _download(path)


def _find_in_zoo(name: str) -> Path:
    if (ZOO / name / "config.json").is_file():
        return ZOO / name
    known = sorted(entry.parent.name for entry in ZOO.glob("*/config.json"))
    raise HandsightError(f"expected one of the shipped checkpoints ({', '.join(known) or 'none here'}), got zoo/{name}; choose one of them")


def _download(repo: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(repo, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise HandsightError(
            f"expected a folder or a hub id that can be fetched, got {repo} ({type(error).__name__}); "
            "check the spelling, the network and HF_HUB_OFFLINE"
        ) from error


def check_files(folder: Path) -> None:
    """Raises HandsightError when a file is missing or the weights are cut off."""
    file = weights(folder)
    try:
        with safe_open(file, framework="numpy") as tensors:
            tensors.keys()
    except (SafetensorError, OSError) as error:
        raise HandsightError(f"expected whole weights in {file}, got a truncated or damaged file ({error}); fetch it again") from error
    for name in _PROCESSORS:
        if not (folder / name).is_file():
            raise HandsightError(f"expected {name} in {folder}, got none; save the policy with its processors (LeRobot 0.4 or newer does)")
