"""FuSe's trunk as published (arXiv 2501.04693, on Octo-small, arXiv 2405.12213): its arrangement of tokens, and the encoders that give it
as many tokens a step as the public code has.

    instruction | front -1 | wrist -1 | touch -1 | audio -1 | instruction again | action -1 | language -1 | front 0 | ... | language 0
         24     |   256    |    64    |    2     |    16    |        24         |     1     |     24      |

387 tokens a step and 798 in all for two steps of a 256 px and a 128 px camera. The instruction sees itself; everything of a step sees the
instruction, its own and earlier steps; a readout sees the same and the readouts of its own kind up to its step; nobody else sees readouts.

Axes: B batch, T history steps, N tokens, W words, R readouts, D token width, C condition width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handsight.kernels.layout import Segment, TokenLayout, Visibility, blockwise_causal
from handsight.policies.backbone import READOUTS, AttentionBlock, Features
from handsight.policies.encoders import Film, SensorTokens, TokenGroup
from handsight.policies.text import TextFeatures
from handsight.sensors.audio import LogMel
from handsight.sensors.types import CONTROL_HZ


@dataclass(frozen=True)
class OctoArrangement:
    """The layout, and for each of its tokens the place in (instruction, sensor tokens, readouts) that it comes from."""

    layout: TokenLayout
    source: tuple[int, ...]


def arrange_octo(groups: Sequence[TokenGroup], words: int, language_readouts: int) -> OctoArrangement:
    """The table in this module's docstring, for any sensors and steps."""
    starts = {group.name: words + sum(before.tokens for before in groups[:i]) for i, group in enumerate(groups)}
    readout_place = words + sum(group.tokens for group in groups)
    instruction = list(range(words))
    blocks = [[Segment("instruction", words)]]
    readouts: list[list[Segment]] = [[]]
    source = [*instruction]
    for offset in sorted({offset for group in groups for offset in group.offsets}):
        block, reads = [], []
        for group in (group for group in groups if offset in group.offsets):
            block.append(Segment(f"{group.name}{offset}", group.tokens_per_step))
            first = starts[group.name] + group.offsets.index(offset) * group.tokens_per_step
            source.extend(range(first, first + group.tokens_per_step))
        block.append(Segment(f"instruction{offset}", words))
        source.extend(instruction)
        for name, length in zip(READOUTS, (1, language_readouts), strict=True):
            if length:
                reads.append(Segment(f"{name}{offset}", length))
                source.extend(range(readout_place, readout_place + length))
                readout_place += length
        blocks.append(block)
        readouts.append(reads)
    return OctoArrangement(_with_own_past(blockwise_causal(blocks, readouts)), tuple(source))


def _with_own_past(layout: TokenLayout) -> TokenLayout:
    """Readouts also see earlier readouts of their kind."""
    kinds = [next((name for name in READOUTS if segment.name.startswith(name)), None) for segment in layout.keys]
    visible = tuple(
        tuple(
            Visibility.ALL if kinds[row] is not None and kinds[row] == kinds[column] and column <= row else cell
            for column, cell in enumerate(cells)
        )
        for row, cells in enumerate(layout.visible)
    )
    return TokenLayout(layout.queries, layout.keys, visible)


class OctoTrunk(nn.Module):
    """Transformer over that arrangement; the condition and the language readouts are those of the last step.

    Positions are learned, one a token; the repeated instruction has those of the first. With `sees_pads` (the public code) the padding of
    the instruction is attended to.
    """

    source: Tensor

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
        sees_pads: bool,
    ) -> None:
        super().__init__()
        arrangement = arrange_octo(groups, words, language_readouts)
        self.layout = arrangement.layout
        self.sees_pads = sees_pads
        self.register_buffer("source", torch.tensor(arrangement.source), persistent=False)
        self.text = nn.Linear(text_width, width)
        self.position = nn.Parameter(0.02 * torch.randn(max(arrangement.source) + 1, width))
        self.blocks = nn.ModuleList(AttentionBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, condition_width)

    def forward(self, sensors: SensorTokens, text: TextFeatures) -> Features:
        known = torch.cat([self.text(text.tokens), sensors.tokens], dim=1)
        extra = len(self.position) - known.shape[1]
        x = (F.pad(known, (0, 0, 0, extra)) + self.position)[:, self.source]
        words = torch.ones_like(text.mask) if self.sees_pads else text.mask
        present = F.pad(words, (0, len(self.position) - words.shape[1]), value=True)[:, self.source]
        for block in self.blocks:
            x, *_ = block(x, self.layout, present)
        x = self.norm(x)
        names = [segment.name for segment in self.layout.queries]
        language = x[:, self.layout.query_span("language0")] if "language0" in names else x[:, :0]
        return Features(self.out(x[:, self.layout.query_span("action0")][:, 0]), language, sensors, text, None)


class PadTouchEncoder(nn.Module):
    """One token for each pad and frame, both pads by the same convolutions with instruction FiLM."""

    tokens_per_step = 2

    def __init__(self, width: int, text_width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, stride=2, padding=1)
        self.film1 = Film(32, text_width)
        self.conv2 = nn.Conv2d(32, 48, 3, stride=2, padding=1)
        self.film2 = Film(48, text_width)
        self.out = nn.Linear(48 * 16, width)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Normalised taxels (B, T, 2, 3, 16, 16) -> (B, 2 T, D), oldest frame first, left pad before right."""
        pads = x.shape[1] * x.shape[2]
        frames, text = x.flatten(0, 2), text.repeat_interleave(pads, dim=0)  # (2 B T, 3, 16, 16)
        y = F.silu(self.film1(self.conv1(frames), text))
        y = F.silu(self.film2(self.conv2(y), text))
        tokens: Tensor = self.out(y.flatten(1)).view(len(x), pads, -1)
        return tokens


class StepAudioEncoder(nn.Module):
    """Sixteen tokens for each step: a 4 x 4 grid over the log-mel image of the second that ends there."""

    tokens_per_step = 16

    def __init__(self, width: int, text_width: int, offsets: tuple[int, ...]) -> None:
        """`offsets` [steps] of the ends of the windows, oldest first; the last is 0."""
        super().__init__()
        self.offsets = offsets
        self.log_mel = LogMel()
        self.conv1 = nn.Conv2d(1, 24, 6, stride=4, padding=1)
        self.film1 = Film(24, text_width)
        self.conv2 = nn.Conv2d(24, 48, 3, stride=2, padding=1)
        self.film2 = Film(48, text_width)
        self.out = nn.Linear(48, width)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Sound (B, T, 800) in [-1, 1], T a second and the oldest offset -> (B, 16 len(offsets), D)."""
        last = x.shape[1]
        windows = torch.stack([x[:, last + o - CONTROL_HZ : last + o] for o in self.offsets], dim=1)  # (B, steps, 20, 800)
        mel = self.log_mel(windows.flatten(0, 1).flatten(1)).unsqueeze(1)  # (B * steps, 1, mels, frames)
        text = text.repeat_interleave(len(self.offsets), dim=0)
        y = F.silu(self.film1(self.conv1(mel), text))
        y = F.silu(self.film2(self.conv2(y), text))
        tokens: Tensor = self.out(F.adaptive_avg_pool2d(y, 4).flatten(2).transpose(1, 2))
        return tokens.reshape(len(x), -1, tokens.shape[-1])
