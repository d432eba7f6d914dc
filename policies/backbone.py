"""Trunks and the flow head. A trunk turns sensor and text tokens into one condition; the head turns it into a velocity.

Two trunks share one signature: `mlp` concatenates everything (learns best per CPU minute), `transformer` attends blockwise causally
and reads out (paper scale). Axes: B batch, N tokens, D token width, C condition width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch users expect
from torch import Tensor, nn

from handsight.policies.encoders import SensorTokens, TokenGroup, sinusoidal
from handsight.policies.text import TextFeatures


@dataclass(frozen=True)
class Features:
    """What any loss or head may read of one batch."""

    condition: Tensor  # (B, C) what the flow head sees
    readouts: Tensor  # (B, R, D') contextualised readout tokens; the condition alone (R = 1) for the mlp trunk
    sensors: SensorTokens
    text: TextFeatures


class MlpTrunk(nn.Module):
    """Concatenate all tokens, flags and the instruction; two layers to the condition."""

    hidden = 384

    def __init__(self, groups: tuple[TokenGroup, ...], width: int, text_width: int, condition_width: int) -> None:
        super().__init__()
        inputs = sum(group.tokens for group in groups) * width + len(groups) + text_width
        self.mlp = nn.Sequential(nn.Linear(inputs, self.hidden), nn.SiLU(), nn.Linear(self.hidden, condition_width))

    def forward(self, sensors: SensorTokens, text: TextFeatures) -> Features:
        flags = sensors.present.to(sensors.tokens.dtype)
        condition = self.mlp(torch.cat([sensors.tokens.flatten(1), flags, text.pooled], dim=1))
        return Features(condition, condition.unsqueeze(1), sensors, text)


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
        gain, bias, gate = self.modulate(condition).chunk(3, dim=-1)
        y = torch.addcmul(bias, self.norm(x), 1 + gain)
        return torch.addcmul(x, gate, self.down(F.silu(self.up(y))))


class FlowHead(nn.Module):
    """Velocity of a whole action chunk: (x_t, t, condition) -> dx/dt, all actions in one vector."""

    def __init__(self, chunk: int, action_dim: int, condition_width: int, width: int, blocks: int) -> None:
        super().__init__()
        self.shape = (chunk, action_dim)
        self.time = nn.Linear(64, condition_width)
        self.enter = nn.Linear(chunk * action_dim, width)
        self.blocks = nn.ModuleList(AdaLnBlock(width, condition_width) for _ in range(blocks))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, chunk * action_dim))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """x (N, chunk, A), t (N,), condition (N, C) -> velocity (N, chunk, A)."""
        c = F.silu(condition + self.time(sinusoidal(t, 64)))
        y = self.enter(x.flatten(1))
        for block in self.blocks:
            y = block(y, c)
        velocity: Tensor = self.leave(y).unflatten(1, self.shape)
        return velocity
