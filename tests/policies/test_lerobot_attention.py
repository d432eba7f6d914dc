"""LeRobot's SmolVLA, pi0 and pi0.5 after `swap_attention`: the stock policies' losses, gradients and actions."""

import copy
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot.utils.constants import OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS
from torch import Tensor

from handsight.kernels import given_mask
from handsight.kernels.attention import attend
from handsight.kernels.dense import DenseMask
from handsight.kernels.given_mask import LayoutMask
from handsight.kernels.layout import Segment, blockwise_causal, layout_of_mask
from handsight.policies.attention import modeling_pi0, modeling_smolvla
from handsight.policies.recipe.modeling_fuse_smolvla import PrefixCache

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))

import tiny_pi0
import tiny_smolvla

IMAGES = ("observation.images.front", "observation.images.wrist")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[False, True], ids=["dense", "layout"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks as they are prepared on a CPU, and as on a GPU."""
    if request.param:
        monkeypatch.setattr(modeling_smolvla, "prepared", LayoutMask.of)
        monkeypatch.setattr(modeling_pi0, "prepared", LayoutMask.of)


@pytest.fixture(params=[{}, {"attention_mode": "self_attn"}, {"self_attn_every_n_layers": 0}], ids=["interleaved", "joint", "crossed"])
def smolvla(request: pytest.FixtureRequest, tmp_path: Path) -> SmolVLAPolicy:
    state = FeatureType.STATE
    features = {name: PolicyFeature(FeatureType.VISUAL, (3, 32, 32)) for name in IMAGES} | {"observation.state": PolicyFeature(state, (5,))}
    options = tiny_smolvla.OPTIONS | {"train_expert_only": False, "freeze_vision_encoder": False} | request.param
    config = SmolVLAConfig(
        input_features=features,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (7,))},
        vlm_model_name=str(tiny_smolvla.save(tmp_path / "vlm")),
        device="cpu",
        **options,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy = SmolVLAPolicy(config)
        for weight in policy.model.parameters():
            if weight.ndim == 2:
                weight.data.normal_(std=0.2)
    return policy


def smolvla_batch() -> dict[str, Tensor]:
    """Two rows: one with a short instruction, one without the second camera."""
    batch = {name: torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(i)) for i, name in enumerate(IMAGES)}
    batch[f"{IMAGES[1]}_padding_mask"] = torch.tensor([True, False])
    batch[OBS_LANGUAGE_TOKENS] = torch.tensor([[6, 7, 8, 0, 0], [9, 10, 11, 12, 13]])
    batch[OBS_LANGUAGE_ATTENTION_MASK] = batch[OBS_LANGUAGE_TOKENS] > 0
    return batch | {"observation.state": noise(2, 5, seed=2), "action": noise(2, 4, 7, seed=3)}


def smolvla_loss(policy: SmolVLAPolicy) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return policy.forward(smolvla_batch())[0]


@pytest.mark.usefixtures("form")
def test_smolvla_loses_and_learns_as_the_stock_policy(smolvla: SmolVLAPolicy) -> None:
    stock = copy.deepcopy(smolvla)
    modeling_smolvla.swap_attention(smolvla)
    assert_learns_alike(smolvla, smolvla_loss(smolvla), stock, smolvla_loss(stock))


@pytest.mark.usefixtures("form")
def test_smolvla_acts_as_the_stock_policy(smolvla: SmolVLAPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = copy.deepcopy(smolvla)
    modeling_smolvla.swap_attention(smolvla)
    ours = smolvla.predict_action_chunk(smolvla_batch(), noise(2, 4, 8))
    monkeypatch.setattr("transformers.DynamicCache.crop", PrefixCache.crop)  # without it the stock policy cannot act
    torch.testing.assert_close(ours, stock.predict_action_chunk(smolvla_batch(), noise(2, 4, 8)), atol=1e-5, rtol=1e-5)


def test_a_swapped_policy_saves_what_the_stock_policy_loads(smolvla: SmolVLAPolicy, tmp_path: Path) -> None:
    expected = smolvla_loss(smolvla)
    modeling_smolvla.swap_attention(smolvla)
    smolvla.save_pretrained(tmp_path / "saved")
    loaded = SmolVLAPolicy.from_pretrained(tmp_path / "saved").train()
    torch.testing.assert_close(smolvla_loss(loaded), expected, atol=1e-6, rtol=0)


def test_masks_are_prepared_once_a_forward_pass(smolvla: SmolVLAPolicy) -> None:
    modeling_smolvla.swap_attention(smolvla)
    with mock.patch.object(modeling_smolvla, "prepared", wraps=given_mask.prepared) as made:
        smolvla_loss(smolvla)
    expected = {"self_attn": 1, "cross_attn": 2 + (smolvla.config.self_attn_every_n_layers > 0)}
    assert made.call_count == expected[smolvla.config.attention_mode]  # all of the mask, the prefix, the actions' view of the prefix


@pytest.fixture(scope="module", params=["pi0", "pi05"])
def pi(request: pytest.FixtureRequest) -> Any:
    """The stock policy and a swapped one with the same weights."""
    stock = tiny_pi0.build(request.param)
    swapped = copy.deepcopy(stock)
    modeling_pi0.swap_attention(swapped)
    return stock, swapped


def pi_observation(policy: Any) -> tuple[Any, ...]:
    images = [2 * torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(i)) - 1 for i in range(2)]
    present = [torch.tensor([True, True]), torch.tensor([True, False])]
    tokens = torch.tensor([[6, 7, 8, 0, 0], [9, 10, 11, 12, 13]])
    state = (noise(2, policy.config.max_state_dim, seed=2),) if policy.config.type == "pi0" else ()
    return images, present, tokens, tokens > 0, *state


def pi_loss(policy: Any) -> Tensor:
    shape = (2, tiny_pi0.CHUNK, policy.config.max_action_dim)
    losses: Tensor = policy.model.forward(*pi_observation(policy), noise(*shape, seed=3), noise(*shape, seed=4), torch.tensor([0.2, 0.7]))
    return losses.mean()


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_pi_loses_and_learns_as_the_stock_policy(pi: Any, checkpointing: bool) -> None:
    stock, swapped = pi
    for policy in pi:
        policy.zero_grad()
    if checkpointing:
        swapped.model.gradient_checkpointing_enable()
    assert_learns_alike(swapped, pi_loss(swapped), stock, pi_loss(stock))
    swapped.model.gradient_checkpointing_disable()


@pytest.mark.usefixtures("form")
def test_pi_acts_as_the_stock_policy(pi: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start = noise(2, tiny_pi0.CHUNK, pi[0].config.max_action_dim)
    ours = pi[1].model.sample_actions(*pi_observation(pi[1]), noise=start)
    monkeypatch.setattr("lerobot.policies.pi_gemma.create_causal_mask", tiny_pi0.mask_without_cache_position)  # or the stock policy fails
    torch.testing.assert_close(ours, pi[0].model.sample_actions(*pi_observation(pi[0]), noise=start), atol=1e-5, rtol=1e-5)


def assert_learns_alike(ours: Any, our_loss: Tensor, stock: Any, stock_loss: Tensor) -> None:
    torch.testing.assert_close(our_loss, stock_loss, atol=1e-5, rtol=1e-5)
    our_loss.backward()
    stock_loss.backward()
    theirs = {name: weight.grad for name, weight in stock.named_parameters() if weight.grad is not None}
    assert len(theirs) > 10
    largest = max(float(gradient.abs().max()) for gradient in theirs.values())
    for name, weight in ours.named_parameters():
        assert (weight.grad is None) == (name not in theirs), name
        if weight.grad is not None:
            torch.testing.assert_close(weight.grad / largest, theirs[name] / largest, atol=1e-5, rtol=0, msg=name)


@st.composite
def given_masks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """(N, M) a table by blocks, as pi0's `make_att_2d_masks` makes it, and (B, N) which tokens are there, at least one a row."""
    begins = draw(st.lists(st.booleans(), min_size=1, max_size=12))
    block = np.cumsum(begins)
    rows = draw(st.lists(st.lists(st.booleans(), min_size=len(block), max_size=len(block)).filter(any), min_size=1, max_size=3))
    return block[None, :] <= block[:, None], np.array(rows)


@given(given_masks())
def test_a_layout_read_off_a_mask_shows_tokens_that_are_there_what_the_mask_shows(problem: tuple[np.ndarray, np.ndarray]) -> None:
    table, there = problem
    mask = torch.from_numpy(table[None] & there[:, None, :] & there[:, :, None])
    found = LayoutMask.of(mask)
    assert found.present is not None
    seen = torch.from_numpy(found.layout.mask())[None] & found.present[:, None]
    alive = torch.from_numpy(there)
    assert torch.equal(seen[alive], mask[alive])


@given(given_masks(), st.booleans())
def test_a_dense_mask_gives_what_its_layout_gives(problem: tuple[np.ndarray, np.ndarray], additive: bool) -> None:
    table, there = problem
    q, k, v = noise(3, len(there), 2, len(table), 4).double()
    visible = torch.from_numpy(table[None] & there[:, None, :])[:, None]
    given_form = torch.where(visible, 0.0, -2.3819763e38) if additive else visible
    expected = attend(q, k, v, layout_of_mask(table), present=torch.from_numpy(there))
    torch.testing.assert_close(DenseMask.of(given_form).attend(q, k, v), expected, atol=1e-6, rtol=0)


def test_padding_of_the_whole_batch_leaves_the_layout_alone() -> None:
    table = blockwise_causal([[Segment("a", 4)], [Segment("b", 3)]]).mask()
    layouts = set()
    for absent in (None, 2, 3, 6):
        there = np.ones(7, dtype=bool)
        there[absent if absent is not None else []] = False
        layouts.add(LayoutMask.of(torch.from_numpy(table & there[None] & there[:, None])[None]).layout)
    assert len(layouts) == 1
