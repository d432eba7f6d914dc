"""Models of the transformers library with attn_implementation="handsight": what eager attention computes, from layouts."""

from typing import Any
from unittest import mock

import pytest
import torch
from tiny_transformers import IMAGE_TOKEN, build
from torch import Tensor

from handsight.kernels import hf
from handsight.kernels.attention import TRITON_IS_INTERPRETED
from handsight.kernels.dense import DenseMask
from handsight.kernels.layout import Segment, prefix_lm

LENGTH = 9
LAYOUT = prefix_lm([Segment("prefix", 5)], [Segment("suffix", LENGTH - 5)])
DECODERS = ("gemma", "llama", "gemma3")
SLIDING = {"sliding_window": 3, "layer_types": ["sliding_attention", "full_attention"]}


@pytest.fixture(autouse=True)
def registered() -> None:
    hf.register()
    hf.register()


def options(name: str) -> dict[str, Any]:
    return SLIDING if name == "gemma3" else {}


def tokens(padding: str) -> dict[str, Tensor]:
    """Two rows; the second lacks three tokens on one side."""
    ids = torch.randint(2, IMAGE_TOKEN, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    if padding != "none":
        span = slice(0, 3) if padding == "left" else slice(LENGTH - 3, LENGTH)
        ids[1, span], mask[1, span] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def pictures() -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def with_images(batch: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """The first tokens stand for pictures, which come before padding on the right."""
    images = torch.full((2, count), IMAGE_TOKEN)
    ids, mask = (torch.cat([front, batch[key]], dim=1) for key, front in (("input_ids", images), ("attention_mask", images * 0 + 1)))
    return {"input_ids": ids, "attention_mask": mask}


def inputs(name: str, padding: str) -> dict[str, Any]:
    batch: dict[str, Any] = tokens(padding)
    if name == "siglip":
        return {"pixel_values": pictures()}
    if name == "smolvlm":
        return with_images(batch, 4) | {"pixel_values": pictures()[:, None]}
    if name == "paligemma":
        extended = with_images(batch, 16)
        return extended | {"pixel_values": pictures(), "token_type_ids": (extended["input_ids"] != IMAGE_TOKEN).long()}
    if name == "bart":
        return batch | {"decoder_input_ids": tokens("none")["input_ids"][:, :5]}
    return batch


def run(model: Any, implementation: str, batch: dict[str, Any], real: Tensor | None = None, **others: Any) -> tuple[Tensor, list[Tensor]]:
    """The first output of `real` tokens (those of the attention mask without it), and the gradient of every weight."""
    model.set_attn_implementation(implementation)
    model.zero_grad()
    out = model(**batch, **others)[0]
    real = batch.get("attention_mask") if real is None else real
    if real is not None and real.shape == out.shape[:2]:
        out = out * real[..., None]
    (out * torch.linspace(-1, 1, out.shape[-1])).square().sum().backward()
    return out.detach(), [weight.grad for weight in model.parameters() if weight.grad is not None]


def assert_equal(ours: tuple[Tensor, list[Tensor]], theirs: tuple[Tensor, list[Tensor]]) -> None:
    scale = theirs[0].abs().max()
    torch.testing.assert_close(ours[0] / scale, theirs[0] / scale, atol=1e-5, rtol=0)
    assert len(ours[1]) == len(theirs[1]) > 0
    largest = max(gradient.abs().max() for gradient in theirs[1])
    for mine, other in zip(ours[1], theirs[1], strict=True):
        scale = other.abs().max().clamp(min=1e-2 * largest)  # a bias of keys has gradient 0 but for rounding
        torch.testing.assert_close(mine / scale, other / scale, atol=1e-4, rtol=0)


@pytest.mark.parametrize("padding", ["none", "left", "right"])
@pytest.mark.parametrize("name", [*DECODERS, "bert", "bart", "smolvlm", "paligemma", "siglip"])
def test_outputs_and_gradients_equal_eager(name: str, padding: str) -> None:
    if padding == "left" and name in ("smolvlm", "paligemma"):
        pytest.skip("pictures come first")
    model, batch = build(name, **options(name)), inputs(name, padding)
    assert_equal(run(model, "handsight", batch), run(model, "eager", batch))


@pytest.mark.parametrize("padding", ["none", "left", "right"])
@pytest.mark.parametrize("name", ["gemma", "llama", "bert", "smolvlm"])
def test_causal_and_bidirectional_masks_stay_layouts(name: str, padding: str) -> None:
    if padding == "left" and name == "smolvlm":
        pytest.skip("pictures come first")
    with mock.patch.object(hf, "DenseMask", None):
        run(build(name), "handsight", inputs(name, padding))


def test_a_sliding_window_stays_dense() -> None:
    with mock.patch.object(hf, "DenseMask", wraps=DenseMask) as made:
        run(build("gemma3", **SLIDING), "handsight", tokens("none"))
    assert made.of.call_count == 1  # one of the two layers


@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("name", [*DECODERS, "bart"])
def test_generated_tokens_equal_eagers(name: str, padding: str) -> None:
    model, batch = build(name, **options(name)), tokens(padding)

    def generate(implementation: str, **others: Any) -> Tensor:
        model.set_attn_implementation(implementation)
        with torch.random.fork_rng():  # hot, because random weights would repeat one token
            torch.manual_seed(0)
            found: Tensor = model.generate(**batch, max_new_tokens=8, min_new_tokens=8, do_sample=True, temperature=20.0, **others)
        return found

    expected = generate("eager")
    assert len(set(expected[0, -8:].tolist())) > 2  # not one token over and over
    assert torch.equal(generate("handsight"), expected)
    assert torch.equal(generate("handsight", use_cache=False), expected)


@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("name", ["gemma", "llama"])
def test_several_tokens_over_a_cache_equal_eager(name: str, padding: str) -> None:
    model, batch = build(name), tokens(padding)
    found = []
    for implementation in ("handsight", "eager"):
        model.set_attn_implementation(implementation)
        cache = model(input_ids=batch["input_ids"][:, :5], attention_mask=batch["attention_mask"][:, :5]).past_key_values
        found.append(model(input_ids=batch["input_ids"][:, 5:], attention_mask=batch["attention_mask"], past_key_values=cache).logits)
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-5)


def test_packed_sequences_do_not_see_each_other() -> None:
    model, ids = build("llama"), tokens("none")["input_ids"]
    batch = {"input_ids": ids, "position_ids": torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]]).expand(2, -1)}
    assert_equal(run(model, "handsight", batch, use_cache=False), run(model, "eager", batch, use_cache=False))


