"""Trunks and the flow head."""

import torch

from handsight.policies.backbone import AdaLnBlock, FlowHead, MlpTrunk, TransformerTrunk, arrange
from handsight.policies.encoders import SensorTokens, TokenGroup
from handsight.policies.text import TextFeatures

GROUPS = (TokenGroup("front", (-1, 0), 2), TokenGroup("touch", (-3, -1, 0), 1))


def test_arrangement_orders_tokens_by_time() -> None:
    arrangement = arrange(GROUPS, words=4, language_readouts=2)
    names = [segment.name for segment in arrangement.layout.keys]
    assert names == ["instruction", "touch-3", "front-1", "touch-1", "front0", "touch0", "action", "language"]
    assert arrangement.order == (4, 0, 1, 5, 2, 3, 6)
    assert arrangement.layout.num_keys == 4 + 7 + 3


def trunk(readouts: int = 0) -> TransformerTrunk:
    torch.manual_seed(0)
    return TransformerTrunk(GROUPS, 16, 8, 12, words=4, layers=2, heads=2, language_readouts=readouts).eval()


def inputs(tokens: torch.Tensor) -> tuple[SensorTokens, TextFeatures]:
    words = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    return SensorTokens(tokens, torch.ones(2, 2, dtype=torch.bool), GROUPS), TextFeatures(words[:, 0], words, mask)


def test_pads_of_the_instruction_are_invisible() -> None:
    sensors, text = inputs(torch.randn(2, 7, 16))
    other = TextFeatures(text.pooled, torch.where(text.mask.unsqueeze(-1), text.tokens, 99.0), text.mask)
    torch.testing.assert_close(trunk()(sensors, text).condition, trunk()(sensors, other).condition)


def test_every_token_reaches_the_condition_and_readouts_do_not_disturb_it() -> None:
    tokens = torch.randn(2, 7, 16, requires_grad=True)
    model = trunk(readouts=3)
    out = model(*inputs(tokens))
    assert out.condition.shape == (2, 12)
    assert out.readouts.shape == (2, 3, 16)
    out.condition.sum().backward()
    assert tokens.grad is not None
    assert (tokens.grad.abs().sum(dim=-1) > 0).all()
    before = out.condition
    with torch.no_grad():
        model.position[-3:] += 1.0  # the language readouts change, the action readout does not see them
    torch.testing.assert_close(model(*inputs(tokens)).condition, before)


def test_an_offset_does_not_close_the_mlp_trunk() -> None:
    torch.manual_seed(0)
    model = MlpTrunk(GROUPS, 16, 8, 12)
    first = model.mlp[0]
    assert isinstance(first, torch.nn.Linear)
    torch.nn.init.constant_(first.bias, -50.0)  # without normalisation the hidden layer is 0 here, and its gradient too
    tokens = torch.randn(2, 7, 16, requires_grad=True)
    model(*inputs(tokens)).condition.square().sum().backward()
    assert tokens.grad is not None
    assert (tokens.grad.abs().amax(dim=-1) > 1e-4).all()


def test_adaln_block_starts_as_identity() -> None:
    x = torch.randn(3, 16)
    assert torch.equal(AdaLnBlock(16, 8)(x, torch.randn(3, 8)), x)


def test_head_maps_chunks() -> None:
    head = FlowHead(16, 7, condition_width=12, width=32, blocks=2)
    assert head(torch.randn(5, 16, 7), torch.rand(5), torch.randn(5, 12)).shape == (5, 16, 7)
