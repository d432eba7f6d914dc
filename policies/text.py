"""Instructions to features, offline: words are hashed to buckets, embedded and summed with learned weights.

A word of no instruction in training is dropped: its features are still random, and as large as those of any other. Random buckets are
also inserted and swapped in during training, so that known words in new places are noise that the policy has learned to ignore.
A policy that remembers meanings (`handsight remember`) reads every instruction as the closest of them.
Axes: B batch, L words, H heads, D width, M meanings.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

PAD = 0
SPELLINGS = 64
"""How many words of a bucket are told apart to know which of them were in the training: with the 147 words of zoo/fuse in 2048 buckets, one
new word in 14 would be taken for a known one."""
_WORD = re.compile(r"[a-z0-9]+")


def word_ids(instruction: str, buckets: int, max_words: int) -> list[int]:
    """Hash of each lower-cased word in [1, SPELLINGS * (buckets - 1)], padded with PAD to `max_words`; later words are cut."""
    words = _WORD.findall(instruction.lower())[:max_words]
    ids = [1 + zlib.crc32(word.encode()) % (SPELLINGS * (buckets - 1)) for word in words]
    return ids + [PAD] * (max_words - len(ids))


def bucket_of(ids: Tensor, buckets: int) -> Tensor:
    """Word ids, any shape -> rows of an embedding in [1, buckets); PAD stays."""
    return torch.where(ids == PAD, PAD, 1 + (ids - 1) % (buckets - 1))


def hash_instructions(instructions: Sequence[str], buckets: int, max_words: int) -> Tensor:
    """Token ids (B, max_words) int64."""
    return torch.tensor([word_ids(text, buckets, max_words) for text in instructions], dtype=torch.int64)


class Tokenizer:
    """Instructions to ids (B, L) int64 and mask (B, L) bool: hashed words, or the tokenizer of a transformers model.

    Args:
        encoder: "hashed", or the name or folder of a transformers model.
        buckets: of the hashed words.
        max_words: L; longer instructions are cut.
    """

    def __init__(self, encoder: str, buckets: int, max_words: int) -> None:
        self.encoder, self.buckets, self.max_words = encoder, buckets, max_words
        self._pretrained: Any = None

    def __call__(self, instructions: Sequence[str]) -> tuple[Tensor, Tensor]:
        if self.encoder == "hashed":
            ids = hash_instructions(instructions, self.buckets, self.max_words)
            return ids, ids != PAD
        if self._pretrained is None:
            # Imported here: transformers takes seconds to import and the hashed encoder does not need it.
            from transformers import AutoTokenizer

            self._pretrained = AutoTokenizer.from_pretrained(self.encoder)
        out = self._pretrained(list(instructions), padding="max_length", truncation=True, max_length=self.max_words, return_tensors="pt")
        return out["input_ids"], out["attention_mask"].bool()


@dataclass(frozen=True)
class WordNoise:
    """Training augmentation of token ids; the rates are probabilities per position."""

    insert: float = 0.3
    """Highest rate at which a pad position becomes a random word; each sample draws its own rate from [0, insert]."""
    replace: float = 0.02
    """Rate at which a word becomes a random word."""
    drop: float = 0.02
    """Rate at which a word disappears."""

    def __call__(self, ids: Tensor, buckets: int, generator: torch.Generator | None = None) -> Tensor:
        """Noisy copy of `ids` (B, L). Order carries no meaning for the pooling, so pads may be filled in place."""

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=ids.device)

        batch, length = ids.shape
        random_ids = 1 + (uniform(batch, length) * (buckets - 1)).long()  # one of each bucket is enough
        pad = ids == PAD
        insert = pad & (uniform(batch, length) < self.insert * uniform(batch, 1))
        u = uniform(batch, length)
        noisy = torch.where(insert | (~pad & (u < self.replace)), random_ids, ids)
        return torch.where(~pad & (u >= 1 - self.drop), PAD, noisy)


@dataclass(frozen=True)
class TextFeatures:
    """What the rest of the model sees of the instruction."""

    pooled: Tensor  # (B, D)
    tokens: Tensor  # (B, L, D)
    mask: Tensor  # (B, L) bool, True where there is a word


class AttentionPool(nn.Module):
    """Multi-head attention pooling with learned queries and a null slot, so that an empty instruction is defined."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.score = nn.Linear(width, heads)
        self.value = nn.Linear(width, width)
        self.null = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Pool x (B, L, D) over the positions where mask (B, L) holds -> (B, D)."""
        x = torch.cat([self.null.expand(x.shape[0], -1, -1), x], dim=1)
        mask = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
        scores = self.score(x).masked_fill(~mask.unsqueeze(-1), float("-inf")).softmax(dim=1)  # (B, 1 + L, H)
        values = self.value(x).view(*x.shape[:2], self.heads, -1)  # (B, 1 + L, H, D / H)
        return torch.einsum("blh,blhd->bhd", scores, values).flatten(1)


class HashedText(nn.Module):
    """Trained from scratch: hashed words -> embeddings -> a sum in which every word has a learned weight in [0, WEIGHT].

    A sum, not a normalised mean, keeps what a word says as large in a long instruction as in a short one, and lets every word reach the
    policy through one linear layer: attention pooling with an MLP took twice as many steps until the named object was found.
    """

    WEIGHT = 4.0
    SPREAD = 0.1
    """Deviation of a word's features at first. An instruction is then about 4 long; at 1, where it is 45, a step of Adam moves FiLM's gains
    by a half, and on seven tasks at once the convolutions were dead after 2000 steps."""

    known: Tensor
    meanings: Tensor

    def __init__(self, buckets: int, width: int, noise: WordNoise, meanings: int = 0) -> None:
        super().__init__()
        self.buckets = buckets
        self.noise = noise
        self.embedding = nn.Embedding(buckets, width, padding_idx=PAD)
        with torch.no_grad():
            self.embedding.weight.mul_(self.SPREAD)  # pads stay 0
        self.gate = nn.Embedding(buckets, 1)
        nn.init.zeros_(self.gate.weight)
        self.register_buffer("known", torch.ones(1 + SPELLINGS * (buckets - 1), dtype=torch.bool))  # by word id
        self.register_buffer("meanings", torch.zeros(meanings, width), persistent=meanings > 0)
        self._nothing_read = True

    def read(self, ids: Tensor) -> None:
        """Know the words ids (B, L) of instructions in training: from the first call on, all others are unknown.

        Meanings are forgotten: what instructions say changes.
        """
        if self._nothing_read:
            self.known.zero_()
            self._nothing_read = False
        self.known[ids] = True
        self.meanings.zero_()

    def remember(self, meanings: Tensor) -> None:
        """Read every instruction as the closest of `meanings` (M, D), features such as `pool` gives."""
        self.register_buffer("meanings", meanings.detach().to(self.meanings, copy=True))

    def closest(self, pooled: Tensor) -> Tensor:
        """The remembered meaning closest to each of `pooled` (B, D), which stays where saying nothing at all is closer than any."""
        if len(self.meanings) == 0:
            return pooled
        distance = self.meanings.square().sum(dim=1) - 2 * pooled @ self.meanings.T  # squared, less that to saying nothing
        least, place = distance.min(dim=1)
        return torch.where((least < 0).unsqueeze(1), self.meanings[place], pooled)

    def pool(self, ids: Tensor) -> Tensor:
        """What the known words of instructions, ids (B, L), say together: (B, D)."""
        return self._sum(bucket_of(torch.where(self.known[ids], ids, PAD), self.buckets))

    def _sum(self, rows: Tensor) -> Tensor:
        weight = self.WEIGHT * self.gate(rows).sigmoid() * (rows != PAD).unsqueeze(-1)
        pooled: Tensor = (weight * self.embedding(rows)).sum(dim=1)
        return pooled

    def understands(self, ids: Tensor) -> Tensor:
        """Whether a word of each instruction, ids (B, L), is known, or there is none: (B,)."""
        words = ids != PAD
        return (words & self.known[ids]).any(dim=1) | ~words.any(dim=1)

    def forward(self, ids: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> TextFeatures:
        """Features of ids (B, L); `mask` is implied by the pads.

        Words are augmented in training mode; else they are dropped if unknown, and the rest is read as a remembered meaning.
        """
        ids = self.noise(ids, self.buckets, generator) if self.training else torch.where(self.known[ids], ids, PAD)
        rows = bucket_of(ids, self.buckets)
        pooled = self._sum(rows) if self.training else self.closest(self._sum(rows))
        return TextFeatures(pooled=pooled, tokens=self.embedding(rows), mask=rows != PAD)

    def _load_from_state_dict(self, *args: Any) -> None:
        """As torch's; a checkpoint's words are known from then on, all of them where it does not say which."""
        super()._load_from_state_dict(*args)
        self._nothing_read = False

    def empty(self, batch: int, length: int) -> TextFeatures:
        """Features of no instruction at all, without augmentation: zeros, (B, D) and (B, L, D)."""
        zeros = self.embedding.weight.new_zeros(batch, length, self.embedding.embedding_dim)
        return TextFeatures(pooled=zeros.sum(dim=1), tokens=zeros, mask=torch.zeros_like(zeros[..., 0], dtype=torch.bool))


class PretrainedText(nn.Module):
    """A frozen transformers encoder (`AutoModel`) with trained projection and pooling. Its tokenizer sits in the processor."""

    def __init__(self, name_or_path: str, width: int) -> None:
        super().__init__()
        # Imported here: transformers takes seconds to import and the hashed encoder does not need it.
        from transformers import AutoModel

        model: Any = AutoModel.from_pretrained(name_or_path)
        # T5-like models carry a decoder that is never used.
        self.encoder = model.get_encoder() if model.config.is_encoder_decoder else model
        self.encoder.requires_grad_(False)
        self.project = nn.Linear(model.config.hidden_size, width)
        self.pool = AttentionPool(width)
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> TextFeatures:
        """Features of the tokenizer's ids (B, L) and attention mask (B, L); `generator` is unused, there is no augmentation."""
        with torch.no_grad():
            hidden = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        x, mask = self.project(hidden), mask.bool()
        return TextFeatures(pooled=self.norm(self.pool(x, mask)), tokens=x, mask=mask)

    def empty(self, batch: int, length: int) -> TextFeatures:
        """Features of no instruction at all: what the pooling makes of its null slot (B, D), and zeros (B, L, D)."""
        x = self.project.weight.new_zeros(batch, length, self.project.out_features)
        mask = torch.zeros_like(x[..., 0], dtype=torch.bool)
        return TextFeatures(pooled=self.norm(self.pool(x, mask)), tokens=x, mask=mask)

    def train(self, mode: bool = True) -> "PretrainedText":
        """The frozen encoder stays in evaluation mode (its dropout would otherwise be active)."""
        super().train(mode)
        self.encoder.eval()
        return self
