"""What every policy plugin must hold (C2 to C15 of LeRobot's conformance ideas), on the fuse policy."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from lerobot.rollout.inference.rtc import supports_rtc_inference
from lerobot.utils.constants import OBS_LANGUAGE_TOKENS

from handsight.policies.fuse.modeling_fuse import FusePolicy, export_checkpoint
from handsight.policies.fuse.processor_fuse import KEYFRAME_OFFSET, make_fuse_pre_post_processors
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import ACTION, AUDIO, FRONT, KEY_OF_SENSOR, KEYFRAME, STATE, TOUCH, WRIST, Sensor

STRIDED = (-4, -2, 0)
HISTORY = {"state_history": STRIDED, "touch_history": STRIDED, "audio_history": (-2, -1, 0)}
TRUNKS = [{}, {"trunk": "transformer", "layers": 2, "language_readouts": 3}]
SENSORS = list(KEY_OF_SENSOR.values())
STATS = {
    STATE: {"mean": torch.full((15,), 0.1), "std": torch.linspace(0.0, 1.0, 15)},
    ACTION: {"mean": torch.full((7,), 0.05), "std": torch.linspace(0.0, 0.6, 7)},
    TOUCH: {"mean": torch.full((1,), 3.0), "std": torch.full((1,), 9.0)},
}


def chunk(policy: FusePolicy, batch: dict[str, Any]) -> torch.Tensor:
    """The chunk of a fixed noise."""
    rows = batch[STATE].shape[0] if batch.get(STATE) is not None else 4
    noise = torch.randn(rows, 16, 7, generator=torch.Generator().manual_seed(5))
    return policy.predict_action_chunk(batch, noise=noise)


def agitate(policy: FusePolicy) -> FusePolicy:
    """Layers that start at zero (FiLM, AdaLN) hide what flows through them: give every weight a value, in both copies."""
    g = torch.Generator().manual_seed(1)
    for p in policy.model.parameters():
        p.data += 0.05 * torch.randn(p.shape, generator=g)
    if policy.ema is not None:
        policy.ema.restart(policy.model)
    return policy


@pytest.mark.parametrize("trunk", TRUNKS)
def test_forward_is_finite_scalar_and_leaves_the_batch_alone(make_policy, make_batch, trunk) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(**trunk)
    batch = make_batch(policy.config)
    before = copy.deepcopy(batch)
    loss, metrics = policy.train().forward(batch)
    assert loss.shape == ()
    assert loss.isfinite()
    assert set(metrics) == {"loss/flow", "loss/keyframe", "keyframe_cm"}
    assert all(type(value) is float for value in metrics.values())
    assert batch.keys() == before.keys()
    assert all(torch.equal(batch[key], before[key]) for key in batch if isinstance(batch[key], torch.Tensor))


def test_reduction_none_is_per_sample(make_policy, make_batch) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy().eval()
    batch = make_batch(policy.config)
    losses, _ = policy.forward(batch, reduction="none", generator=torch.Generator().manual_seed(0))
    mean, _ = policy.forward(batch, generator=torch.Generator().manual_seed(0))
    assert losses.shape == (4,)
    torch.testing.assert_close(losses.mean(), mean)


def test_padded_actions_teach_nothing(make_policy, make_batch) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(flow_draws=1).eval()
    batch = make_batch(policy.config)
    batch["action_is_pad"][:, 5:] = True
    pair = policy.config.flow.pair(batch[ACTION], torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = policy.features(batch)
        velocity = policy._network().head(pair.x, pair.t, features.condition)
        expected = (velocity - pair.target).square()[:, :5].mean(dim=(1, 2))
        loss = policy._action_loss(policy._network(), features, batch, torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("key", SENSORS)
def test_every_sensor_gets_gradient_and_changes_the_action(make_policy, make_batch, trunk, key) -> None:  # type: ignore[no-untyped-def]
    policy = agitate(make_policy(**HISTORY, **trunk, sensor_dropout={}))
    batch = make_batch(policy.config)
    policy.train().forward(batch)[0].backward()
    name = {value: name for name, value in policy.config.sensor_keys.items()}[key]
    gradients = [p.grad for p in policy.model.sensors.encoders[name].parameters() if p.grad is not None]
    assert gradients
    assert any(g.abs().max() > 0 for g in gradients)
    shuffled = batch | {key: batch[key].roll(1, dims=0)}
    assert not torch.allclose(chunk(policy, batch), chunk(policy, shuffled), atol=1e-5)


def test_the_instruction_changes_the_action(make_policy, raw_batch) -> None:  # type: ignore[no-untyped-def]
    policy = agitate(make_policy())
    raw = raw_batch(policy.config)
    pre, _ = make_fuse_pre_post_processors(policy.config, STATS)
    other = raw | {"task": raw["task"][::-1]}
    assert not torch.allclose(chunk(policy, pre(raw)), chunk(policy, pre(other)), atol=1e-5)


@pytest.mark.parametrize("key", SENSORS)
def test_missing_sensor_is_defined(make_policy, make_batch, key) -> None:  # type: ignore[no-untyped-def]
    policy = agitate(make_policy())
    batch = make_batch(policy.config)
    missing = chunk(policy, batch | {key: None})
    assert missing.isfinite().all()
    noisy = batch | {key: torch.rand_like(batch[key])}
    masked = make_policy(masked={value: str(sensor.name).lower() for sensor, value in KEY_OF_SENSOR.items()}[key])
    masked.load_state_dict(policy.state_dict())
    assert torch.equal(chunk(masked, noisy), missing)
    with pytest.raises(HandsightError, match=f"expected {key}"):
        chunk(policy, {k: v for k, v in batch.items() if k != key})


@pytest.mark.parametrize("trunk", TRUNKS)
def test_save_and_load_are_bit_equal_with_processors(make_policy, raw_batch, tmp_path: Path, trunk) -> None:  # type: ignore[no-untyped-def]
    policy = agitate(make_policy(**HISTORY, **trunk))
    pre, post = make_fuse_pre_post_processors(policy.config, STATS)
    for part in (policy, pre, post):
        part.save_pretrained(tmp_path)
    config = PreTrainedConfig.from_pretrained(tmp_path)
    loaded = FusePolicy.from_pretrained(tmp_path, config=config)
    pre2, post2 = make_pre_post_processors(config, str(tmp_path))
    raw = raw_batch(policy.config)
    assert torch.equal(post(chunk(policy, pre(raw))), post2(chunk(loaded, pre2(raw))))
    state = loaded.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in policy.state_dict().items())


def test_lerobots_overrides_on_resume_and_finetuning(make_policy, raw_batch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The names that lerobot_train overrides exist, and its normaliser never touches touch, audio or labels."""
    policy = make_policy()
    pre, post = make_fuse_pre_post_processors(policy.config, STATS)
    pre.save_pretrained(tmp_path)
    post.save_pretrained(tmp_path)
    features = {**policy.config.input_features, **policy.config.output_features}
    norm_map = policy.config.normalization_mapping
    stats = STATS | {AUDIO: {"mean": torch.zeros(1), "std": torch.full((1,), 9.0)}}
    normalizer = {"features": features, "norm_map": norm_map, "stats": stats}
    unnormalizer = {"features": policy.config.output_features, "norm_map": norm_map, "stats": stats}
    pre2, _ = make_pre_post_processors(
        policy.config,
        str(tmp_path),
        preprocessor_overrides={
            "device_processor": {"device": "cpu"},
            "normalizer_processor": normalizer,
            "rename_observations_processor": {"rename_map": {}},
        },
        postprocessor_overrides={"unnormalizer_processor": unnormalizer},
    )
    first, second = pre(raw_batch(policy.config)), pre2(raw_batch(policy.config))
    for key in (TOUCH, AUDIO, KEYFRAME, FRONT, WRIST):
        assert torch.equal(first[key], second[key])


