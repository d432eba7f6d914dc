"""Pre- and postprocessing of fuse_act: ACT's, with our steps."""

from lerobot.policies.act.processor_act import make_act_pre_post_processors

from handsight.policies.fuse.processor_fuse import Pipelines, Stats
from handsight.policies.recipe.configuration_fuse_act import FuseActConfig
from handsight.policies.recipe.processor_recipe import hosts_stats, with_our_steps


def make_fuse_act_pre_post_processors(config: FuseActConfig, dataset_stats: Stats | None = None) -> Pipelines:
    """LeRobot finds this function by its name."""
    return with_our_steps(make_act_pre_post_processors(config, hosts_stats(dataset_stats)), config)
