"""What LeRobot discovers: importing this module registers everything handsight offers."""

from handsight.envs import lerobot
from handsight.policies.fuse import configuration_fuse, processor_fuse

__all__ = ["configuration_fuse", "lerobot", "processor_fuse"]