def test_preprocessing(make_policy, raw_batch) -> None:  # type: ignore[no-untyped-def]
    config = make_policy(**HISTORY).config
    raw = raw_batch(config)
    pre, post = make_fuse_pre_post_processors(config, STATS)
    batch = pre(raw)
    assert batch[TOUCH].shape == (4, 3, 2, 3, 16, 16)
    assert 0 <= batch[TOUCH].min() <= batch[TOUCH].max() <= 1
    assert batch[AUDIO].dtype == torch.float32
    torch.testing.assert_close(batch[AUDIO], raw[AUDIO].float() / 32767)
    torch.testing.assert_close(batch[KEYFRAME_OFFSET], raw[KEYFRAME][:, :3] - raw[STATE][:, -1, :3])
    assert torch.equal(batch[KEYFRAME], raw[KEYFRAME])
    std = torch.linspace(0.0, 1.0, 15).clamp_min(config.state_std_floor)
    torch.testing.assert_close(batch[STATE], (raw[STATE] - 0.1) / std)
    torch.testing.assert_close(post(batch[ACTION]), raw[ACTION])
    with pytest.raises(HandsightError, match="instruction"):
        pre({key: value for key, value in raw.items() if key != "task"})


def test_training_and_rollout_preprocessing_are_bit_equal(make_policy, raw_batch) -> None:  # type: ignore[no-untyped-def]
    """A recorded row (flat touch, int16 audio) and the live frame (taxels, float audio) give the same tensors."""
    config = make_policy().config
    raw = raw_batch(config, batch=1)
    pre, _ = make_fuse_pre_post_processors(config, STATS)
    recorded = {key: raw[key][:, -1] for key in (STATE, TOUCH, AUDIO)} | {FRONT: raw[FRONT], WRIST: raw[WRIST], "task": raw["task"]}
    wide = recorded | {AUDIO: recorded[AUDIO].long()}  # LeRobot's own reader
    live = recorded | {TOUCH: recorded[TOUCH][0].view(2, 3, 16, 16), AUDIO: recorded[AUDIO][0].float() / 32767, "task": raw["task"][0]}
    a, b, c = pre(recorded), pre(wide), pre(live)
    for key in SENSORS:
        assert torch.equal(a[key], b[key])
        assert torch.equal(a[key], c[key])


