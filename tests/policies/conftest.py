"""A small fuse policy and batches for it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature

from handsight.policies.fuse.configuration_fuse import FuseConfig
from handsight.policies.fuse.modeling_fuse import FusePolicy
from handsight.policies.fuse.processor_fuse import make_fuse_pre_post_processors
from handsight.sensors.types import ACTION, AUDIO, FRONT, KEYFRAME, STATE, TOUCH, WRIST

SIZE = 32
STATS = {
    STATE: {"mean": torch.full((15,), 0.1), "std": torch.linspace(0.0, 1.0, 15)},
    ACTION: {"mean": torch.full((7,), 0.05), "std": torch.linspace(0.0, 0.6, 7)},
    TOUCH: {"mean": torch.full((1,), 3.0), "std": torch.full((1,), 9.0)},
    KEYFRAME: {"mean": torch.zeros(4), "std": torch.ones(4)},
}

Batch = dict[str, Any]


def features() -> dict[str, PolicyFeature]:
    """What LeRobot derives from a dataset of ours, labels included."""
    state, visual = FeatureType.STATE, FeatureType.VISUAL
    return {
        FRONT: PolicyFeature(visual, (3, SIZE, SIZE)),
        WRIST: PolicyFeature(visual, (3, SIZE, SIZE)),
        STATE: PolicyFeature(state, (15,)),
        TOUCH: PolicyFeature(state, (1536,)),
        AUDIO: PolicyFeature(state, (800,)),
        KEYFRAME: PolicyFeature(state, (4,)),
    }


@pytest.fixture
def make_config() -> Callable[..., FuseConfig]:
    """A simulation-scale configuration over small pictures; keyword arguments override."""

    def make(**overrides: Any) -> FuseConfig:
        output = {ACTION: PolicyFeature(FeatureType.ACTION, (7,))}
        return FuseConfig(**({"input_features": features(), "output_features": output, "device": "cpu"} | overrides))

    return make


@pytest.fixture
def make_policy(make_config: Callable[..., FuseConfig]) -> Callable[..., FusePolicy]:
    """A policy with weights from seed 0."""

    def make(**overrides: Any) -> FusePolicy:
        torch.manual_seed(0)
        return FusePolicy(make_config(**overrides))

    return make


@pytest.fixture
def raw_batch() -> Callable[..., Batch]:
    """What a dataloader gives: `batch` rows with the configuration's histories, unprocessed."""

    def make(config: FuseConfig, batch: int = 4, seed: int = 0) -> Batch:
        g = torch.Generator().manual_seed(seed)

        def rand(*shape: int) -> torch.Tensor:
            return torch.rand(*shape, generator=g)

        state, touch, audio = (len(config.history_of(key)) for key in (STATE, TOUCH, AUDIO))
        kind = torch.randint(0, 3, (batch, 1), generator=g).float()
        words = ("red cube", "blue ball", "soft one", "green can")
        return {
            FRONT: rand(batch, 3, SIZE, SIZE),
            WRIST: rand(batch, 3, SIZE, SIZE),
            STATE: rand(batch, state, 15),
            TOUCH: 50 * rand(batch, touch, 1536),
            AUDIO: (rand(batch, audio, 800) * 2000).to(torch.int16),
            KEYFRAME: torch.cat([rand(batch, 3), kind], dim=1),
            ACTION: 2 * rand(batch, config.chunk_size, 7) - 1,
            ACTION + "_is_pad": torch.zeros(batch, config.chunk_size, dtype=torch.bool),
            "task": [f"pick up the {words[i % len(words)]}" for i in range(batch)],
        }

    return make


@pytest.fixture
def make_batch(raw_batch: Callable[..., Batch]) -> Callable[..., Batch]:
    """As `raw_batch`, preprocessed."""

    def make(config: FuseConfig, batch: int = 4, seed: int = 0) -> Batch:
        processed: Batch = make_fuse_pre_post_processors(config, STATS)[0](raw_batch(config, batch, seed))
        return processed

    return make


@pytest.fixture
def make_frames(raw_batch: Callable[..., Batch]) -> Callable[..., list[Batch]]:
    """Single unprocessed frames as a rollout gives them: (B, ...) without time, touch in its taxel shape, audio as float."""

    def make(config: FuseConfig, steps: int, batch: int = 1, seed: int = 0) -> list[Batch]:
        frames = []
        for step in range(steps):
            raw = raw_batch(config, batch, 1000 * seed + step)
            frame = {key: raw[key] for key in (FRONT, WRIST, "task")} | {key: raw[key][:, -1] for key in (STATE, TOUCH, AUDIO)}
            frame[TOUCH] = frame[TOUCH].view(-1, 2, 3, 16, 16)
            frame[AUDIO] = frame[AUDIO].float() / 32767
            frames.append(frame)
        return frames

    return make
