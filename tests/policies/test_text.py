"""Instruction encoders."""

import zlib
from pathlib import Path

import pytest
import torch

from handsight.policies.encoders import Film
from handsight.policies.fuse.configuration_fuse import FuseConfig
from handsight.policies.text import PAD, SPELLINGS, HashedText, PretrainedText, WordNoise, bucket_of, hash_instructions, word_ids


def test_words_hash_stably_and_without_case() -> None:
    assert word_ids("Pick up the RED cube.", 2048, 8) == word_ids("pick up the red cube", 2048, 8)
    assert word_ids("red", 2048, 2) == [1 + zlib.crc32(b"red") % (SPELLINGS * 2047), PAD]  # checkpoints rely on it
    assert bucket_of(torch.tensor(word_ids("red", 2048, 2)), 2048).tolist() == [1 + zlib.crc32(b"red") % 2047, PAD]
    ids = torch.tensor(word_ids(" ".join(f"word{i}" for i in range(999)), 16, 1000))
    assert set(bucket_of(ids, 16).tolist()) == set(range(16))


def test_noise_keeps_shape_and_rates() -> None:
    ids = hash_instructions(["pick up the red cube"] * 2000, 2048, 12)
    g = torch.Generator().manual_seed(0)
    noisy = WordNoise(insert=0.4, replace=0.1, drop=0.1)(ids, 2048, g)
    words = ids != PAD
    assert noisy.shape == ids.shape
    assert abs((noisy[words] == PAD).float().mean() - 0.1) < 0.01
    assert abs((noisy[words] != ids[words]).float().mean() - 0.2) < 0.015
    assert abs((noisy[~words] != PAD).float().mean() - 0.2) < 0.02
    assert torch.equal(WordNoise(0, 0, 0)(ids, 2048), ids)


def test_empty_instruction_is_finite() -> None:
    text = HashedText(64, 16, WordNoise()).eval()
    ids = hash_instructions(["", "red"], 64, 4)
    assert text(ids, ids != PAD).pooled.isfinite().all()


def test_a_step_of_the_optimiser_moves_what_text_modulates_by_little() -> None:
    torch.manual_seed(0)
    text, film = HashedText(2048, 64, WordNoise()).eval(), Film(32, 64)
    ids = torch.randint(1, 2048, (1, 24)) * (torch.arange(24) < 8)
    optimizer = torch.optim.AdamW([*text.parameters(), *film.parameters()], lr=FuseConfig().optimizer_lr)
    (film(torch.randn(1, 32, 4, 4), text(ids, ids > 0).pooled) * torch.randn(1, 32, 4, 4)).sum().backward()
    optimizer.step()
    gain, bias = film.linear(text(ids, ids > 0).pooled).chunk(2, dim=1)
    assert 0 < gain.abs().mean() < 0.1
    assert 0 < bias.abs().mean() < 0.1


