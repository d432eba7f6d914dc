"""The action expert over cached keys and values: what may change it, what may not, and that caching changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from torch import nn

from handsight.kernels.layout import Segment
from handsight.policies.action_expert import ActionExpert, expert_layout
from handsight.policies.backbone import Features, FlowHead
from handsight.policies.flow import FlowMatching
from handsight.policies.fuse.modeling_fuse import FusePolicy
from handsight.policies.prefix_cache import PrefixCache
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import ACTION, STATE

EXPERT = {"trunk": "transformer", "head": "transformer", "layers": 2, "condition_width": 48, "flow_steps": 5}
MakePolicy = Callable[..., FusePolicy]
MakeBatch = Callable[..., dict[str, Any]]


def agitate(model: nn.Module, seed: int = 1) -> None:
    """Gates that start at zero hide what flows through them."""
    g = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.data += 0.05 * torch.randn(p.shape, generator=g)


def expert(prefix: int, chunk: int, *, seed: int = 0) -> ActionExpert:
    torch.manual_seed(seed)
    made = ActionExpert([Segment("seen", prefix)], chunk, 3, width=16, layers=2, heads=2, head_width=8)
    agitate(made)
    return made.eval()


def cache(batch: int, prefix: int, *, seed: int = 0) -> PrefixCache:
    g = torch.Generator().manual_seed(seed)
    keys, values = (tuple(torch.randn(batch, 2, prefix, 8, generator=g) for _ in range(2)) for _ in range(2))
    present = torch.rand(batch, prefix, generator=g) < 0.7
    return PrefixCache(keys, values, present)


def observed(batch: int, prefix: int) -> Features:
    """Features of which only the cache matters."""
    return Features(torch.zeros(batch, 1), torch.zeros(batch, 0, 1), None, None, cache(batch, prefix))  # type: ignore[arg-type]


def test_actions_see_the_prefix_and_each_other() -> None:
    layout = expert_layout([Segment("words", 2), Segment("front0", 3)], chunk=4)
    assert [segment.name for segment in layout.queries] == ["actions"]
    assert [segment.name for segment in layout.keys] == ["words", "front0", "actions"]
    assert layout.is_full


@settings(max_examples=25, deadline=None)
@given(batch=st.integers(1, 3), prefix=st.integers(1, 9), chunk=st.integers(1, 6), steps=st.integers(1, 4))
def test_a_cached_schedule_is_the_velocity_asked_step_by_step(batch: int, prefix: int, chunk: int, steps: int) -> None:
    head, features, flow = expert(prefix, chunk), observed(batch, prefix), FlowMatching(steps=steps)
    noise = torch.randn(batch, chunk, 3, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        cached = flow.follow(head.fields(flow.schedule(like=noise), features), noise)
        context = head.context(features)
        recomputed = flow.integrate(lambda x, t: head(x, t, context), noise)
    torch.testing.assert_close(cached, recomputed, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("once", [False, True])
def test_the_mlp_heads_schedule_is_the_velocity_asked_step_by_step(once: bool) -> None:
    torch.manual_seed(0)
    head = FlowHead(4, 3, condition_width=12, width=32, blocks=2, modulates_once=once)
    agitate(head)
    features = Features(torch.randn(3, 12), torch.zeros(3, 0, 1), None, None, None)  # type: ignore[arg-type]
    noise, flow = torch.randn(3, 4, 3), FlowMatching(steps=5)
    with torch.no_grad():
        scheduled = flow.follow(head.fields(flow.schedule(like=noise), features), noise)
        recomputed = flow.integrate(lambda x, t: head(x, t, features.condition), noise)
    torch.testing.assert_close(scheduled, recomputed, atol=1e-6, rtol=1e-5)
    assert once or torch.equal(scheduled, recomputed)  # what checkpoints were evaluated with stays the same to the bit


def test_a_roomy_cache_is_the_plain_one_and_is_not_written_to_while_gradients_are_recorded() -> None:
    plain = cache(2, 5)
    roomy = plain.with_room(3)
    k, v = torch.randn(2, 2, 2, 3, 8).unbind(0)
    with torch.no_grad():
        first = roomy.followed_by(1, k, v)
        assert all(torch.equal(a, b) for a, b in zip(first, plain.followed_by(1, k, v), strict=True))
        assert first[0].data_ptr() == roomy.followed_by(1, k + 1, v)[0].data_ptr()  # the same memory: the prefix was not copied again
    recorded = roomy.followed_by(1, k.requires_grad_(), v)
    assert recorded[0].data_ptr() != first[0].data_ptr()
    recorded[0].sum().backward()
    assert k.grad is not None


def test_padding_is_invisible_and_every_present_token_is_seen() -> None:
    head, given_cache = expert(6, 4), cache(2, 6)
    x, t = torch.randn(2, 4, 3), torch.tensor([0.2, 0.7])
    reference = head(x, t, given_cache)
    for token in range(6):
        keys = tuple(k.clone() for k in given_cache.keys)
        for k in keys:
            k[:, :, token] += 3.0
        changed = (head(x, t, PrefixCache(keys, given_cache.values, given_cache.present)) - reference).abs().amax(dim=(1, 2)) > 1e-6
        assert torch.equal(changed, given_cache.present[:, token])


def test_every_action_token_sees_every_other() -> None:
    head, given_cache = expert(3, 4), cache(1, 3)
    x = torch.randn(1, 4, 3, requires_grad=True)
    for i in range(4):
        (gradient,) = torch.autograd.grad(head(x, torch.tensor([0.3]), given_cache)[0, i].sum(), x)
        assert (gradient[0].abs().sum(dim=-1) > 0).all()


def test_it_starts_as_a_map_of_each_action_alone() -> None:
    torch.manual_seed(0)
    head = ActionExpert([Segment("seen", 3)], 4, 3, width=16, layers=2, heads=2, head_width=8)
    x = torch.randn(2, 4, 3)
    one, other = (head(x, torch.tensor(t), cache(2, 3, seed=seed)) for t, seed in (([0.1, 0.2], 0), ([0.8, 0.9], 1)))
    assert torch.equal(one, other)  # gates closed: neither the time nor the observation has a say yet


def test_the_trunk_runs_once_a_prediction(make_policy: MakePolicy, make_batch: MakeBatch) -> None:
    policy = make_policy(**EXPERT)
    batch = make_batch(policy.config)
    network = policy.eval()._network()
    calls = {"trunk": 0, "block": 0}
    network.trunk.register_forward_hook(lambda *_: calls.__setitem__("trunk", calls["trunk"] + 1))
    network.head.blocks[0].register_forward_hook(lambda *_: calls.__setitem__("block", calls["block"] + 1))
    policy.predict_action_chunk(batch)
    assert calls == {"trunk": 1, "block": 5}


def test_a_cached_prediction_is_the_one_that_recomputes_the_prefix(make_policy: MakePolicy, make_batch: MakeBatch) -> None:
    policy = make_policy(**EXPERT, flow_temperature=1.0).eval()
    agitate(policy._network())
    batch, network = make_batch(policy.config), policy._network()
    noise = torch.randn(4, 16, 7)
    with torch.no_grad():
        recomputed = policy.config.flow.integrate(lambda x, t: network.head(x, t, network.head.context(policy.features(batch))), noise)
    torch.testing.assert_close(policy.predict_action_chunk(batch, noise=noise), recomputed, atol=1e-6, rtol=1e-5)


def test_every_sensor_and_the_instruction_change_the_action(make_policy: MakePolicy, make_batch: MakeBatch) -> None:
    policy = make_policy(**EXPERT, sensor_dropout={}).eval()
    agitate(policy._network())
    batch, noise = make_batch(policy.config), torch.randn(4, 16, 7)
    reference = policy.predict_action_chunk(batch, noise=noise)
    language = [key for key in batch if key.startswith("observation.language")]
    for keys in ([key] for key in policy.config.sensor_keys.values()), (language,):
        for group in keys:
            rolled = batch | {key: batch[key].roll(1, dims=0) for key in group}
            assert not torch.allclose(policy.predict_action_chunk(rolled, noise=noise), reference, atol=1e-5), group


def test_real_time_chunking_keeps_to_the_previous_chunk(make_policy: MakePolicy, make_batch: MakeBatch) -> None:
    policy = make_policy(**EXPERT | {"flow_steps": 10}).eval()
    agitate(policy._network())
    batch, noise = make_batch(policy.config), torch.randn(4, 16, 7)
    rest = policy.predict_action_chunk(batch)[:, 6:]
    free = policy.predict_action_chunk(batch, noise, inference_delay=3, prev_chunk_left_over=rest)
    policy.config.rtc_config = RTCConfig(execution_horizon=8)
    policy.init_rtc_processor()
    guided = policy.predict_action_chunk(batch, noise, inference_delay=3, prev_chunk_left_over=rest)
    assert (guided[:, :3] - rest[:, :3]).abs().mean() < 0.2 * (free[:, :3] - rest[:, :3]).abs().mean()


def test_it_overfits_one_batch(make_policy: MakePolicy, make_batch: MakeBatch) -> None:
    """Four chunks of white noise, told apart by the observation alone: a head that did not read the cache would predict their mean."""
    policy = make_policy(**EXPERT, sensors="state", ema_decay=0.0, word_insert=0.0, word_drop=0.0, keyframe_weight=0.0, optimizer_lr=4e-3)
    batch = make_batch(policy.config)
    optimizer = policy.config.get_optimizer_preset().build(policy.get_optim_params())
    losses = []
    for _ in range(500):
        loss, metrics = policy.train().forward(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(metrics["loss/flow"])
    assert sum(losses[-20:]) < 0.1 * sum(losses[:20])
    error = (policy.predict_action_chunk(batch) - batch[ACTION]).abs().mean()
    assert error < 0.3 * (batch[ACTION] - batch[ACTION].mean(dim=0)).abs().mean()


def test_it_needs_the_transformer_trunk(make_policy: MakePolicy) -> None:
    with pytest.raises(HandsightError, match="expected trunk=transformer with head=transformer, got trunk=mlp") as caught:
        make_policy(head="transformer")
    assert "\n" not in str(caught.value)


def test_checkpoints_hold_the_head(make_policy: MakePolicy, make_batch: MakeBatch, tmp_path: Any) -> None:
    policy = make_policy(**EXPERT).eval()
    agitate(policy._network())
    batch, noise = make_batch(policy.config), torch.randn(4, 16, 7)
    policy.save_pretrained(tmp_path)
    assert batch[STATE] is not None
    loaded = FusePolicy.from_pretrained(tmp_path)
    assert torch.equal(loaded.predict_action_chunk(batch, noise=noise), policy.predict_action_chunk(batch, noise=noise))
