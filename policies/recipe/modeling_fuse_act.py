"""LeRobot's ACT with touch, sound and language as further tokens of its encoder.

Axes: S tokens of the host, B batch, N tokens of ours, D width. LeRobot's ACT puts tokens first: (S, B, D).
"""

from typing import Any

import torch
from lerobot.policies.act.modeling_act import ACT, ACTPolicy
from torch import Tensor, nn

from handsight.policies.recipe.adapter import SensorAdapter
from handsight.policies.recipe.configuration_fuse_act import FuseActConfig
from handsight.policies.recipe.sensing import Sensing
from handsight.policies.recipe.slot import Slot

Kwargs = dict[str, Any]


class EncoderSlot(Slot):
    """Appends the tokens where ACT hands its own to the encoder, and masks absent ones wherever they would be attended to."""

    def __init__(self, model: ACT) -> None:
        super().__init__()
        model.encoder.register_forward_pre_hook(self._extend_encoder, with_kwargs=True)
        model.decoder.register_forward_pre_hook(self._extend_decoder, with_kwargs=True)
        for layer in model.decoder.layers:
            layer.multihead_attn.register_forward_pre_hook(self._mask_memory, with_kwargs=True)
        if model.config.image_features:
            self.watch(model.encoder_img_feat_input_proj)

    def image_tokens(self, output: Tensor) -> Tensor:
        """Feature map (B, D, h, w) of a camera -> (B, h w, D)."""
        return output.flatten(2).transpose(1, 2)

    def _extend_encoder(self, module: nn.Module, args: tuple[Tensor], kwargs: Kwargs) -> tuple[tuple[Tensor], Kwargs] | None:
        if self.extra is None:
            return None
        x = torch.cat([args[0], self.extra.tokens.transpose(0, 1)])  # (S + N, B, D)
        kwargs = kwargs | {"pos_embed": self._positions(kwargs["pos_embed"]), "key_padding_mask": self._padding(len(x))}
        return (x,), kwargs

    def _extend_decoder(self, module: nn.Module, args: tuple[Tensor, ...], kwargs: Kwargs) -> tuple[tuple[Tensor, ...], Kwargs] | None:
        if self.extra is None:
            return None
        return args, kwargs | {"encoder_pos_embed": self._positions(kwargs["encoder_pos_embed"])}

    def _mask_memory(self, module: nn.Module, args: tuple[Tensor, ...], kwargs: Kwargs) -> tuple[tuple[Tensor, ...], Kwargs] | None:
        if self.extra is None:
            return None
        return args, kwargs | {"key_padding_mask": self._padding(len(kwargs["key"]))}

    def _positions(self, hosts: Tensor) -> Tensor:
        """Our tokens hold their positions already: (S, 1, D) -> (S + N, 1, D)."""
        assert self.extra is not None
        return torch.cat([hosts, hosts.new_zeros(self.extra.tokens.shape[1], *hosts.shape[1:])])

    def _padding(self, tokens: int) -> Tensor:
        """(B, S + N) bool, True where a token is absent."""
        assert self.extra is not None
        absent = ~self.extra.present
        return nn.functional.pad(absent, (tokens - absent.shape[1], 0), value=False)


class FuseActPolicy(Sensing, ACTPolicy):
    """ACT whose encoder also sees touch, sound and the instruction."""

    config_class = FuseActConfig
    name = "fuse_act"

    def __init__(self, config: FuseActConfig, **kwargs: Any) -> None:
        """`kwargs`: LeRobot passes dataset statistics and metadata, which the processors use and the model does not need."""
        super().__init__(config, **kwargs)
        self.adapter = SensorAdapter(config, config.dim_model, image_width=config.dim_model)
        self.slot = EncoderSlot(self.model)
        self.finish(config)

    def look(self, batch: dict[str, Any]) -> None:
        """Run the image encoder alone."""
        for key in self.config.image_features:
            self.model.encoder_img_feat_input_proj(self.model.backbone(batch[key])["feature_map"])
