"""LeRobot's own policies, tiny and untrained, saved with their processors as its trainer saves them."""

from pathlib import Path
from typing import Any

import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors
from lerobot.processor import RenameObservationsProcessorStep

FRONT = "observation.images.front"
SHAPES = {"touch": (1536,), "audio": (800,)}
OPTIONS: dict[str, dict[str, Any]] = {
    "act": {
        **dict.fromkeys(("chunk_size", "n_action_steps", "latent_dim"), 4),
        **dict.fromkeys(("n_encoder_layers", "n_vae_encoder_layers"), 1),
        "n_heads": 2,
        "dim_model": 32,
        "dim_feedforward": 32,
        "pretrained_backbone_weights": None,
    },
    "diffusion": {
        **dict.fromkeys(("n_action_steps", "n_groups", "spatial_softmax_num_keypoints"), 4),
        "horizon": 8,
        "down_dims": (16, 32),
        "use_group_norm": True,  # a batch norm has nothing to average over in a picture this small
        "diffusion_step_embed_dim": 16,
        "pretrained_backbone_weights": None,
        "num_train_timesteps": 10,
        "num_inference_steps": 2,
        "noise_scheduler_type": "DDIM",
    },
    # plans with both torch's and NumPy's global generators, and keeps its last plan
    "tdmpc": {
        **dict.fromkeys(("image_encoder_hidden_dim", "latent_dim", "n_pi_samples", "n_elites"), 4),
        **dict.fromkeys(("state_encoder_hidden_dim", "mlp_dim", "n_gaussian_samples"), 8),
        "cem_iterations": 2,
    },
}


def save(kind: str, folder: Path, image_size: int = 32, sensors: tuple[str, ...] = (), **options: Any) -> Path:
    """Saves a policy of this kind that sees the front camera, the state and `sensors`."""
    front = "observation.image" if kind == "tdmpc" else FRONT  # the only name that it reads
    inputs = {
        front: PolicyFeature(FeatureType.VISUAL, (3, image_size, image_size)),
        "observation.state": PolicyFeature(FeatureType.STATE, (15,)),
        **{f"observation.{name}": PolicyFeature(FeatureType.STATE, SHAPES.get(name, (4,))) for name in sensors},
    }
    outputs = {"action": PolicyFeature(FeatureType.ACTION, (7,))}
    features: dict[str, Any] = {"input_features": inputs, "output_features": outputs, "device": "cpu", "push_to_hub": False}
    config = make_policy_config(kind, **features, **(OPTIONS[kind] | options))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy = get_policy_class(kind)(config)
    preprocessor, postprocessor = make_pre_post_processors(config, dataset_stats=_statistics(inputs | outputs))
    if front != FRONT:
        [rename] = (step for step in preprocessor.steps if isinstance(step, RenameObservationsProcessorStep))
        rename.rename_map = {FRONT: front}
    for part in (policy, preprocessor, postprocessor):
        part.save_pretrained(folder)
    return folder


def _statistics(features: dict[str, PolicyFeature]) -> dict[str, dict[str, torch.Tensor]]:
    values = {"mean": 0.1, "std": 0.5, "min": -1.0, "max": 1.0}
    shapes = {key: (3, 1, 1) if feature.type is FeatureType.VISUAL else tuple(feature.shape) for key, feature in features.items()}
    return {key: {name: torch.full(shape, value) for name, value in values.items()} for key, shape in shapes.items()}
