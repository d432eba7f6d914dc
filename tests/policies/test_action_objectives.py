"""Regression and diffusion heads: their equations, and the fuse policy with each of the three."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handsight.policies.diffusion import Diffusion, signal
from handsight.policies.flow import FlowMatching
from handsight.policies.regression import Regression
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import ACTION

OBJECTIVES = [FlowMatching(steps=4), Regression(), Diffusion(100, 10)]


def test_signal_falls_from_one_to_almost_nothing() -> None:
    values = signal(100)
    assert len(values) == 101
    assert values[0] == 1
    assert all(after < before for before, after in itertools.pairwise(values))
    assert 0 < values[-1] < 1e-4
    assert values[50] == pytest.approx(math.cos((0.5 + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=20)
def test_diffusion_pairs_are_on_the_path(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    data = torch.randn(8, 3, 2, generator=g, dtype=torch.float64)
    pair = Diffusion().pair(data, g)
    k = (pair.t * 100).round().long()
    assert ((k >= 1) & (k <= 100)).all()
    a = torch.tensor(signal(100), dtype=torch.float64)[k].view(-1, 1, 1)
    torch.testing.assert_close(a.sqrt() * pair.x - (1 - a).sqrt() * pair.target, data)


@pytest.mark.parametrize("steps", [1, 5, 100])
def test_ddim_with_the_true_answer_finds_the_data(steps: int) -> None:
    """The optimal predictor for one known datum: v = (sqrt(a) x - data) / sqrt(1 - a)."""
    diffusion = Diffusion(100, steps)
    g = torch.Generator().manual_seed(0)
    data, noise = torch.randn(2, 4, 3, 2, generator=g, dtype=torch.float64).unbind(0)
    a = [signal(100)[round(100 * t)] for t in diffusion.schedule(like=noise).tolist()]
    fields = [lambda x, s=s: (math.sqrt(s) * x - data) / math.sqrt(1 - s) for s in a]
    torch.testing.assert_close(diffusion.follow(fields, noise), data, atol=1e-6, rtol=1e-6)


def test_regression_is_bounded_and_knows_no_noise() -> None:
    regression = Regression()
    y = torch.linspace(-100, 100, 9)
    assert regression.output(y).abs().max() <= 5
    torch.testing.assert_close(regression.output(0.01 * y[4:6]), 5 * torch.tanh(0.01 * y[4:6] / 5))
    data = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    pair = regression.pair(data)
    assert torch.equal(pair.target, data)
    assert not pair.x.any()
    assert not regression.source((3, 2), like=data).any()
    answers = [regression.follow([lambda x: x + 7], noise) for noise in (data, 2 * data)]
    assert torch.equal(*answers)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_the_best_constant_is_learnt(objective: Any) -> None:
    """With the exact answer as the network, training error is 0: pairs, output and target agree."""
    data = torch.full((64, 3, 2), 0.5)
    pair = objective.pair(data, torch.Generator().manual_seed(0))
    t = pair.t.view(-1, 1, 1)
    if isinstance(objective, FlowMatching):
        answer = (data - pair.x) / (1 - t)
    elif isinstance(objective, Diffusion):
        a = torch.tensor(signal(100))[(pair.t * 100).round().long()].view(-1, 1, 1)
        answer = (a.sqrt() * pair.x - data) / (1 - a).sqrt()
    else:
        answer = 5 * torch.atanh(data / 5)
    torch.testing.assert_close(objective.output(answer), pair.target, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("head", [{}, {"trunk": "transformer", "layers": 1, "head": "transformer"}], ids=["mlp", "transformer"])
@pytest.mark.parametrize("kind", ["flow", "regression", "diffusion"])
def test_the_policy_with_each_head(make_policy, make_batch, kind, head) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(action_head=kind, flow_steps=5, **head)
    batch = make_batch(policy.config)
    loss, metrics = policy.train().forward(batch)
    loss.backward()
    assert f"loss/{kind}" in metrics
    assert policy.supports_rtc() == (kind == "flow")
    noise = torch.randn(4, 16, 7, generator=torch.Generator().manual_seed(0))
    one, two = (policy.predict_action_chunk(batch, noise=noise * factor) for factor in (1, 2))
    assert one.shape == (4, 16, 7)
    assert one.isfinite().all()
    assert torch.equal(one, two) == (kind == "regression")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["regression", "diffusion"])
def test_overfits_one_batch(make_policy, make_batch, kind) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(
        action_head=kind,
        flow_steps=20,
        flow_draws=8,
        ema_decay=0.0,
        image_light=0.0,
        sensor_dropout={},
        word_insert=0.0,
        keyframe_weight=0.0,
    )
    batch = make_batch(policy.config)
    batch[ACTION] = batch[ACTION] / batch[ACTION].std()  # as standardised data are; the random ones have channels at the floor
    optimizer = policy.config.get_optimizer_preset().build(policy.get_optim_params())
    losses = []
    for _ in range(300):
        loss, _ = policy.train().forward(batch)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sum(losses[-20:]) < 0.75 * sum(losses[:20])
    target = batch[ACTION].clamp(-5, 5)
    assert (policy.predict_action_chunk(batch) - target).abs().mean() < 0.6 * target.abs().mean()


def test_steps_that_do_not_divide_the_schedule_are_refused(make_config) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(HandsightError, match="divide 100"):
        make_config(action_head="diffusion", flow_steps=3)
    with pytest.raises(HandsightError, match="expected action_head"):
        make_config(action_head="gan")
    with pytest.raises(HandsightError, match="language_readouts"):
        make_config(trunk="transformer", generation_weight=1.0)
    with pytest.raises(HandsightError, match="generation_combinations"):
        make_config(generation_weight=1.0, generation_combinations=8)
