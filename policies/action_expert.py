"""The transformer flow head: action tokens over a trunk's keys and values, in the manner of pi0's action expert.

pi0 (arXiv 2410.24164, section IV and appendix B) gives actions weights of their own in every layer of the trunk: they attend to the
layer's observation tokens, which do not attend back, and to all actions. The trunk therefore runs once an observation and the expert once
a flow step. Time enters by adaLN-Zero (Peebles & Xie, arXiv 2212.09748, section 3.2) where pi0 concatenates it to the actions: modulations
depend on time alone, so that those of a whole schedule are one product.

Axes: N samples, T actions of a chunk, A action dimension, S times, L layers, H heads, M prefix tokens, W width.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handsight.kernels.attention import attend
from handsight.kernels.layout import Segment, TokenLayout, blockwise_causal
from handsight.policies.backbone import Features
from handsight.policies.flow import Field, sinusoidal
from handsight.policies.prefix_cache import PrefixCache

TIME_FEATURES = 64
PARTS = 6  # of a block's modulation: gain, bias and gate, of attention and of the MLP


def expert_layout(prefix: Sequence[Segment], chunk: int) -> TokenLayout:
    """Actions that see the prefix and each other: pi0's last block, asked alone."""
    return blockwise_causal([prefix, [Segment("actions", chunk)]]).asking("actions")


class ExpertBlock(nn.Module):
    """Transformer block over [prefix; actions] whose normalisations are modulated; the identity while its gates are 0."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * heads * head_width)
        self.out = nn.Linear(heads * head_width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, modulation: Tensor, cache: PrefixCache, layer: int, layout: TokenLayout, present: Tensor) -> Tensor:
        """x (N, T, W), modulation (N or 1, 6 W), present (N, M + T) bool -> (N, T, W)."""
        gain1, bias1, gate1, gain2, bias2, gate2 = modulation.unsqueeze(1).chunk(PARTS, dim=-1)  # each (N or 1, 1, W)
        y = torch.addcmul(bias1, self.norm(x), 1 + gain1)
        q, k, v = self.qkv(y).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each (N, H, T, D)
        keys, values = cache.followed_by(layer, k, v)
        x = torch.addcmul(x, gate1, self.out(attend(q, keys, values, layout, present=present).transpose(1, 2).flatten(2)))
        y = torch.addcmul(bias2, self.norm(x), 1 + gain2)
        return torch.addcmul(x, gate2, self.mlp(y))


class ActionExpert(nn.Module):
    """Velocity of a chunk, an action a token: (x_t, t, prefix cache) -> dx/dt. A block for every layer of the trunk."""

    def __init__(self, prefix: Sequence[Segment], chunk: int, action_dim: int, *, width: int, layers: int, heads: int, head_width: int):
        """`heads` and `head_width` are the trunk's, whose keys the actions ask; `width` is the expert's own."""
        super().__init__()
        self.layout = expert_layout(prefix, chunk)
        self.enter = nn.Linear(action_dim, width)
        self.position = nn.Parameter(0.02 * torch.randn(chunk, width))
        self.time = nn.Sequential(nn.Linear(TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.modulate = nn.Linear(width, (PARTS * layers + 2) * width)
        self.blocks = nn.ModuleList(ExpertBlock(width, heads, head_width) for _ in range(layers))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.leave = nn.Linear(width, action_dim)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def context(self, features: Features, draws: int = 1) -> PrefixCache:
        """What `forward` reads of an observation, every row `draws` times."""
        assert features.prefix is not None, "FuseConfig asks for the transformer trunk"
        return features.prefix.repeat(draws)

    def forward(self, x: Tensor, t: Tensor, cache: PrefixCache) -> Tensor:
        """x (N, T, A), t (N,), a cache of N rows -> velocity (N, T, A)."""
        return self.at(x, self.modulations(t), cache)

    def fields(self, times: Tensor, features: Features) -> list[Field]:
        """The velocity at each of the times (S,): all modulations at once, and the prefix where every step can follow it."""
        cache = self.context(features).with_room(len(self.position))
        return [partial(self.at, modulation=modulation, cache=cache) for modulation in self.modulations(times).split(1)]

    def modulations(self, t: Tensor) -> Tensor:
        """Times (S,) -> (S, (6 L + 2) W): six parts a block, then gain and bias of the last normalisation."""
        modulations: Tensor = self.modulate(self.time(sinusoidal(t, TIME_FEATURES)))
        return modulations

    def at(self, x: Tensor, modulation: Tensor, cache: PrefixCache) -> Tensor:
        """The velocity (N, T, A) of x (N, T, A) at the time whose modulation (N or 1, (6 L + 2) W) is given."""
        y = self.enter(x) + self.position
        present = F.pad(cache.present, (0, x.shape[1]), value=True)
        width = y.shape[-1]
        *parts, last = modulation.split([PARTS * width] * len(self.blocks) + [2 * width], dim=-1)
        for layer, (block, part) in enumerate(zip(self.blocks, parts, strict=True)):
            y = block(y, part, cache, layer, self.layout, present)
        gain, bias = last.unsqueeze(1).chunk(2, dim=-1)
        velocity: Tensor = self.leave(torch.addcmul(bias, self.norm(y), 1 + gain))
        return velocity