def test_select_action_is_the_queue_of_chunks_over_the_dataset_windows(make_policy, make_frames) -> None:  # type: ignore[no-untyped-def]
    policy = agitate(make_policy(**HISTORY, n_action_steps=3))
    pre, _ = make_fuse_pre_post_processors(policy.config, STATS)
    frames = [pre(frame) for frame in make_frames(policy.config, 8, batch=2)]
    torch.manual_seed(3)
    actions, looked = [], []
    for frame in frames:
        looked.append(policy.looks)
        seen = frame if policy.looks else {key: value for key, value in frame.items() if key not in (FRONT, WRIST)}
        actions.append(policy.select_action(seen))
    assert looked == [step % 3 == 0 for step in range(8)]
    torch.manual_seed(3)
    for start in (0, 3, 6):
        windows = {
            key: torch.stack([frames[max(0, start + offset)][key] for offset in policy.config.history_of(key)], dim=1)
            for key in (STATE, TOUCH, AUDIO)
        }
        expected = FusePolicy.predict_action_chunk(policy, frames[start] | windows)
        for i in range(start, min(start + 3, 8)):
            assert torch.equal(actions[i], expected[:, i - start])


def test_union_windows_of_lerobots_reader_give_the_same(make_policy, make_batch) -> None:  # type: ignore[no-untyped-def]
    policy = agitate(make_policy(**HISTORY))
    batch = make_batch(policy.config)
    union = policy.config.observation_delta_indices
    wide = dict(batch)
    for key in SENSORS:
        want = policy.config.history_of(key)
        x = batch[key] if key in (STATE, TOUCH, AUDIO) else batch[key].unsqueeze(1)
        wide[key] = torch.stack([x[:, want.index(o)] if o in want else torch.full_like(x[:, 0], 0.3) for o in union], dim=1)
    assert torch.equal(chunk(policy, batch), chunk(policy, wide))


