"""Pre- and postprocessing of fuse_smolvla: SmolVLA's, with our steps."""

from lerobot.policies.smolvla.processor_smolvla import make_smolvla_pre_post_processors

from handsight.policies.fuse.processor_fuse import Pipelines, Stats
from handsight.policies.recipe.configuration_fuse_smolvla import FuseSmolVlaConfig
from handsight.policies.recipe.processor_recipe import hosts_stats, with_our_steps


def make_fuse_smolvla_pre_post_processors(config: FuseSmolVlaConfig, dataset_stats: Stats | None = None) -> Pipelines:
    """LeRobot finds this function by its name."""
    return with_our_steps(make_smolvla_pre_post_processors(config, hosts_stats(dataset_stats)), config)
