"""The trained network of the fuse policy, assembled from its configuration."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor, nn

from handsight.policies.action_expert import ActionExpert
from handsight.policies.backbone import Features, FlowHead, MlpTrunk, TransformerTrunk
from handsight.policies.encoders import (
    AudioEncoder,
    ImageNoise,
    KeypointImageEncoder,
    PatchImageEncoder,
    ResNetImageEncoder,
    SensorEncoders,
    SensorTokens,
    StateEncoder,
    TokenGroup,
    TouchEncoder,
    token_groups,
)
from handsight.policies.fuse.configuration_fuse import FuseConfig
from handsight.policies.fuse.heads import ConditionReadouts, TokenReadouts
from handsight.policies.fuse.language import LanguageHeads
from handsight.policies.octo import OctoTrunk, PadTouchEncoder, StepAudioEncoder
from handsight.policies.text import HashedText, PretrainedText, WordNoise
from handsight.sensors.types import KeyframeKind

READOUTS: Final = 4
"""Readouts of the mlp trunk, where the configuration names no number."""


class FuseNetwork(nn.Module):
    """Encoders, trunk, flow head and the head of the keyframe loss."""

    def __init__(self, config: FuseConfig) -> None:
        super().__init__()
        action = config.action_feature
        assert action is not None, "FuseConfig.validate_features checks this"
        self.action_dim: int = action.shape[0]
        encoders = {name: _encoder(name, key, config) for name, key in config.sensor_keys.items()}
        groups = _groups(config, encoders)
        self.chunk_size = config.chunk_size
        self.text: HashedText | PretrainedText = _text(config)
        self.sensors = SensorEncoders(encoders, groups, config.token_width, config.sensor_dropout)
        self.trunk = _trunk(config, groups)
        self.head = _head(config, self.trunk, self.action_dim)
        self.keyframe = nn.Linear(config.condition_width, 3 + len(KeyframeKind))
        self.max_words = config.max_words
        self.language = LanguageHeads(config.language, config.token_width, config.text_width) if config.language.any else None
        self.readouts = _readouts(config, groups) if config.trunk == "mlp" and config.language.any else None

    def forward(self, inputs: dict[str, Tensor | None], ids: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Features:
        """Encode one observation a row: `inputs` by sensor name, instruction ids and mask (B, L)."""
        if self.training and isinstance(self.text, HashedText):
            self.text.read(ids)
        text = self.text(ids, mask, generator)
        features: Features = self.trunk(self.sensors(inputs, text.pooled, generator), text)
        return features

    def sense(self, inputs: Mapping[str, Tensor | None]) -> SensorTokens:
        """All sensors by name, encoded under no instruction, none dropped: what language is about."""
        batch = next(len(x) for x in inputs.values() if x is not None)
        return self.sensors.encode(inputs, self.text.empty(batch, self.max_words).pooled)

    def read(self, sensed: SensorTokens) -> Tensor:
        """Language readouts (B, R, D): the transformer's own; beside the mlp trunk, of the tokens or of its condition."""
        if isinstance(self.readouts, TokenReadouts):
            of_tokens: Tensor = self.readouts(sensed)
            return of_tokens
        features: Features = self.trunk(sensed, self.text.empty(len(sensed.tokens), self.max_words))
        if self.readouts is None:
            return features.readouts
        readouts: Tensor = self.readouts(features.condition)
        return readouts

    def encode(self, inputs: Mapping[str, Tensor | None], ids: Tensor, mask: Tensor, present: Tensor) -> Features:
        """As `forward` in evaluation, but every sensor is given and present (B, S) says which of them are there: what exports have."""
        text = self.text(ids, mask)
        sensors = self.sensors.keep(self.sensors.encode(inputs, text.pooled), present)
        features: Features = self.trunk(sensors, text)
        return features


def _readouts(config: FuseConfig, groups: tuple[TokenGroup, ...]) -> ConditionReadouts | TokenReadouts:
    readouts, width = config.language_readouts or READOUTS, config.token_width
    if config.language_reads == "condition":
        return ConditionReadouts(config.condition_width, readouts, width)
    return TokenReadouts(groups, readouts, width)


def _encoder(name: str, key: str, config: FuseConfig) -> nn.Module:
    width, text_width = config.token_width, config.text_width
    shape = (config.input_features or {})[key].shape
    if name == "state":
        return StateEncoder(shape[0], width, config.hidden_state, config.state_history_dropout)
    if name == "touch":
        return PadTouchEncoder(width, text_width) if config.trunk == "octo" else TouchEncoder(width, text_width)
    if name == "audio":
        return StepAudioEncoder(width, text_width, config.image_history) if config.trunk == "octo" else AudioEncoder(width, text_width)
    images = {"keypoints": KeypointImageEncoder, "patches": PatchImageEncoder, "resnet": ResNetImageEncoder}
    return images[config.image_encoder](
        shape[-1] // config.image_pool, width, text_width, ImageNoise(config.image_shift.get(name, 0), config.image_light)
    )


def _groups(config: FuseConfig, encoders: dict[str, nn.Module]) -> tuple[TokenGroup, ...]:
    groups = token_groups({name: config.history_of(key) for name, key in config.sensor_keys.items()}, encoders)
    if config.trunk != "octo":
        return groups
    return tuple(replace(group, offsets=config.image_history) if group.name == "audio" else group for group in groups)


def _text(config: FuseConfig) -> HashedText | PretrainedText:
    if config.text_encoder != "hashed":
        return PretrainedText(config.text_encoder, config.text_width)
    noise = WordNoise(insert=config.word_insert, replace=config.word_replace, drop=config.word_drop)
    return HashedText(config.text_buckets, config.text_width, noise, config.meanings)


def _trunk(config: FuseConfig, groups: tuple[TokenGroup, ...]) -> MlpTrunk | TransformerTrunk | OctoTrunk:
    widths = (config.token_width, config.text_width, config.condition_width)
    if config.trunk == "mlp":
        return MlpTrunk(groups, *widths)
    sizes = {"words": config.max_words, "layers": config.layers, "heads": config.heads, "language_readouts": config.language_readouts}
    if config.trunk == "octo":
        return OctoTrunk(groups, *widths, **sizes, sees_pads=config.upstream_compat)
    return TransformerTrunk(groups, *widths, **sizes)


def _head(config: FuseConfig, trunk: nn.Module, action_dim: int) -> FlowHead | ActionExpert:
    width = config.condition_width
    if config.head == "mlp":
        return FlowHead(config.chunk_size, action_dim, width, width, config.head_blocks, modulates_once=config.modulate_once)
    assert isinstance(trunk, TransformerTrunk), "FuseConfig checks this"
    heads, head_width = config.heads, config.token_width // config.heads
    return ActionExpert(trunk.prefix, config.chunk_size, action_dim, width=width, layers=config.layers, heads=heads, head_width=head_width)
