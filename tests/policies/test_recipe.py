"""LeRobot's ACT, Diffusion and SmolVLA with touch, sound and language: what the stock policies ignore reaches the action in ours."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors

from handsight.policies.fuse.language import senses_kept
from handsight.policies.fuse.sentences import attributes_of
from handsight.policies.recipe.sensing import WORDS, is_ours
from handsight.policies.recipe.slot import WidenedLinear
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import COMBINATIONS, Modality
from handsight.sensors.types import GROUNDING

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))

from tiny_recipes import (
    AUDIO,
    FRONT,
    HOSTS,
    STATE,
    TOUCH,
    agitate,
    build,
    chunk,
    config,
    features,
    frames,
    history,
    raw_batch,
    stats,
)

SHORT = {"touch_history": (-3, -1, 0), "audio_history": (-2, -1, 0), "sensor_dropout": {}}


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    if kind == "diffusion":
        pytest.importorskip("diffusers", reason="needs the extra diffusion: uv pip install 'lerobot_policy_handsight[diffusion]'")
    return kind


@pytest.fixture
def make(host: str, tmp_path: Path) -> Any:
    """A fuse policy on the host, every weight of its adapter agitated, and its preprocessor."""

    def make(**overrides: Any) -> tuple[Any, Any]:
        policy = agitate(build(f"fuse_{host}", tmp_path, **(SHORT | overrides)))
        return policy, make_pre_post_processors(policy.config, dataset_stats=stats())[0]

    return make


@pytest.fixture
def stock(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stock policy, saved in `stock`, and its preprocessor."""
    if host == "smolvla":
        let_lerobot_crop(monkeypatch)
    policy = build(host, tmp_path)
    policy.save_pretrained(tmp_path / "stock")
    return policy, make_pre_post_processors(policy.config, dataset_stats=stats())[0]


