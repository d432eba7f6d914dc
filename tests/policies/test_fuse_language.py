"""Language in the fuse policy: texts, grammar, decoders, what the losses reach, and whether the decoder learns to say what is there."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.configs import PreTrainedConfig

from handsight.policies.fuse.language import SENSE_OF_SENSOR, choose, senses_kept
from handsight.policies.fuse.modeling_fuse import FusePolicy
from handsight.policies.fuse.phrases import PHRASINGS, Phrasebook
from handsight.policies.fuse.sentences import Sentence, attributes_of
from handsight.policies.text import Tokenizer
from handsight.sensors.describe import describe
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import COMBINATIONS, VALUES, Attributes, Modality
from handsight.sensors.referent import Referent
from handsight.sensors.types import ACTION, AUDIO, FRONT, GROUNDING, STATE, TOUCH, WRIST
from handsight.sensors.words import END, PAD, sentence, spell

ALL = Modality.VISION | Modality.TOUCH | Modality.AUDIO
BOTH = {"contrastive_weight": 1.0, "generation_weight": 1.0, "memory_bank": 32}
TRUNKS = [{}, {"language_reads": "condition"}, {"trunk": "transformer", "layers": 2, "language_readouts": 3}]
OTHERS = {"V": ("touch", "state", "audio"), "T": ("front", "wrist", "audio"), "A": ("front", "wrist", "touch", "state")}
STEPS = 600
THINGS = [
    Attributes("red", "box", "small", "soft", "smooth", "metal", "low tone"),
    Attributes("green", "sphere", "large", "hard", "rough", "wood", "high tone"),
    Attributes("blue", "cylinder", "small", "medium", "rough", "plastic", "middle tone"),
    Attributes("yellow", "flat", "large", "soft", "smooth", "glass", "silent"),
]


def labels(*things: Attributes, touched: int = 0, heard: int = 0, visible: bool = True) -> torch.Tensor:
    rows = [Referent(thing, touched, heard, visible).row() for thing in things]
    return torch.from_numpy(np.stack(rows))


def phrasebook(available: Modality = ALL, **options: Any) -> Phrasebook:
    return Phrasebook(Tokenizer("hashed", 2048, 24), (41, 20), available, **options)


@st.composite
def things(draw: st.DrawFn) -> Attributes:
    return Attributes(**{name: draw(st.sampled_from(("", *values))) for name, values in VALUES.items()})


# -- texts


def test_texts_are_what_the_label_lets_each_combination_say() -> None:
    rows = torch.cat(
        [
            labels(*THINGS),
            labels(THINGS[0], touched=-1, heard=-1),
            labels(THINGS[0], heard=30, visible=False),
            labels(Attributes(), touched=-1),
        ]
    )
    texts = phrasebook().draw(rows, torch.Generator().manual_seed(0))
    letters = [combination.letters for combination in COMBINATIONS]
    assert texts.valid[:, :4].all()
    assert not texts.valid[:, 4].any()  # in view, but not met: no picture tells which of all things is meant
    assert [letters[i] for i in texts.valid[:, 5].nonzero()] == ["T"]
    assert not texts.valid[:, 6].any()
    for c, combination in enumerate(COMBINATIONS):
        for b, thing in enumerate(THINGS):
            said = attributes_of(sentence(texts.words[c, b].tolist()), combination)
            assert said
            assert said.items() <= thing.known(combination).items()
    silent = texts.words[~texts.valid]
    assert (silent[:, 0] == END).all()
    assert (silent[:, 1:] == PAD).all()


def test_ids_are_equal_where_the_combination_reveals_the_same() -> None:
    twin = Attributes("red", "box", "small", "hard", "rough", "metal", "low tone")  # feels otherwise
    texts = phrasebook().draw(labels(THINGS[0], twin, THINGS[1], THINGS[0]))
    for c, combination in enumerate(COMBINATIONS):
        first, other, third, same = texts.ids[c].tolist()
        assert first == same
        assert first != third
        assert (first == other) == (not combination & Modality.TOUCH)
    assert len(set(texts.ids[:, 0].tolist())) == len(COMBINATIONS)


def test_texts_depend_on_the_generator_alone_and_all_phrasings_occur() -> None:
    rows = labels(*THINGS)
    one, two = (phrasebook().draw(rows, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one.words, two.words)
    assert torch.equal(one.tokens, two.tokens)
    book = phrasebook()
    many = torch.cat([book.draw(rows, torch.Generator().manual_seed(seed)).words[0, :1] for seed in range(300)])
    assert len(many.unique(dim=0)) > PHRASINGS / 2


def test_a_sense_without_a_sensor_never_speaks_and_upstream_speaks_always() -> None:
    rows = labels(THINGS[0], THINGS[1], touched=-1, heard=-1, visible=False)
    assert not phrasebook().draw(rows).valid.any()
    blind = phrasebook(Modality.TOUCH).draw(labels(*THINGS)).valid
    assert [COMBINATIONS[i].letters for i in blind.all(dim=1).nonzero()] == ["T"]
    upstream = phrasebook(respects_validity=False).draw(rows)
    assert upstream.valid.all()
    assert (upstream.words[:, :, 0] != END).all()


def test_rows_that_something_can_be_said_of_come_first_and_all_of_them_in_turn() -> None:
    silent = labels(*THINGS, touched=-1, heard=-1, visible=False)
    rows = torch.cat([silent, labels(*THINGS), silent])  # 4 to 7 speak
    draws = [phrasebook().rows(rows, 2, torch.Generator().manual_seed(seed)).tolist() for seed in range(40)]
    assert {place for draw in draws for place in draw} == {4, 5, 6, 7}
    assert all(len(set(draw)) == 2 for draw in draws)
    more = phrasebook().rows(rows, 6).tolist()
    assert {4, 5, 6, 7} < set(more)


# -- grammar


@settings(max_examples=60)
@given(things(), st.sampled_from(COMBINATIONS), st.integers(0, 2**31))
def test_every_description_is_in_the_grammar_and_says_only_what_is_true(thing: Attributes, combination: Modality, seed: int) -> None:
    if not all(thing.known(sense) for sense in combination):
        return
    text = describe(thing, combination, np.random.default_rng(seed))
    heard = Sentence(combination)
    for word in spell(text):
        assert word in heard.allowed()
        heard.say(word)
    assert END in heard.allowed()
    assert heard.attributes()
    assert heard.attributes().items() <= thing.known(combination).items()


@settings(max_examples=30)
@given(st.sampled_from(COMBINATIONS), st.randoms(use_true_random=False))
def test_allowed_words_always_lead_to_an_end(combination: Modality, random: Any) -> None:
    said, words = Sentence(combination), []
    while (word := random.choice(said.allowed())) != END:
        words.append(word)
        said.say(word)
        assert len(words) < 48
    assert attributes_of(sentence(words), combination) == said.attributes()
    assert all(value in VALUES[name] for name, value in said.attributes().items())


def test_what_is_no_description_has_no_attributes() -> None:
    assert attributes_of("it looks", Modality.VISION) == {}
    assert attributes_of("it feels soft", Modality.VISION) == {}
    assert attributes_of("it feels soft", Modality.TOUCH) == {"hardness": "soft"}


# -- the policy


def grounded(make_batch: Any, config: Any, **times: Any) -> dict[str, Any]:
    return make_batch(config) | {GROUNDING: labels(*THINGS, **times)}


def test_without_weights_nothing_is_added_and_without_labels_it_says_so(make_policy, make_batch) -> None:  # type: ignore[no-untyped-def]
    plain = make_policy()
    assert plain.language_losses is None
    assert not [name for name in plain.state_dict() if "language" in name or "readouts" in name]
    policy = make_policy(**BOTH)
    with pytest.raises(HandsightError, match=f"expected {GROUNDING}"):
        policy.forward(make_batch(policy.config))
    with pytest.raises(HandsightError, match="without a decoder"):
        plain.describe(make_batch(plain.config), Modality.VISION)
    theirs = dict(policy.model.named_parameters())
    assert all(torch.equal(weight, theirs[name]) for name, weight in plain.model.named_parameters())


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("compat", [False, True])
def test_losses_are_finite_and_reach_every_sensor_and_head(make_policy, make_batch, trunk, compat) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(**BOTH, **trunk, upstream_compat=compat, generation_combinations=7, keyframe_weight=0.0)
    batch = grounded(make_batch, policy.config)
    loss, metrics = policy.train().forward(batch, generator=torch.Generator().manual_seed(0))
    names = {"loss/flow", "loss/contrastive", "loss/generation", "contrastive_accuracy", "word_accuracy", "logit_scale"}
    assert set(metrics) == names
    assert all(type(value) is float and np.isfinite(value) for value in metrics.values())
    assert loss.item() == pytest.approx(sum(metrics[f"loss/{name}"] for name in ("flow", "contrastive", "generation")), rel=1e-5)
    batch[ACTION] = torch.zeros_like(batch[ACTION])
    language, _ = policy._language_loss(policy.language_losses, policy.model, batch, None)
    policy.zero_grad()
    language.backward()
    for name in policy.config.sensor_keys:
        gradients = [p.grad for p in policy.model.sensors.encoders[name].parameters() if p.grad is not None]
        assert any(g.abs().max() > 0 for g in gradients), name
    silent = [n for n, p in policy.model.language.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert not silent


@pytest.mark.parametrize("trunk", TRUNKS)
def test_language_reads_and_changes_nothing(make_policy, make_batch, trunk) -> None:  # type: ignore[no-untyped-def]
    """What actions are made of does not depend on any language weight, nor on readout tokens."""
    policy = make_policy(**BOTH, **trunk, ema_decay=0.0).eval()
    batch = grounded(make_batch, policy.config)
    parameters = [p.requires_grad_() for name, p in policy._network().named_parameters() if name.startswith(("language", "readouts"))]
    reads = trunk.get("language_readouts", 0)
    position = policy._network().trunk.position.requires_grad_() if reads else None
    features = policy.features(batch)  # heads whose output is closed at initialisation would hide what reaches it
    seen = features.condition.square().sum() + sum(k.square().sum() for k in (features.prefix.keys if features.prefix else ()))
    gradients = torch.autograd.grad(seen, [*parameters, *([position] if reads else [])], allow_unused=True, materialize_grads=True)
    if reads:
        assert (gradients[-1][-reads:] == 0).all()
        assert (gradients[-1][:-reads] != 0).any()
        gradients = gradients[:-1]
    assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("letters", OTHERS)
def test_a_combination_depends_on_its_own_sensors_alone(make_policy, make_batch, letters) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(**BOTH).eval()
    network = policy._network()
    place = [combination.letters for combination in COMBINATIONS].index(letters)
    inputs = {name: x.requires_grad_() for name, x in policy._inputs(make_batch(policy.config)).items() if x is not None}
    sensed = network.sense(inputs)
    kept = senses_kept(sensed.groups)[place].expand(4, -1)
    readouts = network.read(network.sensors.keep(sensed, kept)).square().sum()
    gradients = dict(zip(inputs, torch.autograd.grad(readouts, list(inputs.values()), materialize_grads=True), strict=True))
    for name, gradient in gradients.items():
        assert (gradient.abs().max() > 0) == (name not in OTHERS[letters]), name
    assert set(SENSE_OF_SENSOR) == set(gradients)


@given(st.integers(1, 7), st.integers(0, 2**31))
@settings(max_examples=30)
def test_combinations_are_drawn_among_the_valid_without_repetition(count: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    valid = torch.rand(7, 5, generator=g) < 0.5
    combination, row = choose(valid, count, g)
    assert valid[combination, row].all()
    assert len({*zip(combination.tolist(), row.tolist(), strict=True)}) == len(row)
    assert torch.equal(row.bincount(minlength=5), valid.sum(dim=0).clamp(max=count))


def test_a_batch_in_which_nothing_can_be_said_is_fine(make_policy, make_batch) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(**BOTH, generation_combinations=2).train()
    loss, metrics = policy.forward(grounded(make_batch, policy.config, touched=-1, heard=-1, visible=False))
    loss.backward()
    assert metrics["loss/generation"] == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in policy.parameters())


@pytest.mark.parametrize("compat", [False, True])
def test_the_bank_fills_in_training_only_and_is_not_saved(make_policy, make_batch, compat) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(**BOTH, upstream_compat=compat)
    batch = grounded(make_batch, policy.config)
    assert not [name for name in policy.state_dict() if "bank" in name]
    if compat:
        assert policy.language_losses.bank is None
        return
    with torch.no_grad():
        policy.train().forward(batch)
    assert not policy.language_losses.bank.valid.any()
    policy.train().forward(batch)
    assert policy.language_losses.bank.valid.sum() == 8 * 4


def test_losses_on_a_share_of_the_rows_are_those_of_these_rows(make_policy, make_batch) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(**BOTH, language_share=0.5).train()
    batch = grounded(make_batch, policy.config)
    policy.forward(batch)
    assert policy.language_losses.bank.valid.sum() == 8 * 2
    with pytest.raises(HandsightError, match="expected language_share above 0"):
        make_policy(**BOTH, language_share=0.0)


def test_a_policy_learns_to_speak_without_doing_anything_else(make_policy, make_batch) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(**BOTH, trains="language", ema_decay=0.9)
    batch = grounded(make_batch, policy.config)
    noise = torch.randn(4, policy.config.chunk_size, policy.model.action_dim, generator=torch.Generator().manual_seed(0))
    before = policy.predict_action_chunk(batch, noise=noise)
    weights = {name: p.clone() for name, p in policy.named_parameters()}
    optimizer = torch.optim.AdamW(policy.get_optim_params(), lr=1e-2)
    for _ in range(3):
        loss, metrics = policy.train().forward(batch)
        loss.backward()
        optimizer.step()
        policy.update()
    assert "loss/flow" not in metrics
    assert torch.equal(policy.predict_action_chunk(batch, noise=noise), before)
    moved = {name for name, p in policy.named_parameters() if not torch.equal(p, weights[name])}
    assert {name.split(".")[1] for name in moved if name.startswith("model.")} == {"language", "readouts"}
    with pytest.raises(HandsightError, match="trains=language, got neither"):
        make_policy(trains="language")


def test_what_learns_to_speak_acts_by_the_average_that_it_was_trained_to(make_policy, make_batch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(**BOTH)
    batch = grounded(make_batch, policy.config)
    optimizer = torch.optim.AdamW(policy.get_optim_params(), lr=1e-2)
    for _ in range(5):
        policy.train().forward(batch)[0].backward()
        optimizer.step()
        policy.update()
    live, average = policy.model.trunk.mlp[0].weight, policy.ema.module.trunk.mlp[0].weight
    assert (live - average).abs().max() > 1e-4
    noise = torch.randn(4, policy.config.chunk_size, policy.model.action_dim, generator=torch.Generator().manual_seed(0))
    before = policy.predict_action_chunk(batch, noise=noise)
    policy.save_pretrained(tmp_path)
    config = PreTrainedConfig.from_pretrained(tmp_path)
    config.trains = "language"
    speaking = FusePolicy.from_pretrained(tmp_path, config=config)
    optimizer = torch.optim.AdamW(speaking.get_optim_params(), lr=1e-2)
    for _ in range(3):
        speaking.train().forward(batch)[0].backward()
        optimizer.step()
        speaking.update()
    assert torch.equal(speaking.predict_action_chunk(batch, noise=noise), before)


def test_missing_senses_do_not_speak(make_policy, make_batch) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(**BOTH)
    batch = make_batch(policy.config)
    assert len(policy.describe(batch, Modality.VISION | Modality.TOUCH)) == 4
    with pytest.raises(HandsightError, match="got T with sensors for VA"):
        policy.describe(batch | {TOUCH: None}, Modality.TOUCH)
    with pytest.raises(HandsightError, match="got none"):
        policy.describe(batch, Modality(0))


def test_a_dead_microphone_leaves_hearing_nothing_to_say(make_policy, make_batch) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(**BOTH)
    batch = make_batch(policy.config)
    batch[AUDIO][1] = 0.0
    for combination in (Modality.AUDIO, Modality.VISION | Modality.AUDIO):
        for about in ("", "material"):
            assert [bool(text) for text in policy.describe(batch, combination, about=about)] == [True, False, True, True]
    assert all(policy.describe(batch, Modality.VISION | Modality.TOUCH))


def distinct(make_batch: Any, config: Any) -> dict[str, Any]:
    """Four rows whose sensors differ in everything, with the four things that they are about."""
    batch = grounded(make_batch, config)
    level = torch.linspace(0.1, 0.9, 4)
    colors = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
    batch[FRONT] = colors[..., None, None].expand_as(batch[FRONT])
    batch[WRIST] = batch[FRONT]
    batch[TOUCH] = torch.zeros_like(batch[TOUCH])
    for row, touch in enumerate(batch[TOUCH]):  # each presses a quarter of the pads
        touch[..., 0, 8 * (row // 2) : 8 * (row // 2) + 8, 8 * (row % 2) : 8 * (row % 2) + 8] = 0.3 + 0.1 * row
    tone = torch.sin(torch.arange(800) * (2 * torch.pi / 16_000) * 2 ** torch.arange(8, 12).view(-1, 1, 1))
    batch[AUDIO] = 0.3 * tone.expand_as(batch[AUDIO])
    batch[STATE] = torch.ones_like(batch[STATE]) * (4 * level - 2).view(-1, *(1,) * (batch[STATE].dim() - 1))
    return batch


@pytest.mark.slow
@pytest.mark.parametrize("compat", [False, True])
def test_the_decoder_learns_what_the_sensors_tell(make_policy, make_batch, compat) -> None:  # type: ignore[no-untyped-def]
    """Attributes of its sentences are right on the rows that it was trained on, and wrong when each row has another's sensors."""
    policy = make_policy(generation_weight=1.0, generation_combinations=7, upstream_compat=compat, ema_decay=0.0, image_light=0.0)
    batch = distinct(make_batch, policy.config)
    optimizer = policy.config.get_optimizer_preset().build(policy.get_optim_params())
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - step / STEPS)
        language, metrics = policy._language_loss(policy.language_losses, policy.train()._network(), batch, None)
        optimizer.zero_grad()
        language.backward()
        optimizer.step()
    if compat:  # whole sentences cannot be right: all words are said at once, each of another phrasing
        assert metrics["word_accuracy"] > 0.5
        return
    shuffled = {
        key: value.roll(1, dims=0) if isinstance(value, torch.Tensor) and key != GROUNDING else value for key, value in batch.items()
    }
    right = [accuracy(policy.describe(batch, combination), combination) for combination in COMBINATIONS]
    wrong = [accuracy(policy.describe(shuffled, combination), combination) for combination in COMBINATIONS]
    assert np.mean(right) > 0.9
    assert np.mean(wrong) < 0.5
    assert all(a > b + 0.2 for a, b in zip(right, wrong, strict=True))


def accuracy(sentences: list[str], combination: Modality) -> float:
    """Share of right attributes among those that the sentences name, which must name some."""
    right = []
    for text, thing in zip(sentences, THINGS, strict=True):
        said = attributes_of(text, combination)
        right += [getattr(thing, name) == value for name, value in said.items()] or [False]
    return float(np.mean(right))
