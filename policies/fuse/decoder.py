"""From language readouts to a description, word by word or, as in FuSe's public code, all words at once.

Axes: B batch, R readouts, L words, D width, V vocabulary.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from handsight.kernels.layout import Segment, prefix_lm
from handsight.policies.backbone import AttentionBlock
from handsight.policies.fuse.heads import MapHead
from handsight.sensors.grounding import COMBINATIONS
from handsight.sensors.words import BEGIN, END, PAD


class Speaker(Protocol):
    """What keeps a sentence within a grammar while it is being said."""

    def allowed(self) -> Sequence[int]:
        """Ids of the words, END among them, that may come next."""

    def say(self, word: int) -> None:
        """The next word was this one."""


class WordDecoder(nn.Module):
    """Autoregressive transformer: words see the readouts, a token of the combination that speaks, and the words before them.

    The layout is a prefix language model's: readouts and combination are the prefix, words the suffix.
    """

    def __init__(self, width: int, vocabulary: int, longest: int, layers: int, heads: int) -> None:
        super().__init__()
        self.longest = longest
        self.combination = nn.Embedding(len(COMBINATIONS), width)
        self.word = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(longest, width))
        self.blocks = nn.ModuleList(AttentionBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, vocabulary)

    def forward(self, readouts: Tensor, combination: Tensor, words: Tensor) -> Tensor:
        """Logits (B, L, V) of each of `words` (B, L) given those before it; readouts (B, R, D), combination (B,) places."""
        before = torch.cat([torch.full_like(words[:, :1], BEGIN), words[:, :-1]], dim=1)
        said = self.word(before) + self.position[: words.shape[1]]
        x = torch.cat([readouts, self.combination(combination)[:, None], said], dim=1)
        prefix, length = readouts.shape[1] + 1, words.shape[1]
        layout = prefix_lm([Segment("prefix", prefix)], [Segment("words", length)])
        present = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        for block in self.blocks:
            x, *_ = block(x, layout, present)
        logits: Tensor = self.out(self.norm(x[:, prefix:]))
        return logits

    @torch.no_grad()
    def speak(self, readouts: Tensor, combination: Tensor, speakers: Sequence[Speaker] | None = None) -> Tensor:
        """The most probable next word again and again, of those that `speakers` (one a row) allow: (B, L), ends in END, then PAD."""
        words = torch.full((len(readouts), self.longest), PAD, device=readouts.device)
        done = torch.zeros(len(readouts), dtype=torch.bool, device=readouts.device)
        for place in range(self.longest):
            logits = self(readouts, combination, words[:, : place + 1])[:, place]  # (B, V)
            if place == self.longest - 1:
                logits = _only(logits, [[END]] * len(logits))
            elif speakers is not None:
                logits = _only(
                    logits, [[END] if over else speaker.allowed() for over, speaker in zip(done.tolist(), speakers, strict=True)]
                )
            best = logits.argmax(dim=1)
            words[:, place] = torch.where(done, PAD, best)
            for speaker, word, over in zip(speakers or (), best.tolist(), done.tolist(), strict=False):
                if not over and word != END:
                    speaker.say(word)
            done |= best == END
            if done.all():
                break
        return words


class ParallelDecoder(nn.Module):
    """All words at once, each from the readouts and the combination alone: FuSe's public code (octo_module.py).

    One pooling query a word over 24 readouts and a token of the combination; nine combinations there, of which seven are used.
    """

    def __init__(self, width: int, vocabulary: int, longest: int, heads: int) -> None:
        super().__init__()
        self.longest = longest
        self.combination = nn.Embedding(len(COMBINATIONS) + 2, width)
        self.pool = MapHead(width, longest, heads)
        self.out = nn.Linear(width, vocabulary)

    def forward(self, readouts: Tensor, combination: Tensor, words: Tensor) -> Tensor:
        """Logits (B, L, V) for the first L words; what they are does not matter."""
        x = torch.cat([readouts, self.combination(combination)[:, None]], dim=1)
        logits: Tensor = self.out(self.pool(x))[:, : words.shape[1]]
        return logits

    @torch.no_grad()
    def speak(self, readouts: Tensor, combination: Tensor, speakers: Sequence[Speaker] | None = None) -> Tensor:
        """The most probable word at each place, (B, L). `speakers` cannot be followed: no word knows the one before it."""
        words: Tensor = self(readouts, combination, readouts.new_zeros(len(readouts), self.longest)).argmax(dim=2)
        return words


def _only(logits: Tensor, allowed: Sequence[Sequence[int]]) -> Tensor:
    """(B, V) -inf except at each row's allowed words."""
    kept = torch.full_like(logits, -torch.inf)
    for row, words in enumerate(allowed):
        kept[row, list(words)] = logits[row, list(words)]
    return kept
