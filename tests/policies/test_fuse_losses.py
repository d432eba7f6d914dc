"""The language losses against references written in NumPy from their equations, and what they promise."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from handsight.policies.fuse.bank import MemoryBank
from handsight.policies.fuse.losses import BankEntries, contrastive_loss, generation_loss

Array = NDArray[np.float64]
COMBINATIONS, WIDTH = 3, 4


def log_softmax(x: Array) -> Array:
    shifted = x - x.max()
    return shifted - np.log(np.exp(shifted).sum())


def contrastive_reference(u: Array, v: Array, ids: Array, valid: Array, scale: float, bank: BankEntries | None = None) -> float:
    """Loops over the rows that are valid, as the equation reads."""
    unit = lambda x: x / np.linalg.norm(x)  # noqa: E731
    losses = []
    for c in range(len(v)):
        candidates = [(unit(u[j]), unit(v[c, j]), ids[c, j]) for j in range(len(u)) if valid[c, j]]
        rows = list(range(len(candidates)))
        if bank is not None:
            parts = (bank.sensors.numpy(), bank.texts[c].numpy(), bank.text_ids[c].numpy())
            candidates += [(a, b, i) for a, b, i, ok in zip(*parts, bank.valid[c], strict=True) if ok]
        terms = []
        for i in rows:
            positives = [j for j, candidate in enumerate(candidates) if candidate[2] == candidates[i][2]]
            to_text = log_softmax(np.array([math.exp(scale) * candidates[i][0] @ candidate[1] for candidate in candidates]))
            to_sensor = log_softmax(np.array([math.exp(scale) * candidates[i][1] @ candidate[0] for candidate in candidates]))
            terms.append(-(to_text[positives].mean() + to_sensor[positives].mean()) / 2)
        if terms:
            losses.append(np.mean(terms))
    return float(np.mean(losses)) if losses else 0.0


def upstream_reference(u: Array, v: Array, multiplier: float) -> float:
    """CLIP's loss over the diagonal with a plain multiplier and softened norms, for every combination."""
    n = lambda x: x / (np.linalg.norm(x, axis=-1, keepdims=True) + 0.1)  # noqa: E731
    losses = []
    for texts in v:
        similarity = multiplier * n(u) @ n(texts).T
        rows = [-log_softmax(similarity[i])[i] for i in range(len(u))]
        columns = [-log_softmax(similarity[:, i])[i] for i in range(len(u))]
        losses.append((np.mean(rows) + np.mean(columns)) / 2)
    return float(np.mean(losses))


@st.composite
def contrasts(draw: st.DrawFn) -> dict[str, Any]:
    """Embeddings of which some texts mean the same and some are not valid."""
    batch, seed = draw(st.integers(1, 6)), draw(st.integers(0, 2**31))
    g = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    return {
        "sensor_embeddings": rand(batch, WIDTH),
        "text_embeddings": rand(COMBINATIONS, batch, WIDTH),
        "text_ids": torch.randint(0, 3, (COMBINATIONS, batch), generator=g),
        "valid": torch.rand(COMBINATIONS, batch, generator=g) < draw(st.sampled_from([0.0, 0.6, 1.0])),
        "logit_scale": torch.tensor(draw(st.floats(-1, 4)), dtype=torch.float64),
    }


def filled_bank(seed: int, rows: int = 5, capacity: int = 8) -> MemoryBank:
    g = torch.Generator().manual_seed(seed)
    bank = MemoryBank(capacity, COMBINATIONS, WIDTH).double()
    bank.push(
        torch.randn(rows, WIDTH, generator=g, dtype=torch.float64),
        torch.randn(COMBINATIONS, rows, WIDTH, generator=g, dtype=torch.float64),
        torch.randint(0, 3, (COMBINATIONS, rows), generator=g),
        torch.rand(COMBINATIONS, rows, generator=g) < 0.7,
    )
    return bank


@settings(max_examples=50)
@given(contrasts(), st.none() | st.integers(0, 99))
def test_contrastive_equals_the_reference(problem: dict[str, Any], seed: int | None) -> None:
    bank = None if seed is None else filled_bank(seed).entries()
    loss, metrics = contrastive_loss(**problem, bank=bank)
    arrays = [value.numpy() for value in problem.values()]
    expected = contrastive_reference(*arrays[:4], float(arrays[4]), bank)
    assert loss.item() == pytest.approx(expected, abs=1e-5, rel=1e-5)
    assert metrics["loss/contrastive"] == loss.item()
    assert metrics["logit_scale"] == pytest.approx(math.exp(float(arrays[4])))


@settings(max_examples=30)
@given(contrasts())
def test_upstream_contrastive_equals_the_reference(problem: dict[str, Any]) -> None:
    loss, _ = contrastive_loss(**problem, upstream_compat=True)
    u, v, _, _, multiplier = (value.numpy() for value in problem.values())
    assert loss.item() == pytest.approx(upstream_reference(u, v, float(multiplier)), abs=1e-5, rel=1e-5)


@settings(max_examples=30)
@given(contrasts(), st.randoms(use_true_random=False))
def test_contrastive_does_not_depend_on_the_order_of_rows(problem: dict[str, Any], random: Any) -> None:
    order = list(range(len(problem["sensor_embeddings"])))
    random.shuffle(order)
    moved = problem | {name: problem[name][:, order] for name in ("text_embeddings", "text_ids", "valid")}
    moved["sensor_embeddings"] = problem["sensor_embeddings"][order]
    for compat in (False, True):
        before, after = (contrastive_loss(**p, upstream_compat=compat)[0] for p in (problem, moved))
        torch.testing.assert_close(after, before)