def let_lerobot_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock SmolVLA cannot act under transformers from 5.6 on: see PrefixCache, which mends it for ours."""
    from handsight.policies.recipe.modeling_fuse_smolvla import PrefixCache

    monkeypatch.setattr("transformers.DynamicCache.crop", PrefixCache.crop)


def test_the_stock_policy_ignores_touch_and_sound(stock: Any) -> None:
    policy, pre = stock
    batch = pre(raw_batch(policy.config))
    louder = batch | {TOUCH: 100 * batch[TOUCH], AUDIO: 100 * batch[AUDIO]}
    assert torch.equal(chunk(policy, batch), chunk(policy, louder))
    unlit = batch | {FRONT: batch[FRONT].roll(1, dims=0)}
    assert not torch.equal(chunk(policy, batch), chunk(policy, unlit))


@pytest.mark.parametrize("key", [FRONT, STATE, TOUCH, AUDIO, "task"])
def test_every_sensor_gets_gradient_and_changes_the_action(make: Any, key: str) -> None:
    policy, pre = make()
    raw = raw_batch(policy.config)
    batch = pre(raw)
    before = chunk(policy, batch)
    changed = raw | {key: raw[key][1:] + raw[key][:1] if key == "task" else raw[key].roll(1, dims=0)}
    assert not torch.allclose(chunk(policy, pre(changed)), before, atol=1e-5)
    if key in (FRONT, STATE, TOUCH, AUDIO):
        batch[key].requires_grad_()
        policy.train().forward(batch)[0].backward()
        assert batch[key].grad is not None
        assert all(row.abs().max() > 0 for row in batch[key].grad)


def test_the_instruction_gets_gradient(make: Any) -> None:
    policy, pre = make()
    policy.train().forward(pre(raw_batch(policy.config)))[0].backward()
    assert policy.adapter.text.embedding.weight.grad.abs().max() > 0


def test_with_nothing_of_ours_it_is_the_stock_policy(host: str, stock: Any, tmp_path: Path) -> None:
    """Bit for bit, in its loss and its actions: weights of the host, no sensor, no instruction that ours would read."""
    policy, pre = stock
    ours = agitate(build(f"fuse_{host}", tmp_path, host=str(tmp_path / "stock"), **SHORT))
    ours_pre, _ = make_pre_post_processors(ours.config, dataset_stats=stats())
    raw = raw_batch(ours.config) | {"task": ["", "", ""]}
    nothing = ours_pre(raw) | {TOUCH: None, AUDIO: None}
    shared = pre(raw)
    assert torch.equal(chunk(ours, nothing), chunk(policy, shared))
    losses = []
    for runner, batch in ((ours, nothing), (policy, shared)):
        torch.manual_seed(0)
        losses.append(runner.eval().forward(batch)[0])  # training would also draw words that ours does not read
    assert torch.equal(*losses)


def test_new_inputs_of_diffusion_start_without_effect(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    stock = build("diffusion", tmp_path)
    stock.save_pretrained(tmp_path / "stock")
    ours = build("fuse_diffusion", tmp_path, host=str(tmp_path / "stock"), **SHORT)
    batch = make_pre_post_processors(ours.config, dataset_stats=stats())[0](raw_batch(ours.config))
    torch.testing.assert_close(chunk(ours, batch), chunk(stock, batch), atol=1e-6, rtol=1e-5)


def test_absence_is_a_matter_of_each_row(make: Any) -> None:
    """A row without a sensor acts as it does in a batch where nobody has it."""
    policy, pre = make(read_instruction=True)
    raw = raw_batch(policy.config)
    silent = chunk(policy, pre(raw | {"task": ["", "", ""]}) | {TOUCH: None, AUDIO: None})
    mixed = pre(raw | {"task": ["", "pick up the red cube", ""]}) | {TOUCH: None, AUDIO: None}
    if policy.config.type == "fuse_smolvla":  # which reads the instruction itself as well
        mixed |= {key: pre(raw | {"task": ["", "", ""]})[key] for key in mixed if key.startswith("observation.language")}
    told = chunk(policy, mixed)
    torch.testing.assert_close(told[[0, 2]], silent[[0, 2]], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(told[1], silent[1], atol=1e-5)


@pytest.mark.parametrize("key", [TOUCH, AUDIO])
def test_missing_sensors_are_defined(make: Any, key: str) -> None:
    policy, pre = make()
    batch = pre(raw_batch(policy.config))
    missing = chunk(policy, batch | {key: None})
    assert missing.isfinite().all()
    assert not torch.equal(missing, chunk(policy, batch))
    masked, _ = make(masked=key.rpartition(".")[2])
    masked.load_state_dict(policy.state_dict())
    assert torch.equal(chunk(masked, batch), missing)
    with pytest.raises(HandsightError, match=f"expected {key}"):
        chunk(policy, {k: v for k, v in batch.items() if k != key})


def test_dropped_sensors_teach_their_encoders_nothing(make: Any) -> None:
    policy, pre = make(sensor_dropout={"touch": 1.0})
    policy.train().forward(pre(raw_batch(policy.config)))[0].backward()
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in policy.adapter.sensors.encoders["touch"].parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in policy.adapter.sensors.encoders["audio"].parameters())


def test_save_and_load_are_bit_equal_with_processors(make: Any, tmp_path: Path) -> None:
    policy, _ = make()
    pre, post = make_pre_post_processors(policy.config, dataset_stats=stats())
    folder = tmp_path / "saved"
    for part in (policy, pre, post):
        part.save_pretrained(folder)
    settings = PreTrainedConfig.from_pretrained(folder)
    loaded = get_policy_class(settings.type).from_pretrained(folder, config=settings)
    pre2, post2 = make_pre_post_processors(settings, str(folder))
    raw = raw_batch(policy.config)
    assert torch.equal(post(chunk(policy, pre(raw))), post2(chunk(loaded, pre2(raw))))
    state = loaded.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in policy.state_dict().items())


def test_forward_is_finite_and_leaves_the_batch_alone(make: Any) -> None:
    policy, pre = make()
    batch = pre(raw_batch(policy.config))
    before = copy.deepcopy(batch)
    loss, metrics = policy.train().forward(batch)
    assert loss.shape == ()
    assert loss.isfinite()
    assert all(type(value) is float for value in metrics.values())
    assert batch.keys() == before.keys()
    assert all(torch.equal(batch[key], before[key]) for key in batch if isinstance(batch[key], torch.Tensor))


def test_select_action_sees_the_windows_of_a_dataset(make: Any) -> None:
    policy, pre = make(n_action_steps=2)
    live = [pre(frame) for frame in frames(policy.config, 6, rows=2)]
    torch.manual_seed(3)
    actions = [policy.select_action(frame) for frame in live]
    torch.manual_seed(3)
    policy.reset()
    for start in (0, 2, 4):
        windows = {
            key: torch.stack([live[max(0, start + offset)][key] for offset in history(policy.config, key)], dim=1)
            for key in (FRONT, STATE, TOUCH, AUDIO)
        }
        expected = policy.predict_action_chunk(live[start] | windows)
        for i in range(2):
            torch.testing.assert_close(actions[start + i], expected[:, i])


def test_union_windows_of_lerobots_reader_give_the_same(make: Any) -> None:
    policy, pre = make()
    batch = pre(raw_batch(policy.config))
    union = policy.config.observation_delta_indices
    wide = dict(batch)
    for key in (FRONT, STATE, TOUCH, AUDIO):
        want = policy.config.history_of(key)
        x = batch[key] if len(want) > 1 else batch[key].unsqueeze(1)
        wide[key] = torch.stack([x[:, want.index(o)] if o in want else torch.full_like(x[:, 0], 0.3) for o in union], dim=1)
    assert torch.equal(chunk(policy, batch), chunk(policy, wide))


def test_copies_for_parallel_episodes_share_nothing_but_weights(make: Any) -> None:
    """Rollouts deep-copy a policy around its weights: hooks must feed the copy that acts."""
    policy, pre = make(n_action_steps=1)
    one, two = ([pre(f) for f in frames(policy.config, 3, seed=seed)] for seed in (1, 2))

    def act(runner: Any, frame: dict[str, Any]) -> torch.Tensor:
        torch.manual_seed(0)
        return runner.select_action(frame)

    alone = [act(policy, frame) for frame in one]
    policy.reset()
    twin = copy.deepcopy(policy, {id(p): p for p in policy.parameters()})
    together = [(act(policy, a), act(twin, b)) for a, b in zip(one, two, strict=True)]
    assert all(torch.equal(a, b) for a, (b, _) in zip(alone, together, strict=True))
    assert not torch.equal(together[-1][0], together[-1][1])


def test_every_weight_is_optimised_once_and_ours_at_our_rate(make: Any) -> None:
    policy, _ = make(adapter_lr=0.01)
    groups = policy.get_optim_params()
    counted = [id(p) for group in groups for p in group["params"]]
    wanted = [id(p) for p in policy.parameters() if p.requires_grad]
    assert len(counted) == len(set(counted))
    assert set(wanted) <= set(counted)
    ours = {id(p) for name, p in policy.named_parameters() if is_ours(name)}
    assert {id(p) for p in groups[-1]["params"]} == ours
    assert groups[-1]["lr"] == 0.01
    policy.config.get_optimizer_preset().build(groups)


def test_the_normaliser_is_kept_to_what_is_the_hosts(make: Any, tmp_path: Path) -> None:
    """Also after LeRobot's overrides on resuming, which bring the statistics of every column."""
    policy, pre = make()
    raw = raw_batch(policy.config)
    batch = pre(raw)
    assert 0 <= batch[TOUCH].min() <= batch[TOUCH].max() <= 1
    torch.testing.assert_close(batch[AUDIO], raw[AUDIO].float() / 32767)
    assert batch[WORDS].shape == (3, 24)
    pre.save_pretrained(tmp_path / "pre")
    assert sum(file.stat().st_size for file in (tmp_path / "pre").glob("*.safetensors")) < 5000
    make_pre_post_processors(policy.config, dataset_stats=stats())[1].save_pretrained(tmp_path / "pre")
    known = {**policy.config.input_features, **policy.config.output_features}
    normalizer = {"features": known, "norm_map": policy.config.normalization_mapping, "stats": stats()}
    resumed, _ = make_pre_post_processors(
        policy.config,
        str(tmp_path / "pre"),
        preprocessor_overrides={
            "device_processor": {"device": "cpu"},
            "normalizer_processor": normalizer,
            "rename_observations_processor": {"rename_map": {}},
        },
        postprocessor_overrides={"unnormalizer_processor": normalizer | {"features": policy.config.output_features}},
    )
    again = resumed(raw)
    assert all(torch.equal(batch[key], again[key]) for key in (FRONT, STATE, TOUCH, AUDIO, WORDS, "action"))


