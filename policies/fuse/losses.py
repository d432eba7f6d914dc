"""The two language losses of FuSe (Jones et al., "Beyond Sight", arXiv 2501.04693, section 4) as pure functions.

    contrastive: which of the texts is about these sensors, and which of the sensors is this text about?
    generation:  what would a text by these senses say?

Both return `(loss, metrics)`. `upstream_compat` computes what the authors' public code (fuse_config.py, finetune_fuse.py) computes.
Axes: B batch, C combinations of senses, E embedding, K entries of the bank, M = B + K candidates, L words, V vocabulary.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

INITIAL_LOGIT_SCALE: Final = math.log(1 / 0.07)  # CLIP, Radford et al. 2021, section 2.5
MAX_LOGIT_SCALE: Final = math.log(100.0)
UPSTREAM_LOGIT_SCALE: Final = 1.0
UPSTREAM_NORM_OFFSET: Final = 0.1

Metrics = dict[str, float]


@dataclass(frozen=True)
class BankEntries:
    """What a memory bank remembers of earlier batches, without gradients."""

    sensors: Tensor  # (K, E) normalised
    texts: Tensor  # (C, K, E) normalised
    text_ids: Tensor  # (C, K) int64
    valid: Tensor  # (C, K) bool


def normalize(x: Tensor) -> Tensor:
    """x / |x| along the last axis; 0 stays 0."""
    return F.normalize(x, dim=-1)


def contrastive_loss(
    sensor_embeddings: Tensor,
    text_embeddings: Tensor,
    text_ids: Tensor,
    valid: Tensor,
    logit_scale: Tensor,
    bank: BankEntries | None = None,
    *,
    upstream_compat: bool = False,
) -> tuple[Tensor, Metrics]:
    """Contrasts sensors u with the texts v of each combination c, in both directions, averaged over combinations that have texts.

        S_ij = exp(min(s, ln 100)) n(u_i) . n(v_j),    n(x) = x / |x|,    P_i = {j: text_id_j = text_id_i}
        L_c  = -1/2 mean_i [ mean_{j in P_i} log softmax_j S_ij + mean_{j in P_i} log softmax_j S_ji ]

    Texts that mean the same are all positives (as in UniCL, Yang et al. 2022, eq. 2 and 3); what is not valid is neither a positive nor a
    negative; the bank adds candidates (Wang et al. 2020, "Cross-batch memory").

    With `upstream_compat`: S_ij = s n(u_i) . n(v_j) with n(x) = x / (|x| + 0.1), only i = j is positive, `valid` and `bank` are ignored.

    Args:
        sensor_embeddings: (B, E).
        text_embeddings: (C, B, E), row b's text for each combination.
        text_ids: (C, B) int64, equal where two texts of a combination mean the same.
        valid: (C, B) bool, whether the text is true of what row b's sensors have met.
        logit_scale: () s.
        bank: earlier batches.

    Returns:
        Loss (); `loss/contrastive`, `contrastive_accuracy` (how often the best text is a positive) and `logit_scale`.
    """
    if upstream_compat:
        return _upstream_contrastive(sensor_embeddings, text_embeddings, logit_scale)
    scale = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
    sensors, texts = normalize(sensor_embeddings), normalize(text_embeddings)
    all_sensors, all_texts, all_ids, all_valid = sensors, texts, text_ids, valid
    if bank is not None:
        all_sensors = torch.cat([sensors, bank.sensors])  # (M, E)
        all_texts = torch.cat([texts, bank.texts], dim=1)  # (C, M, E)
        all_ids = torch.cat([text_ids, bank.text_ids], dim=1)
        all_valid = torch.cat([valid, bank.valid], dim=1)
    positive = (text_ids[:, :, None] == all_ids[:, None, :]) & all_valid[:, None, :]  # (C, B, M)
    to_text = scale * (sensors @ all_texts.transpose(1, 2))  # (C, B, M)
    to_sensor = scale * (texts @ all_sensors.T)  # (C, B, M)
    terms = -0.5 * (_log_likelihood(to_text, positive, valid, all_valid) + _log_likelihood(to_sensor, positive, valid, all_valid))
    per_combination = terms.sum(dim=1) / valid.sum(dim=1).clamp(min=1)  # (C,)
    loss = per_combination.sum() / valid.any(dim=1).sum().clamp(min=1)
    return loss, _contrastive_metrics(loss, to_text, positive, valid, all_valid, scale)


def _log_likelihood(logits: Tensor, positive: Tensor, valid: Tensor, candidates: Tensor) -> Tensor:
    """(C, B) mean log-softmax over the positives of logits (C, B, M); 0 for rows that are not valid, (C, B)."""
    # A row that is not valid may have no candidate at all: it keeps them all, and is dropped at the end.
    allowed = candidates[:, None, :] | ~valid[:, :, None]
    log_p = logits.masked_fill(~allowed, -math.inf).log_softmax(dim=-1)
    mean = torch.where(positive, log_p, 0.0).sum(dim=-1) / positive.sum(dim=-1).clamp(min=1)
    return torch.where(valid, mean, 0.0)


@torch.no_grad()
def _contrastive_metrics(loss: Tensor, logits: Tensor, positive: Tensor, valid: Tensor, candidates: Tensor, scale: Tensor) -> Metrics:
    best = logits.masked_fill(~candidates[:, None, :], -math.inf).argmax(dim=-1, keepdim=True)
    hit = positive.gather(2, best).squeeze(2) & valid
    accuracy = hit.sum() / valid.sum().clamp(min=1)
    return {"loss/contrastive": loss.item(), "contrastive_accuracy": accuracy.item(), "logit_scale": scale.item()}


def _upstream_contrastive(sensors: Tensor, texts: Tensor, multiplier: Tensor) -> tuple[Tensor, Metrics]:
    u = sensors / (sensors.norm(dim=-1, keepdim=True) + UPSTREAM_NORM_OFFSET)
    v = texts / (texts.norm(dim=-1, keepdim=True) + UPSTREAM_NORM_OFFSET)
    logits = multiplier * (u @ v.transpose(1, 2))  # (C, B, B)
    target = torch.arange(len(u), device=u.device).expand(logits.shape[:2])
    loss = 0.5 * (F.cross_entropy(logits.transpose(1, 2), target) + F.cross_entropy(logits, target))
    accuracy = (logits.argmax(dim=2) == target).float().mean()
    return loss, {"loss/contrastive": loss.item(), "contrastive_accuracy": accuracy.item(), "logit_scale": multiplier.item()}


def generation_loss(logits: Tensor, targets: Tensor, valid: Tensor, pad: int, *, upstream_compat: bool = False) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the words of valid rows, without their padding, averaged over words.

    With `upstream_compat` all rows and all L positions count, padding as well.

    Args:
        logits: (B, L, V).
        targets: (B, L) int64, padded with `pad`.
        valid: (B,) bool, whether the row's text is true of what its sensors have met.
        pad: index of the padding.

    Returns:
        Loss (), 0 without a valid row; `loss/generation` and `word_accuracy`.
    """
    counts = torch.ones_like(targets, dtype=torch.bool) if upstream_compat else (targets != pad) & valid[:, None]
    losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")  # (B, L)
    words = counts.sum().clamp(min=1)
    loss = torch.where(counts, losses, 0.0).sum() / words
    right = (logits.detach().argmax(dim=2) == targets) & counts
    return loss, {"loss/generation": loss.item(), "word_accuracy": (right.sum() / words).item()}
