"""The language losses on a policy, and descriptions by it: what any network needs to have for them, and what they do with it.

The sensors are encoded once more, under no instruction (with it, the words asked for would leak into what is felt), and everything is
computed from that one encoding: the contrastive embedding from all sensors, and each generated combination with the tokens of the other
senses' sensors replaced by absent ones.

Axes: B batch, S sensors, C combinations (in the order of `COMBINATIONS`), K of them that are generated, M chosen pairs of row and
combination, R readouts, D width, E embedding, L words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor, nn

from handsight.policies.encoders import SensorEncoders, SensorTokens, TokenGroup
from handsight.policies.fuse.answers import ask
from handsight.policies.fuse.bank import MemoryBank
from handsight.policies.fuse.decoder import ParallelDecoder, WordDecoder
from handsight.policies.fuse.heads import ContrastiveHead
from handsight.policies.fuse.losses import Metrics, contrastive_loss, generation_loss
from handsight.policies.fuse.phrases import Phrasebook, Texts
from handsight.policies.fuse.sentences import Sentence
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import COMBINATIONS, NOTHING, Modality
from handsight.sensors.questions import parse_questions
from handsight.sensors.words import LONGEST, PAD, sentence, vocabulary

SENSE_OF_SENSOR: Final = {
    "front": Modality.VISION,
    "wrist": Modality.VISION,
    "state": Modality.TOUCH,  # the fingers' opening says how large a thing is, their forces how hard
    "touch": Modality.TOUCH,
    "audio": Modality.AUDIO,
}
UPSTREAM_WORDS: Final = 24
_HASH: Final = 0x9E3779B97F4A7C15 - 2**64  # odd, as int64: multiplication wraps around


@dataclass(frozen=True)
class LanguageOptions:
    """Which losses, and how."""

    contrastive_weight: float = 0.0
    """Weight of the contrastive loss; 0 leaves it and its head out."""
    generation_weight: float = 0.0
    """Weight of the generation loss; 0 leaves it and its decoder out."""
    combinations: int = 1
    """Combinations of senses that are generated for each row, drawn among those that can speak; the public code takes all seven."""
    memory_bank: int = 1024
    """Rows of earlier batches that the contrastive loss also contrasts with; 0: none."""
    upstream_compat: bool = False
    """The losses, heads and decoder of FuSe's public code, with its quirks: see losses.py, phrases.py, heads.py and decoder.py."""
    embedding: int = 64
    """Width of the contrastive embedding; 512 in FuSe."""
    decoder_layers: int = 2
    """Layers of the word decoder."""
    heads: int = 4
    """Attention heads of the pooling and of the decoder."""

    @property
    def any(self) -> bool:
        """Whether there is a loss at all."""
        return self.contrastive_weight > 0 or self.generation_weight > 0


class LanguageHeads(nn.Module):
    """The heads of the losses that have a weight, on readouts (B, R, width)."""

    def __init__(self, options: LanguageOptions, width: int, text_width: int) -> None:
        super().__init__()
        self.contrast: ContrastiveHead | None = None
        self.decoder: WordDecoder | ParallelDecoder | None = None
        words, compat = len(vocabulary()), options.upstream_compat
        if options.contrastive_weight > 0:
            self.contrast = ContrastiveHead(width, text_width, options.embedding, options.heads, upstream_compat=compat)
        if options.generation_weight > 0 and compat:
            self.decoder = ParallelDecoder(width, words, UPSTREAM_WORDS, options.heads)
        elif options.generation_weight > 0:
            self.decoder = WordDecoder(width, words, LONGEST, options.decoder_layers, options.heads)


class Grounded(Protocol):
    """A network that language can be grounded in."""

    language: LanguageHeads | None
    sensors: SensorEncoders

    @property
    def text(self) -> nn.Module:
        """Ids and mask (B, L), generator -> TextFeatures: HashedText or PretrainedText of policies/text.py."""

    def sense(self, inputs: Mapping[str, Tensor | None]) -> SensorTokens:
        """All sensors by name, encoded under no instruction, none dropped."""

    def read(self, sensed: SensorTokens) -> Tensor:
        """Language readouts (B, R, D) of encoded sensors, some of which may be hidden."""


