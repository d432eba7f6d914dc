"""The least that trains a policy on what `handsight train` reads: what benchmarks of training time measure."""

from collections.abc import Sequence
from typing import Any

import draccus
import torch
from lerobot.configs.train import TrainPipelineConfig
from lerobot.policies.factory import make_policy, make_pre_post_processors
from torch.utils.data import default_collate

import lerobot_policy_handsight  # noqa: F401  registers the policy types
from handsight.launch import train
from handsight.launch.training_data import make_train_eval_datasets


class BareLoop:
    """Read, collate, preprocess; forward, backward, clip, step.

    Args:
        options: of `handsight train`.
    """

    def __init__(self, options: Sequence[str]) -> None:
        config: Any = draccus.parse(TrainPipelineConfig, args=train.complete(list(options)))
        self._dataset, _ = make_train_eval_datasets(config)
        self._policy = make_policy(config.policy, ds_meta=self._dataset.meta).train()
        self._preprocess, _ = make_pre_post_processors(config.policy, dataset_stats=self._dataset.meta.stats)
        preset = config.policy.get_optimizer_preset()
        self._largest_gradient = preset.grad_clip_norm
        self._optimizer: Any = preset.build(self._policy.get_optim_params())
        schedule = config.policy.get_scheduler_preset()
        self._scheduler: Any = schedule.build(self._optimizer, config.steps) if schedule is not None else None

    def __len__(self) -> int:
        """Frames of the dataset."""
        return len(self._dataset)

    def batch(self, indices: Sequence[int]) -> dict[str, Any]:
        """These frames, preprocessed."""
        batch = default_collate(self._dataset.__getitems__(indices))
        for key in self._dataset.meta.camera_keys:
            batch[key] = batch[key].to(torch.float32) / 255.0 if batch[key].dtype == torch.uint8 else batch[key]
        processed: dict[str, Any] = self._preprocess(batch)
        return processed

    def step(self, batch: dict[str, Any]) -> None:
        """One training step."""
        loss, _ = self._policy.forward(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._policy.parameters(), self._largest_gradient)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._scheduler is not None:
            self._scheduler.step()
        if hasattr(self._policy, "update"):
            self._policy.update()
