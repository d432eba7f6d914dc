"""Configuration of LeRobot's ACT with touch, sound and language; `type` is "fuse_act" for LeRobot."""

from dataclasses import dataclass

from lerobot.configs import PreTrainedConfig
from lerobot.policies.act.configuration_act import ACTConfig

from handsight.policies.recipe.options import SensorOptions


@PreTrainedConfig.register_subclass("fuse_act")
@dataclass
class FuseActConfig(SensorOptions, ACTConfig):
    """ACT's own fields, and those of the adapter."""
