"""LeRobot's pi0 (arXiv 2410.24164) and pi0.5 (arXiv 2504.16054) with `attend` for their attention.

    policy = PI0Policy.from_pretrained(name)
    swap_attention(policy)

The stock models call eager attention by name in training, force it in sampling, and hand their mask to a function of transformers whose
signature has changed since. So their layers are run here: one function for the joint pass of both models and for either alone. Weights,
checkpoints and configuration stay their own; a saved policy is a stock one again.

Axes: B batch, H query heads, G key-value heads, N tokens of all streams, M keys, D head width, W stream width.
"""

from collections.abc import Sequence
from typing import Any

import torch
from lerobot.policies.pi0.modeling_pi0 import PaliGemmaWithExpertModel as Pi0Models
from lerobot.policies.pi0.modeling_pi0 import PI0Policy
from lerobot.policies.pi05.modeling_pi05 import PaliGemmaWithExpertModel as Pi05Models
from lerobot.policies.pi05.modeling_pi05 import PI05Policy
from lerobot.policies.pi_gemma import layernorm_forward
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache
from transformers.models.gemma.modeling_gemma import apply_rotary_pos_emb

from handsight.kernels.dense import DenseMask
from handsight.kernels.given_mask import LayoutMask, prepared


def swap_attention(policy: PI0Policy | PI05Policy) -> None:
    """Lets this policy compute attention by `attend`. Real tokens get what the stock policy gives them."""
    models = policy.model.paligemma_with_expert
    models.__class__ = AttendingPi0 if isinstance(models, Pi0Models) else AttendingPi05


class _Attending:
    """What both models share. A stream is the prefix, which PaliGemma processes, or the suffix, which the action expert does."""

    paligemma: Any
    gemma_expert: Any
    training: bool

    def forward(
        self,
        attention_mask: Tensor,
        position_ids: Tensor,
        past_key_values: DynamicCache | None = None,
        inputs_embeds: Sequence[Tensor | None] = (),
        use_cache: bool | None = None,
        adarms_cond: Sequence[Tensor | None] | None = None,
    ) -> tuple[list[Tensor | None], DynamicCache | None]:
        """As the stock model: mask (B, 1, N, M), 0 or hugely negative; positions (B, N); streams (B, tokens, W) or None.

        Returns:
            Both streams' outputs, and the cache if `use_cache`; `past_key_values` grows by the new tokens.
        """
        models = (self.paligemma.model.language_model, self.gemma_expert.model)
        conditions = adarms_cond or (None, None)
        used = [i for i, stream in enumerate(inputs_embeds) if stream is not None]
        streams = [_as_weights(stream, models[i]) for i, stream in enumerate(inputs_embeds) if stream is not None]
        chosen, conditions = [models[i] for i in used], [conditions[i] for i in used]
        cache = DynamicCache() if use_cache and past_key_values is None else past_key_values
        mask = prepared(attention_mask[:, 0] == 0)
        rotation = chosen[0].rotary_emb(streams[0], position_ids)
        for index in range(len(chosen[0].layers)):
            arguments = ([model.layers[index] for model in chosen], streams, conditions, mask, rotation, cache)
            if self.training and any(model.gradient_checkpointing for model in models):
                streams = checkpoint(_layer, *arguments, use_reentrant=False, preserve_rng_state=False)
            else:
                streams = _layer(*arguments)
        outputs: list[Tensor | None] = [None, None]
        for i, model, stream, condition in zip(used, chosen, streams, conditions, strict=True):
            outputs[i] = layernorm_forward(model.norm, stream, condition)[0]
        return outputs, cache if use_cache else None


class AttendingPi0(_Attending, Pi0Models):
    """pi0's two models with another attention."""


class AttendingPi05(_Attending, Pi05Models):
    """pi0.5's two models with another attention."""


def _layer(
    layers: Sequence[Any],
    streams: Sequence[Tensor],
    conditions: Sequence[Tensor | None],
    mask: DenseMask | LayoutMask,
    rotation: tuple[Tensor, Tensor],
    cache: DynamicCache | None,
) -> list[Tensor]:
    """One layer of every stream; their tokens attend together."""
    normed = [
        layernorm_forward(layer.input_layernorm, x, condition) for layer, x, condition in zip(layers, streams, conditions, strict=True)
    ]
    q, k, v = (
        torch.cat([_heads(layer.self_attn, name, x) for layer, (x, _) in zip(layers, normed, strict=True)], dim=2)
        for name in ("q_proj", "k_proj", "v_proj")
    )
    q, k = apply_rotary_pos_emb(q, k, *rotation)
    if cache is not None:
        k, v = cache.update(k, v, layers[0].self_attn.layer_idx)
    seen = mask.attend(q.to(v.dtype), k.to(v.dtype), v, layers[0].self_attn.scaling).transpose(1, 2).flatten(2)  # (B, N, H * D)
    parts = seen.split([x.shape[1] for x in streams], dim=1)
    return [
        _after_attention(layer, x, part, gate, condition)
        for layer, x, part, (_, gate), condition in zip(layers, streams, parts, normed, conditions, strict=True)
    ]


def _after_attention(layer: Any, x: Tensor, seen: Tensor, gate: Tensor | None, condition: Tensor | None) -> Tensor:
    """Projection, residual and feed-forward of one stream (B, tokens, W)."""
    x = _add(x, layer.self_attn.o_proj(seen.to(layer.self_attn.o_proj.weight.dtype)), gate)
    hidden, gate = layernorm_forward(layer.post_attention_layernorm, x, condition)
    return _add(x, layer.mlp(hidden.to(layer.mlp.up_proj.weight.dtype)), gate)


def _add(x: Tensor, update: Tensor, gate: Tensor | None) -> Tensor:
    return x + (update if gate is None else update * gate)


def _heads(attention: Any, name: str, x: Tensor) -> Tensor:
    """(B, tokens, W) -> (B, heads, tokens, D)."""
    projection = getattr(attention, name)
    heads: Tensor = projection(x.to(projection.weight.dtype)).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
    return heads


def _as_weights(stream: Tensor, model: Any) -> Tensor:
    """Like the stock models: half precision where the projections are."""
    dtype = model.layers[0].self_attn.q_proj.weight.dtype
    return stream.to(dtype) if dtype == torch.bfloat16 else stream
