"""What a host policy is given of touch, sound and language: tokens of its own width, and which of them are there.

A host is a policy that knows images and proprioception alone. A sensor that is missing gives no tokens: it is masked where the host
attends, and a batch in which everything is missing leaves the host's computation untouched.
Axes: B batch, N tokens, D token width, L words, R readouts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from handsight.policies.encoders import AudioEncoder, SensorEncoders, SensorTokens, StateEncoder, TouchEncoder, token_groups
from handsight.policies.fuse.heads import MapHead
from handsight.policies.fuse.language import LanguageHeads
from handsight.policies.recipe.options import SensorOptions
from handsight.policies.text import PAD, HashedText, TextFeatures, WordNoise

IMAGES: Final = "front"
"""Name of the host's image features among the sensors that language is about; they stand for all of its cameras."""
READOUTS: Final = 8


@dataclass(frozen=True)
class Extra:
    """Tokens for the host, the instruction first, then each sensor's, oldest step first."""

    tokens: Tensor  # (B, N, host width)
    present: Tensor  # (B, N) bool

    @property
    def masked(self) -> Tensor:
        """(B, N, host width): tokens, zero where absent."""
        return torch.where(self.present.unsqueeze(-1), self.tokens, 0)


class HostImages(nn.Module):
    """The host's image features, of any number of cameras and places, pooled to a few tokens."""

    tokens_per_step = 4

    def __init__(self, image_width: int, width: int, heads: int) -> None:
        super().__init__()
        self.project = nn.Linear(image_width, width)
        self.pool = MapHead(width, self.tokens_per_step, heads)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """(B, N, image width) -> (B, 4, D)."""
        tokens: Tensor = self.pool(self.project(x.to(self.project.weight.dtype)))
        return tokens


class SensorAdapter(nn.Module):
    """Encoders of touch and sound under the instruction, and a projection to the host's width.

    With language losses it is also what they ground texts in (`Grounded` in fuse/language.py): the same encoders under no instruction, the
    host's state, and what the host's own image encoder makes of its pictures. Neither of the latter two is given back to the host.
    """

    def __init__(self, options: SensorOptions, host_width: int, *, image_width: int = 0) -> None:
        super().__init__()
        width, text_width = options.token_width, options.text_width
        noise = WordNoise(insert=options.word_insert, replace=options.word_replace, drop=options.word_drop)
        self.text = HashedText(options.text_buckets, text_width, noise)
        makers = {"touch": TouchEncoder, "audio": AudioEncoder}
        encoders: dict[str, nn.Module] = {name: makers[name](width, text_width) for name in options.histories}
        given = sum(group.tokens for group in token_groups(options.histories, encoders))
        if options.language.any:
            encoders |= _host_encoders(options, image_width)
        histories = {IMAGES: (0,), "state": (0,), **options.histories}
        self.sensors = SensorEncoders(encoders, token_groups(histories, encoders), width, options.sensor_dropout)
        self._given = given
        self.instruction = nn.Linear(text_width, width) if options.read_instruction else None
        self.out = nn.Linear(width, host_width)
        self.position = nn.Parameter(0.02 * torch.randn(self.tokens, host_width))
        self.language: LanguageHeads | None = None
        if options.language.any:
            self.language = LanguageHeads(options.language, width, text_width)
            self.place = nn.Parameter(0.02 * torch.randn(sum(group.tokens for group in self.sensors.groups), width))
            self.readouts = MapHead(width, READOUTS, options.language.heads)

    @property
    def tokens(self) -> int:
        """N, tokens for the host."""
        return (self.instruction is not None) + self._given

    def forward(self, inputs: Mapping[str, Tensor | None], ids: Tensor, generator: torch.Generator | None = None) -> Extra:
        """Tokens of `inputs` by sensor name (None: missing) and the instruction's words ids (B, L); no words: no instruction."""
        written = ids != PAD
        if self.training:
            self.text.read(ids)
        text: TextFeatures = self.text(ids, written, generator)
        tokens, present = self._sense_for_host(inputs, text, generator)
        if self.instruction is not None:
            tokens = torch.cat([self.instruction(text.pooled).unsqueeze(1), tokens], dim=1)
            present = torch.cat([written.any(dim=1, keepdim=True), present], dim=1)
        return Extra(self.out(tokens) + self.position, present)

    def _sense_for_host(
        self, inputs: Mapping[str, Tensor | None], text: TextFeatures, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, D) and presence (B, N) of touch and sound, which come first among the groups."""
        if self._given == 0:
            nothing = text.pooled.new_zeros(len(text.pooled), 0, self.out.in_features)
            return nothing, torch.zeros_like(nothing[..., 0], dtype=torch.bool)
        known = {group.name: inputs.get(group.name) for group in self.sensors.groups}
        sensed: SensorTokens = self.sensors(known, text.pooled, generator)
        lengths = torch.tensor([group.tokens for group in sensed.groups], device=sensed.present.device)
        return sensed.tokens[:, : self._given], sensed.present.repeat_interleave(lengths, dim=1)[:, : self._given]

    # -- what language is about

    def sense(self, inputs: Mapping[str, Tensor | None]) -> SensorTokens:
        """All sensors by name, the host's among them, encoded under no instruction, none dropped."""
        batch = next(len(x) for x in inputs.values() if x is not None)
        return self.sensors.encode(inputs, self.text.empty(batch, 1).pooled)

    def read(self, sensed: SensorTokens) -> Tensor:
        """Language readouts (B, R, D) of encoded sensors, some of which may be hidden."""
        readouts: Tensor = self.readouts(sensed.tokens + self.place)
        return readouts


def _host_encoders(options: SensorOptions, image_width: int) -> dict[str, nn.Module]:
    """Encoders of what the host itself sees and feels."""
    encoders: dict[str, nn.Module] = {}
    if options.image_features:
        encoders[IMAGES] = HostImages(image_width, options.token_width, options.language.heads)
    if options.robot_state_feature is not None:
        encoders["state"] = StateEncoder(options.robot_state_feature.shape[0], options.token_width, hidden=(), history_dropout=0.0)
    return encoders