def test_reset_isolates_episodes_and_shallow_copies_share_nothing_but_weights(make_policy, make_frames) -> None:  # type: ignore[no-untyped-def]
    policy = agitate(make_policy(**HISTORY, n_action_steps=2))
    pre, _ = make_fuse_pre_post_processors(policy.config, STATS)
    one, two = ([pre(f) for f in make_frames(policy.config, 5, seed=seed)] for seed in (1, 2))

    def run(policy: FusePolicy, frames: list[dict[str, Any]]) -> torch.Tensor:
        policy.reset()
        torch.manual_seed(0)
        return torch.cat([policy.select_action(frame) for frame in frames])

    alone = run(policy, one)
    run(policy, two)
    assert torch.equal(run(policy, one), alone)
    slot = copy.copy(policy)
    slot.reset()
    policy.reset()
    states = [torch.Generator().manual_seed(0).get_state()] * 2
    outputs: list[list[torch.Tensor]] = [[], []]
    for frames in zip(one, two, strict=True):
        for i, (runner, frame) in enumerate(zip((policy, slot), frames, strict=True)):
            torch.set_rng_state(states[i])
            outputs[i].append(runner.select_action(frame))
            states[i] = torch.get_rng_state()
    assert torch.equal(torch.cat(outputs[0]), alone)
    assert torch.equal(torch.cat(outputs[1]), run(policy, two))


