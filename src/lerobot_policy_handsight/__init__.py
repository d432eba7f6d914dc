"""What LeRobot discovers: importing this module registers everything handsight offers."""

from handsight.envs import lerobot
from handsight.policies.fuse import configuration_fuse, processor_fuse
from handsight.policies.recipe import configuration_fuse_act, configuration_fuse_diffusion, configuration_fuse_smolvla, processor_recipe

__all__ = [
    "configuration_fuse",
    "configuration_fuse_act",
    "configuration_fuse_diffusion",
    "configuration_fuse_smolvla",
    "lerobot",
    "processor_fuse",
    "processor_recipe",
]
