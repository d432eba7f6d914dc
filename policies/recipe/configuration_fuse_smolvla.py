"""Configuration of LeRobot's SmolVLA with touch and sound; `type` is "fuse_smolvla" for LeRobot."""

from dataclasses import dataclass

from lerobot.configs import PreTrainedConfig
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig

from handsight.policies.recipe.options import SensorOptions


@PreTrainedConfig.register_subclass("fuse_smolvla")
@dataclass
class FuseSmolVlaConfig(SensorOptions, SmolVLAConfig):
    """SmolVLA's own fields, and those of the adapter."""

    read_instruction: bool = False
    """SmolVLA reads the instruction itself."""
