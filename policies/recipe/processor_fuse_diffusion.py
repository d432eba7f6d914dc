"""Pre- and postprocessing of fuse_diffusion: Diffusion Policy's, with our steps."""

from lerobot.policies.diffusion.processor_diffusion import make_diffusion_pre_post_processors

from handsight.policies.fuse.processor_fuse import Pipelines, Stats
from handsight.policies.recipe.configuration_fuse_diffusion import FuseDiffusionConfig
from handsight.policies.recipe.processor_recipe import hosts_stats, with_our_steps


def make_fuse_diffusion_pre_post_processors(config: FuseDiffusionConfig, dataset_stats: Stats | None = None) -> Pipelines:
    """LeRobot finds this function by its name."""
    return with_our_steps(make_diffusion_pre_post_processors(config, hosts_stats(dataset_stats)), config)
