"""Heads that read a policy's language readouts: pooling, the contrastive embeddings, and what the readouts are where a trunk has none.

Axes: B batch, C texts a row, R readouts, N tokens, Q queries, H heads, D width, E embedding.
"""

import torch
from torch import Tensor, nn

from handsight.kernels.attention import attend
from handsight.kernels.layout import Segment, cross
from handsight.policies.encoders import SensorTokens, TokenGroup
from handsight.policies.fuse.losses import INITIAL_LOGIT_SCALE, UPSTREAM_LOGIT_SCALE
from handsight.policies.text import TextFeatures


class MapHead(nn.Module):
    """Multi-head attention pooling (Lee et al. 2019, "Set Transformer"; as in Octo): learned queries attend, then y + MLP(LN(y)).

    No residual on the queries. Raises ValueError unless the heads divide the width.
    """

    def __init__(self, width: int, queries: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"expected heads that divide the width {width}, got {heads}")
        self.heads = heads
        self.query = nn.Parameter(0.02 * torch.randn(queries, width))
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """x (B, N, D), present (B, N) bool -> (B, Q, D)."""
        batch, tokens, _ = x.shape
        queries = len(self.query)
        q = self.q(self.query).view(queries, self.heads, -1).transpose(0, 1).expand(batch, -1, -1, -1)  # (B, H, Q, D / H)
        k, v = self.kv(x).view(batch, tokens, 2, self.heads, -1).permute(2, 0, 3, 1, 4)  # each (B, H, N, D / H)
        layout = cross([Segment("queries", queries)], [Segment("tokens", tokens)])
        y = self.out(attend(q, k, v, layout, present=present).transpose(1, 2).flatten(2))
        pooled: Tensor = y + self.mlp(self.norm(y))
        return pooled


class ContrastiveHead(nn.Module):
    """Embeds the sensors' readouts and the policy's own text features in one space.

    With `upstream_compat` texts are pooled from their tokens by the sensors' pooling and the scale is a multiplier that starts at 1.
    """

    def __init__(self, width: int, text_width: int, embedding: int, heads: int, *, upstream_compat: bool) -> None:
        super().__init__()
        self.pool = MapHead(width, 1, heads)
        self.sensors = nn.Linear(width, embedding)
        self.texts = nn.Linear(width if upstream_compat else text_width, embedding)
        self.tokens = nn.Linear(text_width, width) if upstream_compat else None
        self.logit_scale = nn.Parameter(torch.tensor(UPSTREAM_LOGIT_SCALE if upstream_compat else INITIAL_LOGIT_SCALE))

    def embed_sensors(self, readouts: Tensor) -> Tensor:
        """(B, R, D) -> (B, E)."""
        embedded: Tensor = self.sensors(self.pool(readouts)[:, 0])
        return embedded

    def embed_texts(self, text: TextFeatures) -> Tensor:
        """Features of B texts -> (B, E)."""
        pooled = text.pooled if self.tokens is None else self.pool(self.tokens(text.tokens))[:, 0]
        embedded: Tensor = self.texts(pooled)
        return embedded


class ConditionReadouts(nn.Module):
    """R readouts of a trunk that has only a condition vector (B, C): a learned projection."""

    def __init__(self, condition_width: int, readouts: int, width: int) -> None:
        super().__init__()
        self.readouts = readouts
        self.project = nn.Linear(condition_width, readouts * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, condition: Tensor) -> Tensor:
        """(B, C) -> (B, R, D)."""
        normed: Tensor = self.norm(self.project(condition).unflatten(1, (self.readouts, -1)))
        return normed


class TokenReadouts(nn.Module):
    """R readouts of encoded sensors: each sensor's tokens to a few units, all units to the readouts.

    What decides an action is little of what can be said: from tokens of a policy for seven tasks a decoder learned color to an F1 of 0.81,
    from the condition to 0.24 (256 000 sentences, everything else frozen; one seed, held-out episodes of the demonstrations).
    """

    units = 48

    def __init__(self, groups: tuple[TokenGroup, ...], readouts: int, width: int) -> None:
        super().__init__()
        self.readouts = readouts
        self.sizes = [group.tokens for group in groups]
        self.parts = nn.ModuleList(nn.Linear(tokens * width, self.units) for tokens in self.sizes)
        self.hidden = nn.Sequential(nn.LayerNorm(self.units * len(groups)), nn.SiLU())
        self.combine = nn.Linear(self.units * len(groups), readouts * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, sensors: SensorTokens) -> Tensor:
        """N tokens a row, some of them absent ones -> (B, R, D)."""
        split = sensors.tokens.split(self.sizes, dim=1)
        hidden = self.hidden(torch.cat([part(tokens.flatten(1)) for part, tokens in zip(self.parts, split, strict=True)], dim=1))
        normed: Tensor = self.norm(self.combine(hidden).unflatten(1, (self.readouts, -1)))
        return normed
