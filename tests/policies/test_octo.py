"""FuSe at its published scale: token counts, the mask written out once more from its rules, and what readouts can change."""

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature

from handsight.policies.encoders import TokenGroup
from handsight.policies.fuse.configuration_fuse import FuseConfig
from handsight.policies.fuse.modeling_fuse import FusePolicy
from handsight.policies.octo import StepAudioEncoder, arrange_octo
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import Modality
from handsight.sensors.referent import Referent
from handsight.sensors.types import ACTION, AUDIO, FRONT, GROUNDING, STATE, TOUCH, WRIST

TINY = {"layers": 1, "heads": 2, "token_width": 32, "text_width": 16, "condition_width": 32, "language_readouts": 3, "contrastive_width": 8}
TINY |= {"max_words": 5}


def features(front: int, wrist: int) -> dict[str, object]:
    state, visual = FeatureType.STATE, FeatureType.VISUAL
    inputs = {FRONT: PolicyFeature(visual, (3, front, front)), WRIST: PolicyFeature(visual, (3, wrist, wrist))}
    inputs |= {STATE: PolicyFeature(state, (15,)), TOUCH: PolicyFeature(state, (1536,)), AUDIO: PolicyFeature(state, (800,))}
    return {"input_features": inputs, "output_features": {ACTION: PolicyFeature(FeatureType.ACTION, (7,))}, "device": "cpu"}


@pytest.fixture(scope="module")
def paper() -> FusePolicy:
    with torch.device("meta"):
        return FusePolicy(FuseConfig.paper(**features(256, 128), memory_bank=0))  # type: ignore[arg-type] # a table of settings


def test_token_counts_are_the_papers(paper: FusePolicy) -> None:
    layout = paper.model.trunk.layout
    for step in (-1, 0):
        names = ("front", "wrist", "touch", "audio", "instruction", "action", "language")
        lengths = {name: layout.key_span(f"{name}{step}").stop - layout.key_span(f"{name}{step}").start for name in names}
        assert lengths == {"front": 256, "wrist": 64, "touch": 2, "audio": 16, "instruction": 24, "action": 1, "language": 24}
        assert sum(lengths.values()) == 387
    assert layout.num_keys == 798
    transformer = sum(p.numel() for p in paper.model.trunk.blocks.parameters())
    assert transformer == 12 * (12 * 384**2 + 13 * 384)  # 12 layers of 384: Octo-small
    assert 25e6 < sum(p.numel() for p in paper.model.parameters()) < 40e6


def test_mask_is_the_papers(paper: FusePolicy) -> None:
    """Rule by rule: tasks see tasks; observations of step t tasks and observations up to t; readouts these and their own group up to t."""
    kinds = ["task"] * 24
    steps = [-1] * 24
    for step in (0, 1):
        kinds += ["observation"] * (256 + 64 + 2 + 16 + 24) + ["action"] + ["language"] * 24
        steps += [step] * 387
    expected = np.zeros((798, 798), bool)
    for i, (mine, now) in enumerate(zip(kinds, steps, strict=True)):
        for j, (theirs, then) in enumerate(zip(kinds, steps, strict=True)):
            if theirs == "task":
                expected[i, j] = True
            elif mine == "task":
                expected[i, j] = False
            elif theirs == "observation":
                expected[i, j] = then <= now
            else:
                expected[i, j] = mine == theirs and then <= now
    assert np.array_equal(paper.model.trunk.layout.mask(), expected)


def tiny(**overrides: object) -> FusePolicy:
    torch.manual_seed(0)
    config = FuseConfig.paper(**features(32, 32), **(TINY | overrides))  # type: ignore[arg-type] # a table of settings
    return FusePolicy(config)


def batch_of(policy: FusePolicy, rows: int = 2) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    rand = lambda *shape: torch.rand(rows, *shape, generator=g)  # noqa: E731
    label = np.stack([Referent(since_touched=0, since_heard=0, visible=True).row() for _ in range(rows)])
    label[:, :7] = 0
    return {
        FRONT: rand(2, 3, 32, 32),
        WRIST: rand(2, 3, 32, 32),
        TOUCH: rand(2, 2, 3, 16, 16),
        AUDIO: rand(21, 800) - 0.5,
        ACTION: rand(4, 7),
        GROUNDING: torch.from_numpy(label),
        "observation.language.tokens": torch.tensor([[3, 4, 0, 0, 0], [5, 6, 7, 0, 0]]),
        "observation.language.attention_mask": torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]).bool(),
    }


@pytest.mark.parametrize("compat", [False, True])
def test_it_trains_acts_and_describes(compat: bool) -> None:
    policy = tiny(upstream_compat=compat)
    batch = batch_of(policy)
    loss, metrics = policy.train().forward(batch)
    loss.backward()
    assert {"loss/regression", "loss/contrastive", "loss/generation"} < set(metrics)
    for name in ("front", "wrist", "touch", "audio"):
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in policy.model.sensors.encoders[name].parameters()), name
    assert policy.predict_action_chunk(batch).shape == (2, 4, 7)
    assert len(policy.describe(batch, Modality.TOUCH)) == 2


def test_readouts_change_nothing_else_and_pads_are_seen_as_upstream_only() -> None:
    for compat in (False, True):
        policy = tiny(upstream_compat=compat, ema_decay=0.0).eval()
        batch, trunk = batch_of(policy), policy.model.trunk
        features = policy.features(batch)
        [gradient] = torch.autograd.grad(features.condition.square().sum(), [trunk.position])
        readouts = gradient[-2 * (1 + 3) :].view(2, 4, -1)  # a step: the action's, then three of language
        assert (readouts[:, 1:] == 0).all()
        assert (readouts[:, 0] != 0).any(dim=1).all()  # the action readout of the past is of its own kind
        assert (gradient[: -2 * 4] != 0).any(dim=1)[5:].all()
        assert (gradient[4] != 0).any() == compat  # the last word is padding in both rows


def test_the_repeated_instruction_is_the_first_once_more() -> None:
    arrangement = arrange_octo((TokenGroup("front", (-1, 0), 2),), words=3, language_readouts=1)
    names = [segment.name for segment in arrangement.layout.keys]
    step = ("front{0}", "instruction{0}", "action{0}", "language{0}")
    assert names == ["instruction", *(name.format(-1) for name in step), *(name.format(0) for name in step)]
    assert arrangement.source == (0, 1, 2, 3, 4, 0, 1, 2, 7, 8, 5, 6, 0, 1, 2, 9, 10)


def test_audio_windows_end_at_their_steps() -> None:
    torch.manual_seed(0)
    encoder = StepAudioEncoder(8, 4, (-1, 0)).eval()
    x = torch.rand(1, 21, 800, generator=torch.Generator().manual_seed(0)) - 0.5
    text = torch.zeros(1, 4)
    both = encoder(x, text)
    assert both.shape == (1, 32, 8)
    alone = StepAudioEncoder(8, 4, (0,)).eval()
    alone.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(both[:, :16], alone(x[:, :20], text))
    torch.testing.assert_close(both[:, 16:], alone(x[:, 1:], text))


def test_too_short_a_sound_is_refused() -> None:
    with pytest.raises(HandsightError, match="audio_history from -20"):
        tiny(audio_history=tuple(range(-19, 1)))
