"""Trunks and the flow head. A trunk turns sensor and text tokens into one condition; the head turns it into a velocity.

Two trunks share one signature: `mlp` concatenates everything (learns best per CPU minute), `transformer` attends blockwise causally
and reads out (paper scale). Axes: B batch, N tokens, D token width, C condition width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handsight.kernels.attention import attend
from handsight.kernels.layout import Segment, TokenLayout, blockwise_causal
from handsight.policies.encoders import SensorTokens, TokenGroup
from handsight.policies.flow import Field, sinusoidal
from handsight.policies.prefix_cache import PrefixCache
from handsight.policies.text import TextFeatures

READOUTS: Final = ("action", "language")
"""Names of the transformer's readout segments, which come last."""


@dataclass(frozen=True)
class Features:
    """What any loss or head may read of one batch."""

    condition: Tensor  # (B, C) what the flow head sees
    readouts: Tensor  # (B, R, D) language readouts of the transformer; R = 0 for the mlp trunk
    sensors: SensorTokens
    text: TextFeatures
    prefix: PrefixCache | None
    """What the layers of the transformer know of instruction and sensors; None for the mlp trunk."""


class MlpTrunk(nn.Module):
    """Concatenate all tokens, flags and the instruction; two layers to the condition.

    The hidden layer is normalised: a step of Adam moves a sum over two thousand inputs by a half, and without it nine units of ten were
    closed for good after seven tasks, to every sensor that was added later.
    """

    hidden = 384

    def __init__(self, groups: tuple[TokenGroup, ...], width: int, text_width: int, condition_width: int) -> None:
        super().__init__()
        inputs = sum(group.tokens for group in groups) * width + len(groups) + text_width
        self.mlp = nn.Sequential(
            nn.Linear(inputs, self.hidden), nn.LayerNorm(self.hidden), nn.SiLU(), nn.Linear(self.hidden, condition_width)
        )

    def forward(self, sensors: SensorTokens, text: TextFeatures) -> Features:
        flags = sensors.present.to(sensors.tokens.dtype)
        condition = self.mlp(torch.cat([sensors.tokens.flatten(1), flags, text.pooled], dim=1))
        return Features(condition, sensors.tokens[:, :0], sensors, text, None)


@dataclass(frozen=True)
class Arrangement:
    """Sensor tokens in causal order: one block for the instruction, then one block for each time step, readouts in the last."""

    layout: TokenLayout
    order: tuple[int, ...]
    """For each sensor token of the layout, its place in `SensorTokens.tokens`."""


def arrange(groups: tuple[TokenGroup, ...], words: int, language_readouts: int) -> Arrangement:
    """FuSe's (and Octo's) layout: within a step all sensors see each other, across steps the past alone, readouts see everything."""
    starts = [sum(group.tokens for group in groups[:i]) for i in range(len(groups))]
    blocks = [[Segment("instruction", words)]]
    order: list[int] = []
    for offset in sorted({offset for group in groups for offset in group.offsets}):
        block = []
        for group, start in zip(groups, starts, strict=True):
            if offset in group.offsets:
                block.append(Segment(f"{group.name}{offset}", group.tokens_per_step))
                first = start + group.offsets.index(offset) * group.tokens_per_step
                order.extend(range(first, first + group.tokens_per_step))
        blocks.append(block)
    lengths = zip(READOUTS, (1, language_readouts), strict=True)
    readouts = [Segment(name, length) for name, length in lengths if length]
    layout = blockwise_causal(blocks, [*[[] for _ in blocks[1:]], readouts])
    return Arrangement(layout, tuple(order))


class AttentionBlock(nn.Module):
    """Pre-norm transformer block over a token layout."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, layout: TokenLayout, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, N, D), present (B, N) bool -> (B, N, D), and the keys and values (B, H, N, D / H) that it attended to."""
        q, k, v = self.qkv(self.norm1(x)).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each (B, H, N, D / H)
        x = x + self.out(attend(q, k, v, layout, present=present).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x)), k, v