@pytest.mark.parametrize("padding", ["none", "left"])
def test_a_layout_in_the_models_keywords_replaces_the_mask(padding: str) -> None:
    model, batch = build("gemma"), tokens(padding)
    hidden = torch.finfo(torch.float32).min
    visible = torch.from_numpy(LAYOUT.mask()) & batch["attention_mask"][:, None, None].bool()
    dense = batch | {"attention_mask": torch.where(visible, 0.0, hidden), "position_ids": torch.arange(LENGTH)[None]}
    placed = batch | {"position_ids": dense["position_ids"]}
    eager = run(model, "eager", dense, real=batch["attention_mask"])
    assert_equal(run(model, "handsight", placed, token_layout=LAYOUT), eager)
    assert_equal(run(model, "handsight", dense, real=batch["attention_mask"]), eager)  # the dense mask itself, added to the scores
    assert not torch.allclose(run(model, "handsight", placed)[0], eager[0], atol=1e-3)


def test_padding_of_a_layout_can_be_given_apart() -> None:
    model, batch = build("gemma"), tokens("right")
    present = batch["attention_mask"].bool()
    by_mask = run(model, "handsight", batch, token_layout=LAYOUT)
    whole = batch | {"attention_mask": torch.ones_like(present)}
    apart = run(model, "handsight", whole, real=present, token_layout=LAYOUT, token_present=present)
    torch.testing.assert_close(apart[0], by_mask[0], atol=0, rtol=0)


@pytest.mark.parametrize("padding", ["none", "left"])
def test_a_model_is_compiled_without_a_graph_break(padding: str) -> None:
    model = build("gemma")
    batch: dict[str, Any] = tokens(padding) | {"use_cache": False}
    if padding == "none":
        del batch["attention_mask"]
    model.set_attn_implementation("handsight")
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**batch).logits, model(**batch).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not TRITON_IS_INTERPRETED, reason="needs TRITON_INTERPRET=1 on a CPU")
@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_a_back_end_can_be_forced(backend: str) -> None:
    model, batch = build("gemma"), tokens("left")
    if backend == "reference":  # in float64, which only its outputs leave
        model.set_attn_implementation("handsight_reference")
        ours = model(**batch)[0] * batch["attention_mask"][..., None]
        torch.testing.assert_close(ours, run(model, "eager", batch)[0], atol=1e-4, rtol=1e-5)
        return
    assert_equal(run(model, "handsight_triton", batch), run(model, "eager", batch))


def test_dropout_is_refused_in_training_only() -> None:
    model = build("gemma", attention_dropout=0.1).train()
    with pytest.raises(ValueError, match=r"dropout 0 in training with 'handsight', got 0\.1"):
        run(model, "handsight", tokens("none"))
    run(model.eval(), "handsight", tokens("none"))


@pytest.mark.parametrize(
    ("name", "extra", "message"),
    [
        ("gemma2", {}, "soft-capped scores"),
        ("t5", {"decoder_input_ids": torch.ones(2, 3, dtype=torch.long)}, "a bias by position"),
        ("gemma", {"output_attentions": True}, "attention weights"),
        ("gemma", {"token_present": torch.ones(2, LENGTH, dtype=torch.bool)}, "token_layout"),
        ("gemma", {"attention_mask": torch.ones(2, 1, LENGTH, LENGTH).bool(), "token_layout": LAYOUT}, "token_present"),
    ],
)
def test_what_is_not_computed_is_refused(name: str, extra: dict[str, Any], message: str) -> None:
    model = build(name)
    model.set_attn_implementation("handsight")
    with pytest.raises(ValueError, match=message):
        model(**tokens("none") | extra)


def test_a_dense_mask_is_refused_by_other_back_ends() -> None:
    with pytest.raises(ValueError, match="token_layout="):
        run(build("gemma3", **SLIDING), "handsight_reference", tokens("none"))
