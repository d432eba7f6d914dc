"""What a host policy is given of touch, sound and language: tokens of its own width, and which of them are there.

A host is a policy that knows images and proprioception alone. A sensor that is missing gives no tokens: it is masked where the host
attends, and a batch in which everything is missing leaves the host's computation untouched.
Axes: B batch, N tokens, D token width, L words.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from handsight.policies.encoders import AudioEncoder, SensorEncoders, SensorTokens, TouchEncoder, token_groups
from handsight.policies.recipe.options import SensorOptions
from handsight.policies.text import PAD, HashedText, TextFeatures, WordNoise


@dataclass(frozen=True)
class Extra:
    """Tokens for the host, the instruction first, then each sensor's, oldest step first."""

    tokens: Tensor  # (B, N, host width)
    present: Tensor  # (B, N) bool

    @property
    def masked(self) -> Tensor:
        """(B, N, host width): tokens, zero where absent."""
        return torch.where(self.present.unsqueeze(-1), self.tokens, 0)


class SensorAdapter(nn.Module):
    """Encoders of touch and sound under the instruction, and a projection to the host's width."""

    def __init__(self, options: SensorOptions, host_width: int) -> None:
        super().__init__()
        width, text_width = options.token_width, options.text_width
        noise = WordNoise(insert=options.word_insert, replace=options.word_replace, drop=options.word_drop)
        self.text = HashedText(options.text_buckets, text_width, noise)
        makers = {"touch": TouchEncoder, "audio": AudioEncoder}
        encoders: dict[str, nn.Module] = {name: makers[name](width, text_width) for name in options.histories}
        self.sensors = SensorEncoders(encoders, token_groups(options.histories, encoders), width, options.sensor_dropout)
        self.instruction = nn.Linear(text_width, width) if options.read_instruction else None
        self.out = nn.Linear(width, host_width)
        self.position = nn.Parameter(0.02 * torch.randn(self.tokens, host_width))

    @property
    def tokens(self) -> int:
        """N."""
        return (self.instruction is not None) + sum(group.tokens for group in self.sensors.groups)

    def sense(self, inputs: Mapping[str, Tensor | None], text: TextFeatures, generator: torch.Generator | None = None) -> SensorTokens:
        """Encode `inputs` by sensor name (None: missing) under an instruction."""
        if not self.sensors.groups:
            batch = text.pooled.shape[0]
            nothing = text.pooled.new_zeros(batch, 0, self.out.in_features)
            return SensorTokens(nothing, torch.zeros(batch, 0, dtype=torch.bool, device=nothing.device), ())
        return cast(SensorTokens, self.sensors(inputs, text.pooled, generator))

    def forward(self, inputs: Mapping[str, Tensor | None], ids: Tensor, generator: torch.Generator | None = None) -> Extra:
        """Tokens of `inputs` by sensor name (None: missing) and the instruction's words ids (B, L); no words: no instruction."""
        given = ids != PAD
        text: TextFeatures = self.text(ids, given, generator)
        sensed = self.sense(inputs, text, generator)
        tokens, present = sensed.tokens, token_presence(sensed)
        if self.instruction is not None:
            tokens = torch.cat([self.instruction(text.pooled).unsqueeze(1), tokens], dim=1)
            present = torch.cat([given.any(dim=1, keepdim=True), present], dim=1)
        return Extra(self.out(tokens) + self.position, present)


def token_presence(sensed: SensorTokens) -> Tensor:
    """(B, N) bool from the flags (B, S) of the sensors."""
    counts = torch.tensor([group.tokens for group in sensed.groups], dtype=torch.int64, device=sensed.present.device)
    return sensed.present.repeat_interleave(counts, dim=1)


class Slot:
    """Holds a forward pass's Extra for the one place in the host where its inputs are assembled; empty at all other times."""

    def __init__(self) -> None:
        self.extra: Extra | None = None

    @contextmanager
    def filled(self, extra: Extra) -> Iterator[None]:
        """`extra` within the block, nothing where all of it is absent."""
        self.extra = extra if bool(extra.present.any()) else None
        try:
            yield
        finally:
            self.extra = None


class WidenedLinear(nn.Linear):
    """y = W x + b + E e: a host's layer with further inputs e, E = 0 at initialisation.

    The host's weights keep their names and shapes; without e the layer is the host's exactly, before training up to rounding.
    """

    def __init__(self, stock: nn.Linear, extra: int) -> None:
        super().__init__(stock.in_features, stock.out_features, stock.bias is not None, device="meta")
        self.weight, self.bias = stock.weight, stock.bias
        self.extra = nn.Parameter(torch.zeros(stock.out_features, extra))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, in) or (B, in + extra) -> (B, out)."""
        y = super().forward(x[..., : self.in_features])
        more = x[..., self.in_features :]
        return y if more.shape[-1] == 0 else y + nn.functional.linear(more, self.extra)