class TransformerTrunk(nn.Module):
    """Blockwise-causal transformer with readouts (Octo, arXiv 2405.12213; FuSe, arXiv 2501.04693)."""

    order: Tensor

    def __init__(
        self,
        groups: tuple[TokenGroup, ...],
        width: int,
        text_width: int,
        condition_width: int,
        *,
        words: int,
        layers: int,
        heads: int,
        language_readouts: int,
    ) -> None:
        super().__init__()
        arrangement = arrange(groups, words, language_readouts)
        self.layout = arrangement.layout
        self.register_buffer("order", torch.tensor(arrangement.order), persistent=False)
        self.text = nn.Linear(text_width, width)
        self.position = nn.Parameter(0.02 * torch.randn(self.layout.num_keys, width))
        self.blocks = nn.ModuleList(AttentionBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, condition_width)

    def forward(self, sensors: SensorTokens, text: TextFeatures) -> Features:
        # A missing sensor's learned tokens stay visible: they are the flag that says so. Pads of the instruction are not.
        known = torch.cat([self.text(text.tokens), sensors.tokens[:, self.order]], dim=1)
        seen = known.shape[1]
        reads = self.layout.num_keys - seen
        x = F.pad(known, (0, 0, 0, reads)) + self.position
        present = F.pad(text.mask, (0, self.layout.num_keys - text.mask.shape[1]), value=True)
        keys, values = [], []
        for block in self.blocks:
            x, k, v = block(x, self.layout, present)
            keys.append(k[:, :, :seen])
            values.append(v[:, :, :seen])
        readouts = self.norm(x[:, seen:])
        cache = PrefixCache(tuple(keys), tuple(values), present[:, :seen])
        return Features(self.out(readouts[:, 0]), readouts[:, 1:], sensors, text, cache)

    @property
    def prefix(self) -> tuple[Segment, ...]:
        """The segments that `Features.prefix` holds: all but the readouts, which nobody sees."""
        return tuple(segment for segment in self.layout.keys if segment.name not in READOUTS)


class AdaLnBlock(nn.Module):
    """Residual MLP block whose normalisation is modulated by the condition, closed at initialisation (adaLN-Zero, Peebles & Xie 2023)."""

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(condition_width, 3 * width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.at(x, self.modulate(condition))

    def at(self, x: Tensor, modulation: Tensor) -> Tensor:
        """x (B, W), its modulation (B, 3 W) -> (B, W)."""
        gain, bias, gate = modulation.chunk(3, dim=-1)
        y = torch.addcmul(bias, self.norm(x), 1 + gain)
        return torch.addcmul(x, gate, self.down(F.silu(self.up(y))))


class FlowHead(nn.Module):
    """Velocity of a whole action chunk: (x_t, t, condition) -> dx/dt, all actions in one vector."""

    def __init__(self, chunk: int, action_dim: int, condition_width: int, width: int, blocks: int, *, modulates_once: bool = False) -> None:
        super().__init__()
        self.shape = (chunk, action_dim)
        self.modulates_once = modulates_once
        self.time = nn.Linear(64, condition_width)
        self.enter = nn.Linear(chunk * action_dim, width)
        self.blocks: Sequence[AdaLnBlock] = nn.ModuleList(AdaLnBlock(width, condition_width) for _ in range(blocks))  # type: ignore[assignment] # torch's list is not generic
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, chunk * action_dim))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """x (N, chunk, A), t (N,), condition (N, C) -> velocity (N, chunk, A)."""
        return self.at(x, self._modulations(condition + self.time(sinusoidal(t, 64))))

    def context(self, features: Features, draws: int = 1) -> Tensor:
        """What `forward` reads of an observation, every row `draws` times."""
        return features.condition.repeat_interleave(draws, dim=0)

    def fields(self, times: Tensor, features: Features) -> list[Field]:
        """The velocity at each of the times (S,)."""
        condition = self.context(features)
        if self.modulates_once:
            return [partial(self.at, modulation=modulation) for modulation in self.modulations(times, condition)]
        return [partial(self, t=t.expand(len(condition)), condition=condition) for t in times]

    def modulations(self, times: Tensor, condition: Tensor) -> Tensor:
        """Times (S,), condition (B, C) -> (S, B, blocks, 3 W): those of a whole schedule, one product a block."""
        c = condition + self.time(sinusoidal(times, 64)).unsqueeze(1)  # (S, B, C)
        return self._modulations(c.flatten(0, 1)).unflatten(0, c.shape[:2])

    def _modulations(self, c: Tensor) -> Tensor:
        """(N, C) -> (N, blocks, 3 W)."""
        c = F.silu(c)
        return torch.stack([block.modulate(c) for block in self.blocks], dim=1)

    def at(self, x: Tensor, modulation: Tensor) -> Tensor:
        """The velocity (N, chunk, A) of x (N, chunk, A) where modulations (N, blocks, 3 W) are given."""
        y = self.enter(x.flatten(1))
        for block, part in zip(self.blocks, modulation.unbind(1), strict=True):
            y = block.at(y, part)
        velocity: Tensor = self.leave(y).view(-1, *self.shape)
        return velocity
