"""Configuration of LeRobot's Diffusion Policy with touch, sound and language; `type` is "fuse_diffusion" for LeRobot."""

from dataclasses import dataclass

from lerobot.configs import PreTrainedConfig
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig

from handsight.policies.recipe.options import SensorOptions


@PreTrainedConfig.register_subclass("fuse_diffusion")
@dataclass
class FuseDiffusionConfig(SensorOptions, DiffusionConfig):
    """Diffusion Policy's own fields, and those of the adapter."""

    condition_width: int = 32
    """Width of each token of touch, sound and the instruction in the U-Net's condition."""