def test_chunk_does_not_depend_on_the_batch(make_policy, make_batch) -> None:  # type: ignore[no-untyped-def]
    policy = agitate(make_policy())
    batch = make_batch(policy.config)
    noise = torch.randn(4, 16, 7)
    whole = policy.predict_action_chunk(batch, noise=noise)
    for i in range(4):
        row = {key: value[i : i + 1] if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
        torch.testing.assert_close(policy.predict_action_chunk(row, noise=noise[i : i + 1]), whole[i : i + 1], atol=1e-5, rtol=1e-4)


def train(policy: FusePolicy, batch: dict[str, Any], steps: int) -> list[float]:
    optimizer = policy.config.get_optimizer_preset().build(policy.get_optim_params())
    losses = []
    for _ in range(steps):
        loss, metrics = policy.train().forward(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        policy.update()
        losses.append(metrics["loss/flow"])
    return losses


def test_overfits_one_batch(make_policy, make_batch) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(
        sensors="front,state,touch",
        ema_decay=0.9,
        image_light=0.0,
        sensor_dropout={},
        word_insert=0.0,
        word_replace=0.0,
        keyframe_weight=0.2,
    )
    batch = make_batch(policy.config)
    batch[KEYFRAME_OFFSET] = 0.1 * batch[KEYFRAME_OFFSET]  # as far as a workspace is wide
    losses = train(policy, batch, 600)
    assert sum(losses[-20:]) < 0.2 * sum(losses[:20])
    error = (policy.predict_action_chunk(batch) - batch[ACTION]).abs().mean()
    assert error < 0.3 * batch[ACTION].abs().mean()


def test_evaluation_uses_the_average_and_state_dicts_do_not_depend_on_the_mode(make_policy, make_batch) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(ema_decay=0.99)
    batch = make_batch(policy.config)
    train(policy, batch, 3)
    assert int(policy.ema.updates) == 3
    training = {key: value.clone() for key, value in policy.train().state_dict().items()}
    assert all(torch.equal(value, training[key]) for key, value in policy.eval().state_dict().items())
    averaged = make_policy(ema_decay=0.0)
    averaged.load_state_dict({"model." + key: value for key, value in policy.ema.module.state_dict().items()})
    assert torch.equal(chunk(policy, batch), chunk(averaged, batch))
    live = make_policy(ema_decay=0.0)
    live.load_state_dict({"model." + key: value for key, value in policy.model.state_dict().items()})
    assert not torch.equal(chunk(policy, batch), chunk(live, batch))


def test_resuming_is_bit_exact(make_policy, make_batch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def more(policy: FusePolicy) -> dict[str, torch.Tensor]:
        torch.manual_seed(7)
        train(policy, batch, 2)
        return policy.state_dict()

    policy = make_policy(sensors="front,touch")
    batch = make_batch(policy.config)
    train(policy, batch, 2)
    policy.save_pretrained(tmp_path)
    resumed = more(FusePolicy.from_pretrained(tmp_path))
    continued = more(policy)
    assert all(torch.equal(value, resumed[key]) for key, value in continued.items())


def test_exported_checkpoint_is_small_and_acts_the_same(make_policy, make_batch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy()
    batch = make_batch(policy.config)
    train(policy, batch, 2)
    full, slim = tmp_path / "full", tmp_path / "slim"
    policy.save_pretrained(full)
    for part in make_fuse_pre_post_processors(policy.config, STATS):
        part.save_pretrained(full)
    export_checkpoint(FusePolicy.from_pretrained(full), full, slim)
    assert sum(file.stat().st_size for file in slim.iterdir()) < 8_000_000
    loaded = FusePolicy.from_pretrained(slim)
    make_pre_post_processors(loaded.config, str(slim))
    torch.testing.assert_close(chunk(loaded, batch), chunk(policy, batch), atol=1e-2, rtol=1e-2)
    weights = loaded.model.state_dict()  # those that a finetuning goes on from, and averages from
    assert all(torch.equal(value, weights[name]) for name, value in loaded.ema.module.state_dict().items())


def test_finetuning_adds_language_losses_to_a_policy_without(make_policy, make_batch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    base = make_policy()
    train(base, make_batch(base.config), 3)
    base.save_pretrained(tmp_path)
    config = PreTrainedConfig.from_pretrained(tmp_path)
    config.contrastive_weight = config.generation_weight = 1.0
    finetuned = FusePolicy.from_pretrained(tmp_path, config=config)
    ours, theirs = finetuned.state_dict(), base.state_dict()
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items()), "an average that is there was lost"
    new = {name for name in ours if name not in theirs}
    assert new
    assert all(torch.equal(ours[name], ours[name.replace("ema.module.", "model.")]) for name in new)


def test_checkpoint_of_another_configuration_is_refused(make_policy, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(sensors="front")
    policy.save_pretrained(tmp_path)
    config = make_policy(sensors="front,touch").config
    with pytest.raises(HandsightError, match="expected weights of this configuration") as caught:
        FusePolicy.from_pretrained(tmp_path, config=config)
    assert "\n" not in str(caught.value)


def test_real_time_chunking_keeps_to_the_previous_chunk(make_policy, make_batch) -> None:  # type: ignore[no-untyped-def]
    policy = agitate(make_policy(flow_steps=10))
    batch = make_batch(policy.config)
    assert supports_rtc_inference(policy)
    rest = chunk(policy, batch)[:, 6:]
    noise = torch.randn(4, 16, 7)
    free = policy.predict_action_chunk(batch, noise, inference_delay=3, prev_chunk_left_over=rest)
    policy.config.rtc_config = RTCConfig(execution_horizon=8)
    policy.init_rtc_processor()
    assert torch.equal(policy.predict_action_chunk(batch, noise, inference_delay=3), free)  # no previous chunk, no guidance
    guided = policy.predict_action_chunk(batch, noise, inference_delay=3, prev_chunk_left_over=rest)
    assert (guided[:, :3] - rest[:, :3]).abs().mean() < 0.2 * (free[:, :3] - rest[:, :3]).abs().mean()


def test_sensor_names_cover_the_enum(make_policy) -> None:  # type: ignore[no-untyped-def]
    names = {str(sensor.name).lower() for sensor in Sensor if sensor in KEY_OF_SENSOR}
    assert set(make_policy().config.sensor_keys) == names


def test_the_resnet_baseline_trains_and_follows_the_instruction(make_policy, make_batch) -> None:  # type: ignore[no-untyped-def]
    policy = agitate(make_policy(image_encoder="resnet", sensors="cameras,state"))
    batch = make_batch(policy.config)
    policy.train().forward(batch)[0].backward()
    encoder = policy.model.sensors.encoders["front"]
    assert not [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    other = batch | {OBS_LANGUAGE_TOKENS: batch[OBS_LANGUAGE_TOKENS].roll(1, dims=0)}
    front, text = policy._inputs(batch)["front"], policy.model.text.eval()
    one, two = (encoder.eval()(front, text(b[OBS_LANGUAGE_TOKENS], None).pooled) for b in (batch, other))
    assert one.shape == (4, 4, 64)
    assert not torch.allclose(one, two, atol=1e-5)