@settings(max_examples=30)
@given(contrasts())
def test_what_is_not_valid_has_no_influence(problem: dict[str, Any]) -> None:
    u, v = (problem[name].clone().requires_grad_() for name in ("sensor_embeddings", "text_embeddings"))
    loss, _ = contrastive_loss(**problem | {"sensor_embeddings": u, "text_embeddings": v})
    loss.backward()
    assert u.grad is not None
    assert v.grad is not None
    assert loss.isfinite()
    assert u.grad.isfinite().all()
    assert (v.grad[~problem["valid"]] == 0).all()
    assert (u.grad[~problem["valid"].any(dim=0)] == 0).all()


def test_texts_that_mean_the_same_are_no_negatives() -> None:
    """Where all rows mean the same, no arrangement of embeddings is wrong more than another is; as negatives they would be."""
    u = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0))
    same = u[:1].expand(4, -1)
    arguments = {"valid": torch.ones(1, 4, dtype=torch.bool), "logit_scale": torch.tensor(2.0)}
    ids = torch.zeros(1, 4, dtype=torch.int64)
    alike, _ = contrastive_loss(same, same[None], ids, **arguments)
    assert alike.item() == pytest.approx(math.log(4))  # the entropy of four positives: no lower value exists
    gradient_of = same.clone().requires_grad_()
    contrastive_loss(gradient_of, same[None], ids, **arguments)[0].backward()
    assert gradient_of.grad is not None
    assert gradient_of.grad.abs().max() < 1e-6
    distinct, metrics = contrastive_loss(u, u[None], torch.arange(4)[None], **arguments)
    assert distinct < math.log(4)
    assert metrics["contrastive_accuracy"] == 1


def test_the_scale_is_clamped() -> None:
    u = torch.eye(2)
    arguments = (u, u[None], torch.arange(2)[None], torch.ones(1, 2, dtype=torch.bool))
    scale = torch.tensor(9.0, requires_grad=True)
    loss, metrics = contrastive_loss(*arguments, scale)
    loss.backward()
    assert metrics["logit_scale"] == pytest.approx(100)
    assert scale.grad == 0


def test_the_bank_keeps_the_latest_rows_and_no_gradient() -> None:
    bank = MemoryBank(4, 1, 2)
    assert not bank.entries().valid.any()
    leaf = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for start in (0, 3, 6):
        bank.push(leaf + start, (leaf + start)[None], torch.arange(start, start + 3)[None], torch.ones(1, 3, dtype=torch.bool))
    entries = bank.entries()
    assert sorted(entries.text_ids[0].tolist()) == [5, 6, 7, 8]
    assert not entries.sensors.requires_grad
    torch.testing.assert_close(entries.sensors.norm(dim=1), torch.ones(4))
    bank.push(torch.randn(9, 2), torch.randn(1, 9, 2), torch.arange(9)[None], torch.ones(1, 9, dtype=torch.bool))
    assert sorted(bank.entries().text_ids[0].tolist()) == [5, 6, 7, 8]
    assert not MemoryBank(4, 1, 2).state_dict()


def test_more_negatives_from_the_bank_make_it_harder() -> None:
    g = torch.Generator().manual_seed(0)
    u, v = torch.randn(4, WIDTH, generator=g), torch.randn(COMBINATIONS, 4, WIDTH, generator=g)
    ids, valid = torch.arange(4).expand(COMBINATIONS, 4), torch.ones(COMBINATIONS, 4, dtype=torch.bool)
    bank = MemoryBank(64, COMBINATIONS, WIDTH)
    alone, _ = contrastive_loss(u, v, ids, valid, torch.tensor(1.0), bank.entries())
    assert alone.item() == pytest.approx(contrastive_loss(u, v, ids, valid, torch.tensor(1.0))[0].item(), abs=1e-6)
    bank.push(
        torch.randn(64, WIDTH, generator=g),
        torch.randn(COMBINATIONS, 64, WIDTH, generator=g),
        torch.full((COMBINATIONS, 64), 9),
        torch.ones(COMBINATIONS, 64, dtype=torch.bool),
    )
    assert contrastive_loss(u, v, ids, valid, torch.tensor(1.0), bank.entries())[0] > alone + 1


@pytest.mark.parametrize("compat", [False, True])
@settings(max_examples=30)
@given(batch=st.integers(1, 4), length=st.integers(1, 5), seed=st.integers(0, 2**31))
def test_generation_equals_the_reference(compat: bool, batch: int, length: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, length, 6, generator=g, dtype=torch.float64).requires_grad_()
    targets = torch.randint(0, 6, (batch, length), generator=g)
    valid = torch.rand(batch, generator=g) < 0.6
    loss, metrics = generation_loss(logits, targets, valid, 0, upstream_compat=compat)
    places = [(b, i) for b in range(batch) for i in range(length) if compat or (valid[b] and targets[b, i] != 0)]
    values = logits.detach().numpy()
    terms = [-log_softmax(values[b, i])[targets[b, i]] for b, i in places]
    assert loss.item() == pytest.approx(float(np.mean(terms)) if terms else 0.0, abs=1e-5)
    right = [values[b, i].argmax() == targets[b, i] for b, i in places]
    assert metrics["word_accuracy"] == pytest.approx(float(np.mean(right)) if right else 0.0)
    loss.backward()
    assert logits.grad is not None
    ignored = torch.ones(batch, length, dtype=torch.bool)
    for b, i in places:
        ignored[b, i] = False
    assert (logits.grad[ignored] == 0).all()