class LanguageLosses(nn.Module):
    """The weighted sum of the losses. Holds no weights, but the memory bank."""

    def __init__(self, options: LanguageOptions, phrasebook: Phrasebook) -> None:
        super().__init__()
        self.options = options
        self.phrasebook = phrasebook
        uses_bank = options.contrastive_weight > 0 and options.memory_bank > 0 and not options.upstream_compat
        self.bank = MemoryBank(options.memory_bank, 1 + len(COMBINATIONS), options.embedding) if uses_bank else None

    def forward(
        self,
        network: Grounded,
        inputs: Mapping[str, Tensor | None],
        labels: Tensor,
        instruction: tuple[Tensor, Tensor],
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Metrics]:
        """Loss () and metrics.

        Args:
            network: what the sensors and texts are encoded by.
            inputs: windows by sensor name.
            labels: grounding labels (B, 10).
            instruction: ids and mask (B, L) of each row's task.
            generator: of phrasings, combinations and word noise.
        """
        texts = self.phrasebook.draw(labels, generator)
        sensed = network.sense(inputs)
        total, metrics = sensed.tokens.new_zeros(()), Metrics()
        if self.options.contrastive_weight > 0:
            loss, more = self._contrast(network, sensed, texts, instruction, generator)
            total, metrics = total + self.options.contrastive_weight * loss, metrics | more
        if self.options.generation_weight > 0:
            loss, more = self._generate(network, sensed, texts, generator)
            total, metrics = total + self.options.generation_weight * loss, metrics | more
        return total, metrics

    def _contrast(
        self,
        network: Grounded,
        sensed: SensorTokens,
        texts: Texts,
        instruction: tuple[Tensor, Tensor],
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Metrics]:
        """The instruction, and a text for each of the seven combinations, against all sensors."""
        heads, (ids, mask) = network.language, instruction
        assert heads is not None
        assert heads.contrast is not None
        tokens = torch.cat([ids[None], texts.tokens])  # (1 + C, B, L)
        masks = torch.cat([mask[None], texts.mask])
        text_ids = torch.cat([_hash(ids)[None], texts.ids])
        valid = torch.cat([torch.ones_like(texts.valid[:1]), texts.valid])
        features = network.text(tokens.flatten(0, 1), masks.flatten(0, 1), generator)
        u = heads.contrast.embed_sensors(network.read(sensed))  # (B, E)
        v = heads.contrast.embed_texts(features).unflatten(0, tokens.shape[:2])  # (1 + C, B, E)
        bank = self.bank.entries() if self.bank is not None else None
        compat = self.options.upstream_compat
        loss = contrastive_loss(u, v, text_ids, valid, heads.contrast.logit_scale, bank, upstream_compat=compat)
        if self.bank is not None and torch.is_grad_enabled():  # a validation batch teaches nothing
            self.bank.push(u, v, text_ids, valid)
        return loss

    def _generate(self, network: Grounded, sensed: SensorTokens, texts: Texts, generator: torch.Generator | None) -> tuple[Tensor, Metrics]:
        """What a few combinations would say, each from its own sensors alone."""
        heads, compat = network.language, self.options.upstream_compat
        assert heads is not None
        assert heads.decoder is not None
        combination, row = choose(texts.valid, len(COMBINATIONS) if compat else self.options.combinations, generator)  # (M,) each
        if len(row) == 0:  # a row that is not valid stands in, so that every weight is in the graph of every step (distributed training)
            combination = row = row.new_zeros(1)
        words = texts.words[combination, row][:, : heads.decoder.longest]
        words = words if compat else words[:, : int((words != PAD).sum(dim=1).max())]
        kept = senses_kept(sensed.groups).to(row.device)[combination]  # (M, S)
        readouts = network.read(network.sensors.keep(taken(sensed, row), kept))
        valid = texts.valid[combination, row]
        return generation_loss(heads.decoder(readouts, combination, words), words, valid, PAD, upstream_compat=compat)