def test_labels_and_unused_sensors_never_reach_the_host(host: str, tmp_path: Path) -> None:
    policy = build(f"fuse_{host}", tmp_path, input_features=features(labels=True), sensors="cameras,state,touch", read_instruction=True)
    assert set(policy.config.input_features) == {FRONT, STATE, TOUCH}
    assert set(policy.config.our_keys) == {"touch"}
    blind = build(f"fuse_{host}", tmp_path, sensors="cameras,state", read_instruction=True)
    assert blind.adapter.tokens == 1
    with pytest.raises(HandsightError, match="that is the stock policy"):
        build(f"fuse_{host}", tmp_path, sensors="cameras,state", read_instruction=False)


def test_misuse_is_one_line(host: str, tmp_path: Path) -> None:
    for wrong, message in (
        ({"masked": "front"}, "cannot do without"),
        ({"touch_history": (0, -1)}, "increasing offsets"),
        ({"audio_history": (-2, 0)}, "contiguous"),
        ({"sensors": "smell"}, "got 'smell'"),
    ):
        with pytest.raises(HandsightError, match=message) as caught:
            config(f"fuse_{host}", tmp_path, **wrong)
        assert "\n" not in str(caught.value)


def test_a_host_of_another_shape_or_kind_is_refused(tmp_path: Path) -> None:
    build("act", tmp_path).save_pretrained(tmp_path / "stock")
    with pytest.raises(HandsightError, match="expected weights of this configuration") as caught:
        build("fuse_act", tmp_path, host=str(tmp_path / "stock"), dim_model=64)
    assert "\n" not in str(caught.value)
    with pytest.raises(HandsightError, match="it is of another policy"):
        build("fuse_smolvla", tmp_path, host=str(tmp_path / "stock"))


