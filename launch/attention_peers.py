"""Attention as different libraries compute it on a CPU, behind one signature, at the shapes of published policies.

All take (B, N, H, D) and (B, M, G, D), as projections give them, and return (B, N, H * D), as the next projection takes it; masks are made
before. Axes: B batch, H query heads, G key-value heads, N queries, M keys, D width.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, cast

import torch
from lerobot.policies.smolvla.smolvlm_with_expert import SmolVLMWithExpertModel
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.gemma.modeling_gemma import eager_attention_forward

from handsight.kernels.attention import attend
from handsight.kernels.layout import Segment, TokenLayout, Visibility, blockwise_causal, layout_of_mask
from handsight.kernels.workloads import WORKLOADS

Contestant = Callable[[Tensor, Tensor, Tensor], Tensor]

LEROBOT: Final = "LeRobot eager (SmolVLA)"
GEMMA: Final = "transformers eager (pi0)"
SDPA: Final = "SDPA, dense mask"
FLEX: Final = "FlexAttention"
OURS: Final = "handsight attend"


@dataclass(frozen=True)
class Case:
    """One attention call of a policy."""

    name: str
    layout: TokenLayout
    batch: int
    heads: int
    groups: int
    width: int
    absent: tuple[slice, ...] = ()
    """Keys that are not there."""

    def inputs(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v of unit normal numbers."""
        sizes = ((self.layout.num_queries, self.heads), *((self.layout.num_keys, self.groups),) * 2)
        q, k, v = (torch.randn(self.batch, tokens, heads, self.width, generator=generator) for tokens, heads in sizes)
        return q, k, v

    def present(self) -> Tensor | None:
        """(B, M) bool, or None if every key is there."""
        if not self.absent:
            return None
        there = torch.ones(self.batch, self.layout.num_keys, dtype=torch.bool)
        for span in self.absent:
            there[:, span] = False
        return there

    def mask(self) -> Tensor:
        """(B, N, M) bool."""
        mask, there = torch.from_numpy(self.layout.mask())[None], self.present()
        return (mask if there is None else mask & there[:, None]).expand(self.batch, -1, -1).contiguous()


def contestants(case: Case) -> dict[str, Contestant]:
    """Every implementation for this case. FlexAttention compiles in its first call, and has no backward on a CPU."""
    layout, present, mask = case.layout, case.present(), case.mask()
    hidden = layout if present is None else layout_of_mask(mask[0].numpy())  # for FlexAttention, which keeps its mask if it is a layout
    sees_all = bool(mask.all())
    smolvla = SimpleNamespace(num_attention_heads=case.heads, num_key_value_heads=case.groups)
    gemma = cast(nn.Module, SimpleNamespace(num_key_value_groups=case.heads // case.groups, training=False))
    added = torch.where(mask[:, None], 0.0, torch.finfo(torch.float32).min)
    dense = None if sees_all else mask[:, None]  # nobody hands a mask to a kernel that needs none

    def lerobot(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return cast(Any, SmolVLMWithExpertModel.eager_attention_forward)(smolvla, mask, case.batch, case.width, q, k, v)

    def transformers_eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return cast(Any, eager_attention_forward)(gemma, *_by_heads(q, k, v), added, case.width**-0.5)[0].flatten(2)

    def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = _by_heads(q, k, v)
        return scaled_dot_product_attention(q, k, v, attn_mask=dense, enable_gqa=case.heads != case.groups).transpose(1, 2).flatten(2)

    def flex(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(*_by_heads(q, k, v), hidden, backend="flex").transpose(1, 2).flatten(2)

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(*_by_heads(q, k, v), layout, present=present).transpose(1, 2).flatten(2)

    return {LEROBOT: lerobot, GEMMA: transformers_eager, SDPA: sdpa, FLEX: flex, OURS: ours}


def _by_heads(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


def exact(case: Case, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v in float64, as the equation reads."""
    queries, keys, values = (x.double().transpose(1, 2) for x in (q, k, v))
    keys, values = (x.repeat_interleave(case.heads // case.groups, dim=1) for x in (keys, values))
    scores = (queries @ keys.transpose(-1, -2) / math.sqrt(case.width)).masked_fill(~case.mask()[:, None], -math.inf)
    return (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)


def _smolvla() -> TokenLayout:
    """Three pictures of 64 tokens and 48 of language see each other, the state sees them, 50 actions see both and what came before."""
    prefix = [Segment(f"camera {i}", 64) for i in range(3)] + [Segment("language", 48)]
    blocks = blockwise_causal([prefix, [Segment("state", 1)], [Segment("actions", 50)]])
    rows = (*blocks.visible[:-1], (*blocks.visible[-1][:-1], Visibility.CAUSAL))
    return TokenLayout(blocks.queries, blocks.keys, rows)


def _small() -> TokenLayout:
    """256 tokens of sensors and language see each other, 50 actions see everything."""
    return blockwise_causal([[Segment("observation", 256)], [Segment("actions", 50)]])


def _prefix(layout: TokenLayout) -> TokenLayout:
    names = [segment.name for segment in layout.keys if segment.name not in ("state", "actions")]
    return layout.asking(*names).seeing(*names)


def cases() -> tuple[Case, ...]:
    """SmolVLA (arXiv 2506.01844), pi0 (arXiv 2410.24164), FuSe (arXiv 2501.04693) and a small policy of ours, 384 wide."""
    known = {workload.name: workload.layout for workload in WORKLOADS}
    smolvla, pi0, fuse, small = _smolvla(), known["pi0, training"], known["FuSe, training"], _small()
    observed = smolvla.asking(*(segment.name for segment in smolvla.keys[:-1])).seeing(*(segment.name for segment in smolvla.keys[:-1]))
    return (
        Case("SmolVLA, prefix", observed, 1, 15, 5, 64),
        Case("SmolVLA, prefix, one camera and half of the language absent", observed, 1, 15, 5, 64, (slice(128, 192), slice(216, 240))),
        Case("SmolVLA, one flow step over the cached prefix", smolvla.asking("actions"), 1, 15, 5, 64),
        Case("SmolVLA, training, batch 4", smolvla, 4, 15, 5, 64),
        Case("pi0, prefix", _prefix(pi0), 1, 8, 1, 256),
        Case("pi0, one flow step over the cached prefix", pi0.asking("state", "actions"), 1, 8, 1, 256),
        Case("FuSe, two steps with readouts", fuse, 1, 6, 6, 64),
        Case("small, prefix and actions", small, 1, 6, 6, 64),
        Case("small, one flow step over the cached prefix", small.asking("actions"), 1, 6, 6, 64),
        Case("small, training, batch 8", small, 8, 6, 6, 64),
    )
