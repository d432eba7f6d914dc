"""LeRobot's SmolVLA (arXiv 2506.01844) with `attend` for its attention.

    policy = SmolVLAPolicy.from_pretrained(name)
    swap_attention(policy)

Weights, checkpoints and configuration stay SmolVLA's own; a saved policy is a stock one again. Axes: B batch, H query heads, G key-value
heads, N queries, M keys, D width.
"""

from typing import Any

from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot.policies.smolvla.smolvlm_with_expert import SmolVLMWithExpertModel
from torch import Tensor

from handsight.kernels.dense import DenseMask
from handsight.kernels.given_mask import LayoutMask, prepared
from handsight.policies.recipe.modeling_fuse_smolvla import PrefixCache


def swap_attention(policy: SmolVLAPolicy) -> None:
    """Lets this policy, and what derives from it, compute attention by `attend`. Real tokens get what the stock policy gives them."""
    policy.model.vlm_with_expert.__class__ = AttendingSmolVlm


class AttendingSmolVlm(SmolVLMWithExpertModel):
    """SmolVLA's language model and expert with another attention: no heads are repeated, no scores are kept, nothing is cast to float32."""

    def forward(self, attention_mask: Tensor, *args: Any, **kwargs: Any) -> tuple[list[Tensor | None], PrefixCache | None]:
        """As the stock model. The cache that it returns can be shortened by any version of transformers."""
        # Layers ask with slices of one mask: prepared once, not once a layer.
        self._prepared: dict[tuple[int, ...], DenseMask | LayoutMask] = {}
        try:
            outputs, cache = super().forward(attention_mask, *args, **kwargs)
        finally:
            del self._prepared
        return outputs, None if cache is None else PrefixCache(cache)

    def get_attention_interface(self) -> Any:
        """The function that every layer calls."""
        return self._attend

    def _attend(self, mask: Tensor, batch_size: int, head_dim: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """mask (B, N, M), query (B, N, H, D), key and value (B, M, G, D) -> (B, N, H * D)."""
        known = (mask.storage_offset(), *mask.shape)  # which slice it is
        if known not in self._prepared:
            self._prepared[known] = prepared(mask)
        q, k, v = (x.transpose(1, 2).to(value.dtype) for x in (query, key, value))
        return self._prepared[known].attend(q, k, v, head_dim**-0.5).transpose(1, 2).flatten(2)