LOSSES = {"contrastive_weight": 1.0, "generation_weight": 1.0}
SOFT_BOX, LOW_TONE, NOTHING = [0, 0, 0, 0, 0, -1, -1, 0, -1, 1], [1, -1, -1, -1, -1, 0, 0, -1, 1, 1], [-1] * 9 + [0]


def grounded(settings: Any) -> dict[str, Any]:
    """A batch whose rows are about a thing that was felt, one that was heard, and nothing."""
    return raw_batch(settings) | {GROUNDING: torch.tensor([SOFT_BOX, LOW_TONE, NOTHING], dtype=torch.int16)}


def test_language_losses_reach_every_encoder_and_leave_the_action_alone(make: Any) -> None:
    policy, pre = make(**LOSSES, generation_combinations=7)
    plain, _ = make()
    batch = pre(grounded(policy.config))
    loss, metrics = policy.train().forward(batch)
    assert {"loss/action", "loss/contrastive", "loss/generation"} <= metrics.keys()
    assert loss.item() == pytest.approx(metrics["loss/action"] + metrics["loss/contrastive"] + metrics["loss/generation"], rel=1e-5)
    with policy.slot.watched() as images:
        policy.predict_action_chunk(batch)
    assert len(images) == 1
    policy._language_loss(policy.language_losses, batch, images)[0].backward()
    reached = {name for name, p in policy.adapter.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    for part in ("touch.conv1", "audio.conv1", "front.project", "state.now"):
        assert f"sensors.encoders.{part}.weight" in reached
    assert {"text.embedding.weight", "readouts.query", "place"} <= reached
    weights = policy.state_dict()
    plain.load_state_dict({name: weights[name] for name in plain.state_dict()})
    torch.testing.assert_close(chunk(policy, batch), chunk(plain, batch))


def test_language_losses_need_their_label(make: Any) -> None:
    policy, pre = make(**LOSSES)
    with pytest.raises(HandsightError, match=r"expected observation\.label\.grounding"):
        policy.forward(pre(raw_batch(policy.config)))


def test_descriptions_depend_on_the_senses_that_speak_and_no_others(make: Any) -> None:
    policy, pre = make(**LOSSES)
    batch = pre(raw_batch(policy.config))
    readouts = []
    for changed in (batch, batch | {AUDIO: None}, batch | {TOUCH: batch[TOUCH].roll(1, dims=0)}):
        sensed = policy.adapter.sense(policy._grounding_inputs(changed, []))
        touch = senses_kept(sensed.groups)[COMBINATIONS.index(Modality.TOUCH)].expand(3, -1)
        readouts.append(policy.adapter.read(policy.adapter.sensors.keep(sensed, touch)))
    assert torch.equal(readouts[0], readouts[1])
    assert not torch.allclose(readouts[0], readouts[2], atol=1e-6)
    for combination in (Modality.TOUCH, Modality.VISION | Modality.AUDIO):
        sentences = policy.describe(batch, combination)
        assert len(sentences) == 3
        assert all(attributes_of(text, combination) for text in sentences)
    live = [pre(frame) for frame in frames(policy.config, 2, rows=3)]
    for frame in live:
        policy.select_action(frame)
    before = torch.get_rng_state()
    assert len(policy.describe(live[-1], Modality.AUDIO)) == 3  # also in the midst of an episode, and without touching its noise
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(HandsightError, match="generation_weight > 0"):
        make()[0].describe(batch, Modality.TOUCH)


def test_widened_linear_is_the_stock_layer_and_a_sum() -> None:
    stock = torch.nn.Linear(3, 2)
    wide = WidenedLinear(stock, 4)
    x = torch.randn(5, 7)
    assert torch.equal(wide(x), stock(x[:, :3]))
    assert torch.equal(wide(x[:, :3]), stock(x[:, :3]))
    wide.extra.data.normal_()
    torch.testing.assert_close(wide(x), x @ torch.cat([stock.weight, wide.extra], dim=1).T + stock.bias)
    assert {name for name, _ in wide.named_parameters()} == {"weight", "bias", "extra"}
