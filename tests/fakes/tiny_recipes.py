"""Tiny fuse_act, fuse_diffusion and fuse_smolvla policies, the stock policies that they come from, and batches for both."""

from pathlib import Path
from typing import Any

import lerobot.policies  # noqa: F401  registers the built-in policy types
import tiny_policies
import tiny_smolvla
import torch
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_policy_config

import lerobot_policy_handsight  # noqa: F401  registers ours

FRONT, STATE, TOUCH, AUDIO = (f"observation.{name}" for name in ("images.front", "state", "touch", "audio"))
SIZE = 64
HOSTS = ("act", "diffusion", "smolvla")
INSTRUCTIONS = ("pick up the red cube", "pick up the soft one", "the blue ball", "the hard can")


def features(labels: bool = False) -> dict[str, PolicyFeature]:
    state = FeatureType.STATE
    known = {
        FRONT: PolicyFeature(FeatureType.VISUAL, (3, SIZE, SIZE)),
        STATE: PolicyFeature(state, (15,)),
        TOUCH: PolicyFeature(state, (1536,)),
        AUDIO: PolicyFeature(state, (800,)),
    }
    return known | ({"observation.label.keyframe": PolicyFeature(state, (4,))} if labels else {})


def stats() -> dict[str, dict[str, torch.Tensor]]:
    shapes = {FRONT: (3, 1, 1), STATE: (15,), TOUCH: (1536,), AUDIO: (800,), "action": (7,)}
    values = {"mean": 0.1, "std": 0.5, "min": -1.0, "max": 1.0}
    return {key: {name: torch.full(shape, value) for name, value in values.items()} for key, shape in shapes.items()}


def config(kind: str, folder: Path, **overrides: Any) -> PreTrainedConfig:
    """Of a stock policy, or with the prefix `fuse_` of ours; `folder` is for what SmolVLA reads."""
    host = kind.removeprefix("fuse_")
    options = tiny_policies.OPTIONS.get(host, tiny_smolvla.OPTIONS)
    if host == "smolvla":
        options = options | {"vlm_model_name": str(tiny_smolvla.save(folder / "vlm"))}
    outputs = {"action": PolicyFeature(FeatureType.ACTION, (7,))}
    fixed = {"input_features": features(), "output_features": outputs, "device": "cpu", "push_to_hub": False}
    return make_policy_config(kind, **(fixed | options | overrides))


def build(kind: str, folder: Path, **overrides: Any) -> Any:
    """Weights from seed 0, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = config(kind, folder, **overrides)
        return get_policy_class(kind)(settings).eval()


def history(settings: Any, key: str) -> tuple[int, ...]:
    return tuple(settings.history_of(key)) if hasattr(settings, "history_of") else tuple(settings.observation_delta_indices or (0,))


def raw_batch(settings: Any, rows: int = 3, seed: int = 0) -> dict[str, Any]:
    """What a dataloader gives: windows where a key has a history, no time axis where it has none."""
    g = torch.Generator().manual_seed(seed)

    def window(key: str, *shape: int) -> torch.Tensor:
        steps = len(history(settings, key))
        return torch.rand(rows, *((steps,) if steps > 1 else ()), *shape, generator=g)

    actions = len(settings.action_delta_indices)
    return {
        FRONT: window(FRONT, 3, SIZE, SIZE),
        STATE: window(STATE, 15),
        TOUCH: 50 * window(TOUCH, 1536),
        AUDIO: (window(AUDIO, 800) * 2000).to(torch.int16),
        "action": 2 * torch.rand(rows, actions, 7, generator=g) - 1,
        "action_is_pad": torch.zeros(rows, actions, dtype=torch.bool),
        "task": [INSTRUCTIONS[i % len(INSTRUCTIONS)] for i in range(rows)],
    }


def frames(settings: Any, steps: int, rows: int = 1, seed: int = 0) -> list[dict[str, Any]]:
    """What a rollout gives: single frames, touch in its taxel shape, audio as float."""
    result = []
    for step in range(steps):
        g = torch.Generator().manual_seed(1000 * seed + step)
        result.append(
            {
                FRONT: torch.rand(rows, 3, SIZE, SIZE, generator=g),
                STATE: torch.rand(rows, 15, generator=g),
                TOUCH: 50 * torch.rand(rows, 2, 3, 16, 16, generator=g),
                AUDIO: torch.rand(rows, 800, generator=g) / 16,
                "task": [INSTRUCTIONS[i % len(INSTRUCTIONS)] for i in range(rows)],
            }
        )
    return result


def chunk(policy: Any, batch: dict[str, Any]) -> torch.Tensor:
    """The chunk of a fixed noise."""
    settings = policy.config
    host = settings.type.removeprefix("fuse_")
    if host == "act":
        return policy.predict_action_chunk(batch)
    shape = (settings.horizon, 7) if host == "diffusion" else (settings.chunk_size, settings.max_action_dim)
    noise = torch.randn(len(batch["action"]), *shape, generator=torch.Generator().manual_seed(5))
    return policy.predict_action_chunk(batch, noise=noise)


def agitate(policy: Any) -> Any:
    """Layers that start at zero hide what flows through them: give every weight of the adapter a value."""
    g = torch.Generator().manual_seed(1)
    for name, p in policy.named_parameters():
        if name.startswith("adapter.") or name.endswith(".extra"):
            p.data += 0.1 * torch.randn(p.shape, generator=g)
    return policy