def choose(valid: Tensor, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """At most `count` different valid combinations of each row, uniformly: valid (C, B) -> places of combinations and rows, (M,) each."""
    u = torch.rand(valid.shape, generator=generator, device=valid.device).masked_fill(~valid, -1)
    best, place = u.topk(min(count, len(valid)), dim=0)  # (K, B)
    chosen = best >= 0
    row = torch.arange(valid.shape[1], device=valid.device).expand_as(place)
    return place[chosen], row[chosen]


def senses_kept(groups: tuple[TokenGroup, ...]) -> Tensor:
    """(C, S) bool: the sensors that each combination speaks by."""
    return torch.tensor([[SENSE_OF_SENSOR[group.name] in combination for group in groups] for combination in COMBINATIONS])


def taken(sensed: SensorTokens, rows: Tensor) -> SensorTokens:
    """The chosen rows (M,)."""
    return SensorTokens(sensed.tokens[rows], sensed.present[rows], sensed.groups)


def senses(names: tuple[str, ...]) -> Modality:
    """The senses of sensors by name; proprioception alone feels nothing."""
    found = NOTHING
    for name in names:
        found |= SENSE_OF_SENSOR[name] if name != "state" else NOTHING
    return found


@torch.no_grad()
def describe(
    network: Grounded, inputs: Mapping[str, Tensor | None], combination: Modality, *, constrained: bool = True, about: str = ""
) -> list[str]:
    """One sentence a row about the thing that the sensors of a combination have met, without asking whether they have; an empty one where
    a sense of it has no live sensor (a dead microphone).

    Args:
        network: trained with the generation loss.
        inputs: windows by sensor name.
        combination: the senses that speak; the others' sensors are hidden.
        constrained: say only what the templates allow (`Sentence`); ignored by the parallel decoder of `upstream_compat`.
        about: an attribute that is asked for: a short answer (`ask`), constrained or not.

    Raises:
        HandsightError: no decoder, no combination, one with a sense that has no sensor here, or one that does not reveal `about`.
    """
    if network.language is None or network.language.decoder is None:
        raise HandsightError("expected a policy that was trained with generation_weight > 0, got one without a decoder; train it with it")
    available = senses(tuple(name for name, x in inputs.items() if x is not None))
    if not combination or combination & available != combination:
        got = f"{combination.letters or 'none'} with sensors for {available.letters or 'none'}"
        raise HandsightError(f"expected a combination of senses that have sensors, got {got}; choose another")
    sensed = network.sense(inputs)
    batch, place = len(sensed.tokens), COMBINATIONS.index(combination)
    kept = senses_kept(sensed.groups).to(sensed.tokens.device)[place].expand(batch, -1)
    readouts = network.read(network.sensors.keep(sensed, kept))
    if about:
        (question,) = parse_questions(f"{combination.letters}:{about}")
        said = ask(network.language.decoder, readouts, question)
    else:
        speakers = [Sentence(combination) for _ in range(batch)] if constrained else None
        places = torch.full((batch,), place, device=readouts.device)
        said = [sentence(row) for row in network.language.decoder.speak(readouts, places, speakers).tolist()]
    return [text if live else "" for text, live in zip(said, _live(sensed, combination).tolist(), strict=True)]


def _live(sensed: SensorTokens, combination: Modality) -> Tensor:
    """(B,) whether every sense of a combination has a sensor that is present."""
    telling = [[senses((group.name,)) == sense for group in sensed.groups] for sense in combination]
    can: Tensor = (sensed.present[:, None] & torch.tensor(telling, device=sensed.present.device)).any(dim=2).all(dim=1)
    return can


def _hash(ids: Tensor) -> Tensor:
    """(B, L) -> (B,) int64, equal for equal rows and hardly ever otherwise."""
    total = torch.zeros_like(ids[:, 0])
    for column in ids.unbind(dim=1):
        total = (total ^ column) * _HASH
    return total
