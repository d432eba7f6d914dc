"""Tiny pi0 and pi0.5, untrained: LeRobot builds them at full size whatever its configuration says, so the sizes are patched."""

import importlib
from typing import Any
from unittest import mock

import torch
from lerobot.policies.pi_gemma import create_causal_mask
from transformers import PaliGemmaConfig

WIDTH, VISION_WIDTH, CHUNK = 32, 16, 4
SIZES = {"width": WIDTH, "depth": 2, "mlp_dim": 48, "num_heads": 8, "num_kv_heads": 1, "head_dim": 8}


def build(kind: str) -> Any:
    """A policy of type "pi0" or "pi05" in training mode; weights from seed 0, large enough for attention to matter."""
    module = importlib.import_module(f"lerobot.policies.{kind}.modeling_{kind}")
    configuration = importlib.import_module(f"lerobot.policies.{kind}.configuration_{kind}")
    name = kind.upper()
    small = module.GemmaConfig(**SIZES)
    fixed = {"device": "cpu", "chunk_size": CHUNK, "n_action_steps": CHUNK, "num_inference_steps": 2, "image_resolution": (28, 28)}
    config = getattr(configuration, f"{name}Config")(**fixed)
    mapping = dict(module.CONFIG_MAPPING.items()) | {"paligemma": _paligemma}
    sizes, models = mock.patch.object(module, "get_gemma_config", return_value=small), mock.patch.object(module, "CONFIG_MAPPING", mapping)
    with sizes, models, torch.random.fork_rng():
        torch.manual_seed(0)
        policy = getattr(module, f"{name}Policy")(config)
        # LeRobot fixes the projector's width to that of the full language model.
        policy.model.paligemma_with_expert.paligemma.model.multi_modal_projector.linear = torch.nn.Linear(VISION_WIDTH, WIDTH)
        for weight in policy.model.parameters():
            if weight.ndim == 2:
                weight.data.normal_(std=0.2)
    return policy.train()


def mask_without_cache_position(*args: Any, cache_position: Any = None, **kwargs: Any) -> Any:
    """What LeRobot 0.6.1 calls in sampling, for the transformers versions that no longer take `cache_position`."""
    return create_causal_mask(*args, **kwargs)


def _paligemma() -> PaliGemmaConfig:
    vision = {"model_type": "siglip_vision_model", "hidden_size": VISION_WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14, "intermediate_size": 24, "projection_dim": WIDTH}
    return PaliGemmaConfig(vision_config=vision, text_config={"model_type": "gemma", "num_hidden_layers": 2}, projection_dim=WIDTH)
