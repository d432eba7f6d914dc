"""Attention at the sizes of published policies: what tile shares, arithmetic bounds and timings are given for.

Axes: B batch, H query heads, G key-value heads, N queries, M keys, D width.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from handsight.kernels.layout import Segment, TokenLayout, blockwise_causal, cross, layout_of_mask, prefix_lm, with_prompt
from handsight.kernels.tiles import tile_map


@dataclass(frozen=True)
class TileShares:
    """Of all tiles of the score matrix."""

    full: float
    """Visited without a mask."""
    partial: float
    """Visited with one."""
    skipped: float
    """Never loaded."""


@dataclass(frozen=True)
class Workload:
    """One attention call of a policy."""

    name: str
    layout: TokenLayout
    batch: int
    heads: int
    groups: int
    width: int
    absent: tuple[slice, ...] = ()
    """Keys that are missing in every second row of the batch."""

    def present(self, device: torch.device) -> Tensor | None:
        """(B, M) bool, or None if every key is there."""
        if not self.absent:
            return None
        present = torch.ones(self.batch, self.layout.num_keys, dtype=torch.bool, device=device)
        for span in self.absent:
            present[::2, span] = False
        return present

    def tile_shares(self, block_n: int, block_m: int) -> TileShares:
        """Averages over the batch, for tiles of `block_n` queries by `block_m` keys."""
        maps = [tile_map(self.layout, block_n, block_m)]
        if self.absent:
            mask = self.layout.mask()
            for span in self.absent:
                mask[:, span] = False
            maps.append(tile_map(layout_of_mask(mask), block_n, block_m))
        full, skipped = (
            float(np.mean(shares)) for shares in zip(*((tiles.share_full, tiles.share_skipped) for tiles in maps), strict=True)
        )
        return TileShares(full, 1 - full - skipped, skipped)


def _pi0() -> TokenLayout:
    """Three pictures of 256 tokens and 48 of language see each other; the state sees them; 50 actions see everything."""
    prefix = [Segment(f"camera {i}", 256) for i in range(3)] + [Segment("language", 48)]
    return blockwise_causal([prefix, [Segment("state", 1)], [Segment("actions", 50)]])


def _fuse() -> TokenLayout:
    """24 tokens of language, then two steps of sensors, repeated language, an action readout and 24 language readouts."""
    steps = [
        [Segment(f"{name} {t}", n) for name, n in (("primary", 256), ("wrist", 64), ("touch", 2), ("audio", 16), ("words", 24))]
        for t in range(2)
    ]
    readouts = [[Segment(f"action readout {t}", 1), Segment(f"language readout {t}", 24)] for t in range(2)]
    return blockwise_causal([[Segment("language", 24)], *steps], [[], *readouts])


def _smolvla() -> TokenLayout:
    """Three pictures of 64 tokens, 48 of language and the state see each other; 50 actions see them and what came before."""
    prefix = [Segment(f"camera {i}", 64) for i in range(3)] + [Segment("language", 48), Segment("state", 1)]
    return prefix_lm(prefix, [Segment("actions", 50)])


def _prompted() -> TokenLayout:
    """76 prompt tokens before the 197 of a picture."""
    picture = [Segment("picture", 197)]
    return with_prompt(cross(picture, picture), Segment("prompt", 76))


# Sizes: pi0 (arXiv 2410.24164, PaliGemma 2B: 8 heads of 256 over one key-value head), SmolVLA (arXiv 2506.01844, SmolLM2: 15 heads of 64
# over 5; padded: without the third camera and with half of the language), FuSe (arXiv 2501.04693, Octo-small: 6 heads of 64), a ViT-B/16
# with text as deep prompt (12 heads of 64), a Q-Former that asks three pictures (arXiv 2301.12597: 32 queries, 12 heads of 64).
WORKLOADS: Final = (
    Workload("pi0, training", _pi0(), 32, 8, 1, 256),
    Workload("pi0, one flow step over the cached prefix", _pi0().asking("state", "actions"), 1, 8, 1, 256),
    Workload("FuSe, training", _fuse(), 32, 6, 6, 64),
    Workload("SmolVLA, training", _smolvla(), 32, 15, 5, 64),
    Workload("SmolVLA, training, half of the batch padded", _smolvla(), 32, 15, 5, 64, absent=(slice(128, 192), slice(216, 240))),
    Workload("SmolVLA, one flow step over the cached prefix", _smolvla().asking("actions"), 1, 15, 5, 64),
    Workload("deep prompt before a picture", _prompted(), 32, 12, 12, 64),
    Workload("32 queries over three pictures", cross([Segment("queries", 32)], [Segment("pictures", 768)]), 32, 12, 12, 64),
)