def test_unseen_words_are_ignored_after_training() -> None:
    """Colour words decide; instructions in phrasings without a single known word besides the colour are still understood."""
    torch.manual_seed(0)
    colours = ("red", "green", "blue", "yellow")
    known = ("pick up the {}", "grab the {} cube", "please take the {} one", "lift {} now")
    unseen = ("would someone kindly fetch a {} thing", "{} seems nice, bring that", "my favourite colour: {}!")
    text, out = HashedText(512, 32, WordNoise()), torch.nn.Linear(32, len(colours))
    optimizer = torch.optim.AdamW([*text.parameters(), *out.parameters()], lr=3e-3)
    labels = torch.arange(len(colours)).repeat(len(known))
    ids = hash_instructions([phrase.format(colour) for phrase in known for colour in colours], 512, 16)
    for _ in range(400):
        loss = torch.nn.functional.cross_entropy(out(text(ids, ids != PAD).pooled), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    text.eval()
    held = hash_instructions([phrase.format(colour) for phrase in unseen for colour in colours], 512, 16)
    predicted = out(text(held, held != PAD).pooled).argmax(dim=1)
    assert torch.equal(predicted, torch.arange(len(colours)).repeat(len(unseen)))


def test_words_of_no_instruction_in_training_are_dropped() -> None:
    text = HashedText(2048, 16, WordNoise())
    told, new = hash_instructions(["pick up the red cube", "pick up the red cube kindly"], 2048, 8)
    assert not torch.equal(*text.eval()(torch.stack([told, new]), None).pooled)  # nothing was trained yet: every word counts
    text.train()
    text.read(told[None])
    assert torch.equal(*text.eval()(torch.stack([told, new]), None).pooled)
    text.read(new[None])
    assert not torch.equal(*text.eval()(torch.stack([told, new]), None).pooled)


def test_a_new_word_in_the_bucket_of_a_known_one_is_new() -> None:
    text = HashedText(2048, 16, WordNoise()).eval()
    red, *others = hash_instructions(["red", *(f"w{i}" for i in range(40_000))], 2048, 1)
    alike = [word for word in others if bucket_of(word, 2048) == bucket_of(red, 2048)]
    assert len(alike) > 5
    text.read(red[None])
    assert text.understands(red[None]).all()
    assert text.understands(torch.stack(alike)).sum() <= 2  # one in SPELLINGS is not told apart


def test_known_words_go_on_with_a_checkpoint_and_older_ones_know_all() -> None:
    text, again = (HashedText(64, 16, WordNoise()) for _ in range(2))
    text.read(torch.tensor([[3, 5]]))
    state = text.state_dict()
    again.load_state_dict(state)
    again.read(torch.tensor([[7]]))
    assert again.known.nonzero().flatten().tolist() == [3, 5, 7]
    again, state = HashedText(64, 16, WordNoise()), {name: value for name, value in state.items() if name != "known"}
    again.load_state_dict(state, strict=False)
    again.read(torch.tensor([[7]]))
    assert again.known.all()


def test_instructions_are_read_as_the_closest_meaning_that_is_remembered() -> None:
    torch.manual_seed(0)
    text, words = HashedText(2048, 16, WordNoise()).eval(), 8
    told = hash_instructions(["pick up the red cube", "take the red cube", "press the button"], 2048, words)
    text.read(told)
    take, press = text.pool(told[:2]).mean(dim=0), text.pool(told[2:])[0]
    text.remember(torch.stack([take, press]))
    asked = hash_instructions(["pick the red one", "the button kindly", "take the red cube", "wipe my nose", ""], 2048, words)
    pooled = text(asked, None).pooled
    assert torch.equal(pooled[:3], torch.stack([take, press, take]))
    assert not pooled[3:].any()  # it knows no word of these: nothing said is closer than anything
    text.remember(text.meanings[:0])
    assert torch.equal(text(asked, None).pooled, text.pool(asked))


def test_meanings_go_on_with_a_checkpoint_until_training_forgets_them(make_policy, make_batch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(sensors="state")
    batch = make_batch(policy.config)
    ids = batch["observation.language.tokens"]
    meanings = policy.model.text.pool(ids).detach().mean(dim=0, keepdim=True)
    policy.remember(meanings)
    policy.save_pretrained(tmp_path)
    policy.export_ema(tmp_path / "slim", torch.float32)
    for folder in (tmp_path, tmp_path / "slim"):
        loaded = type(policy).from_pretrained(folder)
        for network in (loaded.model.eval(), loaded.network):
            assert torch.equal(network.text(ids, None).pooled, meanings.expand(len(ids), -1))
        loaded.train().forward(batch)
        loaded.update()
        for network in (loaded.model.eval(), loaded.network):
            assert torch.equal(network.text(ids, None).pooled, network.text.pool(ids))


def test_a_policy_reads_what_it_is_trained_on_and_its_average_knows_it(make_policy, make_batch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(sensors="state").train()
    assert policy.model.text.known.all()
    batch = make_batch(policy.config)
    policy.forward(batch)[0].backward()
    policy.update()
    words = set(batch["observation.language.tokens"].unique().tolist())
    policy.save_pretrained(tmp_path)
    policy.export_ema(tmp_path / "slim")
    for network in (policy.ema.module, *(type(policy).from_pretrained(folder).network for folder in (tmp_path, tmp_path / "slim"))):
        assert set(network.text.known.nonzero().flatten().tolist()) == words


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random two-layer BERT and a tokenizer of six words."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "pick", "up", "the", "cube"]))
    BertTokenizer(str(vocabulary)).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=11, **sizes)).save_pretrained(folder)
    return folder


def test_pretrained_encoder_is_frozen_and_reads_words(tiny_bert: Path) -> None:
    text = PretrainedText(str(tiny_bert), 8).train()
    assert not text.encoder.training
    ids = torch.tensor([[2, 5, 3, 0], [2, 6, 3, 0]])
    features = text(ids, ids != 0)
    features.pooled.sum().backward()
    assert features.tokens.shape == (2, 4, 8)
    assert not torch.allclose(features.pooled[0], features.pooled[1])
    assert all(p.grad is None for p in text.encoder.parameters())
    assert text.project.weight.grad is not None


def test_policy_with_pretrained_text(tiny_bert: Path, make_policy, make_batch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(text_encoder=str(tiny_bert), sensors="state")
    batch = make_batch(policy.config)
    loss, _ = policy.forward(batch)
    loss.backward()
    policy.update()
    policy.save_pretrained(tmp_path)
    loaded = type(policy).from_pretrained(tmp_path)
    noise = torch.zeros(4, 16, 7)
    assert torch.equal(policy.eval().predict_action_chunk(batch, noise), loaded.predict_action_chunk(batch, noise))
