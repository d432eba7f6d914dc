"""The one seam into LeRobot's trainer: its datasets, read through our cache, with only the frames that the policy asks for of each key.

`lerobot.scripts.lerobot_train.make_train_eval_datasets` is replaced by `make_train_eval_datasets` for the time of a training run. It keeps
LeRobot's meaning of --dataset.episodes, --dataset.eval_split, --dataset.image_transforms and --dataset.use_imagenet_stats. --dataset.root
may name several recordings (datasets_rb/mixture.py); then the trainer's sampler is replaced, too.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.datasets import LeRobotDatasetMetadata, factory
from lerobot.transforms import ImageTransforms
from lerobot.utils.constants import IMAGENET_STATS, OBS_PREFIX

from handsight.datasets_rb.cache import CachedDataset
from handsight.datasets_rb.mix import MixedDataset
from handsight.datasets_rb.mixed_sampler import MixedSampler
from handsight.datasets_rb.mixture import parse_mixture
from handsight.sensors.errors import HandsightError


def make_train_eval_datasets(config: TrainPipelineConfig) -> tuple[Any, Any]:
    """The training dataset, and the held-out one if --dataset.eval_split asks for it (else None).

    Datasets without a local --dataset.root, and streamed ones, are read by LeRobot itself.

    Raises HandsightError: several recordings together with options that number the frames or episodes of one.
    """
    if config.dataset.root is None or config.dataset.streaming:
        return factory.make_train_eval_datasets(config)
    mixture = parse_mixture(config.dataset.root)
    if len(mixture) > 1 and (config.dataset.episodes is not None or config.max_eval_samples > 0):
        raise HandsightError(
            f"expected one folder in --dataset.root with --dataset.episodes or --max_eval_samples, got {len(mixture)}; leave them out"
        )
    pairs = [_open_pair(config, ingredient.root) for ingredient in mixture]
    shares = [ingredient.weight for ingredient in mixture]
    train, held_out = (_one(config, [pair[i] for pair in pairs], shares) for i in range(2))
    return train, held_out


@contextmanager
def seam(trainer: Any, begin: Callable[[TrainPipelineConfig], None]) -> Iterator[None]:
    """Within, LeRobot's `trainer` reads and draws what `make_train_eval_datasets` gives it; `begin` is called before that."""
    makes, draws = trainer.make_train_eval_datasets, trainer.EpisodeAwareSampler

    def make(config: TrainPipelineConfig) -> tuple[Any, Any]:
        begin(config)
        train, held_out = make_train_eval_datasets(config)
        if isinstance(train, MixedDataset):
            weight = _encounter_weight(config)
            trainer.EpisodeAwareSampler = lambda *_, seed, drop_n_last_frames, **__: MixedSampler(
                train, seed=seed, drop_n_last_frames=drop_n_last_frames, encounter_weight=weight
            )
        return train, held_out

    trainer.make_train_eval_datasets = make
    try:
        yield
    finally:
        trainer.make_train_eval_datasets, trainer.EpisodeAwareSampler = makes, draws


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


def _encounter_weight(config: TrainPipelineConfig) -> int:
    return int(getattr(config.trainable_config, "encounter_weight", 1))


def _open_pair(config: TrainPipelineConfig, root: Path) -> tuple[CachedDataset, CachedDataset | None]:
    """One recording's training and held-out dataset."""
    chosen, share = config.dataset.episodes, config.dataset.eval_split
    if share == 0.0:
        return _open(config, root, chosen, augment=True), None
    train, held_out = split_episodes(LeRobotDatasetMetadata(_repo_id(config, root), root=root), chosen, share)
    return _open(config, root, train, augment=True), _open(config, root, held_out, augment=False)


def _open(config: TrainPipelineConfig, root: Path, episodes: list[int] | None, *, augment: bool) -> CachedDataset:
    options, policy = config.dataset, config.trainable_config
    repo_id = _repo_id(config, root)
    return CachedDataset(
        repo_id,
        root=root,
        episodes=episodes,
        delta_timestamps=delta_timestamps(policy, LeRobotDatasetMetadata(repo_id, root=root)),
        image_transforms=ImageTransforms(options.image_transforms) if augment and options.image_transforms.enable else None,
        tolerance_s=config.tolerance_s,
        return_uint8=True,
        uint8_images=True,  # the trainer divides by 255, which gives the same values
        image_pool=policy.image_pool if getattr(policy, "pooled_cache", False) else 1,
    )


def _repo_id(config: TrainPipelineConfig, root: Path) -> str:
    return str(config.dataset.repo_id) if Path(config.dataset.root) == root else f"local/{root.resolve().name}"


def _one(config: TrainPipelineConfig, parts: list[Any], shares: list[float]) -> Any:
    """The parts as one dataset; None where nothing is held out."""
    if parts[0] is None:
        return None
    alone = len(parts) == 1 and _encounter_weight(config) == 1  # then LeRobot's own sampler does
    dataset = parts[0] if alone else MixedDataset(parts, shares)
    if config.dataset.use_imagenet_stats:
        for key in dataset.meta.camera_keys:
            dataset.meta.stats[key] |= {name: torch.tensor(value, dtype=torch.float32) for name, value in IMAGENET_STATS.items()}
    # LeRobot gives a pretrained policy's normaliser the statistics of the new dataset as they are.
    for key, floor in getattr(config.trainable_config, "std_floors", {}).items():
        dataset.meta.stats[key] |= {"std": np.maximum(dataset.meta.stats[key]["std"], floor)}
    return dataset
