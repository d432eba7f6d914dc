"""LeRobot's Diffusion Policy with touch, sound and language as a further part of its global conditioning.

Axes: B batch, N tokens of ours, D their width.
"""

from typing import Any

import torch
from lerobot.policies.diffusion.modeling_diffusion import DiffusionConditionalResidualBlock1d, DiffusionModel, DiffusionPolicy
from lerobot.utils.constants import OBS_IMAGES
from torch import Tensor, nn

from handsight.policies.recipe.adapter import SensorAdapter
from handsight.policies.recipe.configuration_fuse_diffusion import FuseDiffusionConfig
from handsight.policies.recipe.sensing import Sensing
from handsight.policies.recipe.slot import Slot, WidenedLinear

Kwargs = dict[str, Any]


class ConditionSlot(Slot):
    """Appends to the condition of the U-Net, whose modulating layers take the further inputs, with weights that start at 0."""

    def __init__(self, model: DiffusionModel, width: int) -> None:
        super().__init__()
        for block in model.unet.modules():
            if isinstance(block, DiffusionConditionalResidualBlock1d):
                block.cond_encoder[1] = WidenedLinear(block.cond_encoder[1], width)
        model.unet.register_forward_pre_hook(self._extend, with_kwargs=True)
        for encoder in rgb_encoders(model):
            self.watch(encoder)

    def image_tokens(self, output: Tensor) -> Tensor:
        """Features (B steps cameras, F) -> (B, steps cameras, F); an encoder sees one camera, or all if they share it."""
        return output.view(self.rows, -1, output.shape[-1])

    def _extend(self, module: nn.Module, args: tuple[Tensor, ...], kwargs: Kwargs) -> tuple[tuple[Tensor, ...], Kwargs] | None:
        if self.extra is None:
            return None
        condition = torch.cat([kwargs["global_cond"], self.extra.masked.flatten(1)], dim=1)
        return args, kwargs | {"global_cond": condition}


def rgb_encoders(model: DiffusionModel) -> list[Any]:
    """The host's image encoders: none, one for all cameras, or one each."""
    if not model.config.image_features:
        return []
    return list(model.rgb_encoder) if model.config.use_separate_rgb_encoder_per_camera else [model.rgb_encoder]


class FuseDiffusionPolicy(Sensing, DiffusionPolicy):
    """Diffusion Policy that is also conditioned on touch, sound and the instruction."""

    config_class = FuseDiffusionConfig
    name = "fuse_diffusion"
    host_time_axis = True

    def __init__(self, config: FuseDiffusionConfig, **kwargs: Any) -> None:
        """`kwargs`: LeRobot passes dataset statistics and metadata, which the processors use and the model does not need."""
        super().__init__(config, **kwargs)
        image_width = 2 * config.spatial_softmax_num_keypoints  # x and y of each
        self.adapter = SensorAdapter(config, config.condition_width, image_width=image_width)
        self.slot = ConditionSlot(self.diffusion, self.adapter.tokens * config.condition_width)
        self.finish(config)

    def look(self, batch: dict[str, Any]) -> None:
        """Run the image encoders alone, and what else the host's condition is made of."""
        images = torch.stack([batch[key] for key in self.config.image_features], dim=-4)
        self.diffusion._prepare_global_conditioning(batch | {OBS_IMAGES: images})
