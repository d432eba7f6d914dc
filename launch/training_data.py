"""The one seam into LeRobot's trainer: its datasets, read through our cache, with only the frames that the policy asks for of each key.

`lerobot.scripts.lerobot_train.make_train_eval_datasets` is replaced by `make_train_eval_datasets` for the time of a training run. It keeps
LeRobot's meaning of --dataset.episodes, --dataset.eval_split, --dataset.image_transforms and --dataset.use_imagenet_stats.
"""

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.datasets import LeRobotDatasetMetadata, factory
from lerobot.transforms import ImageTransforms
from lerobot.utils.constants import IMAGENET_STATS, OBS_PREFIX

from handsight.datasets_rb.cache import CachedDataset
from handsight.sensors.errors import HandsightError


def make_train_eval_datasets(config: TrainPipelineConfig) -> tuple[Any, Any]:
    """The training dataset, and the held-out one if --dataset.eval_split asks for it (else None).

    Datasets without a local --dataset.root, and streamed ones, are read by LeRobot itself.
    """
    if config.dataset.root is None or config.dataset.streaming:
        return factory.make_train_eval_datasets(config)
    chosen = config.dataset.episodes
    if config.dataset.eval_split == 0.0:
        return _open(config, chosen, augment=True), None
    meta = LeRobotDatasetMetadata(config.dataset.repo_id, root=config.dataset.root)
    train, held_out = split_episodes(meta, chosen, config.dataset.eval_split)
    return _open(config, train, augment=True), _open(config, held_out, augment=False)


def split_episodes(meta: LeRobotDatasetMetadata, chosen: list[int] | None, share: float) -> tuple[list[int], list[int]]:
    """LeRobot's split: of every instruction, the last ceil(n * share) episodes are held out.

    Raises HandsightError when nothing is left to train on.
    """
    by_task: dict[str, list[int]] = defaultdict(list)
    tasks = meta.episodes["tasks"]
    for episode in range(meta.total_episodes) if chosen is None else chosen:
        by_task[tasks[episode][0] if tasks[episode] else ""].append(episode)
    train: list[int] = []
    held_out: list[int] = []
    for episodes in by_task.values():
        count = math.ceil(len(episodes) * share)
        train += episodes[: len(episodes) - count]
        held_out += episodes[len(episodes) - count :]
    if not train:
        raise HandsightError(
            f"expected episodes to train on, got none: --dataset.eval_split={share} holds out at least one of each of the "
            f"{len(by_task)} instructions; collect more episodes, or leave it at 0"
        )
    return train, held_out


def delta_timestamps(policy: PreTrainedConfig, meta: LeRobotDatasetMetadata) -> dict[str, list[float]] | None:
    """Offsets [s] of the frames of each key: LeRobot's, unless the policy says per key what it reads (`history_of`)."""
    resolved: dict[str, list[float]] = factory.resolve_delta_timestamps(policy, meta) or {}
    if not hasattr(policy, "history_of"):
        return resolved or None
    for key in (key for key in meta.features if key.startswith(OBS_PREFIX)):
        offsets = policy.history_of(key)
        resolved.pop(key, None)
        if tuple(offsets) != (0,):  # the frame itself needs no window
            resolved[key] = [offset / meta.fps for offset in offsets]
    return resolved or None


def _open(config: TrainPipelineConfig, episodes: list[int] | None, *, augment: bool) -> CachedDataset:
    options = config.dataset
    meta = LeRobotDatasetMetadata(options.repo_id, root=options.root)
    dataset = CachedDataset(
        options.repo_id,
        root=Path(options.root),
        episodes=episodes,
        delta_timestamps=delta_timestamps(config.trainable_config, meta),
        image_transforms=ImageTransforms(options.image_transforms) if augment and options.image_transforms.enable else None,
        tolerance_s=config.tolerance_s,
        return_uint8=True,
        uint8_images=True,  # the trainer divides by 255, which gives the same values
    )
    if options.use_imagenet_stats:
        for key in dataset.meta.camera_keys:
            dataset.meta.stats[key] |= {name: torch.tensor(value, dtype=torch.float32) for name, value in IMAGENET_STATS.items()}
    return dataset
