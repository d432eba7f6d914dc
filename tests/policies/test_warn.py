"""What is acted on all the same is told."""

import warnings

import pytest
import torch

from handsight.policies.text import hash_instructions
from handsight.sensors.types import AUDIO


def test_an_instruction_of_unknown_words_alone_is_told(make_policy, make_batch) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy(sensors="state").eval()
    told, mixed, new, none = hash_instructions(["red cube", "red kindly", "kindly", ""], policy.config.text_buckets, 8)
    policy.network.text.read(told[None])
    batch = make_batch(policy.config)

    def act(*ids: torch.Tensor) -> None:
        policy.predict_action_chunk({**batch, "observation.language.tokens": torch.stack(ids)})

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        act(told, mixed, none, none)
    with pytest.warns(UserWarning, match="say it in other words"):
        act(told, mixed, none, new)


def test_a_dead_microphone_is_a_missing_one_and_is_told(make_policy, make_batch) -> None:  # type: ignore[no-untyped-def]
    policy = make_policy().eval()
    for parameter in policy.network.parameters():  # gates that start at zero hide what flows through them
        torch.nn.init.normal_(parameter, std=0.1)
    batch, noise = make_batch(policy.config, batch=2), torch.randn(2, 16, 7)
    dead = {**batch, AUDIO: batch[AUDIO] * torch.tensor([0.0, 1.0]).view(2, 1, 1)}
    with pytest.warns(UserWarning, match="no working microphone"):
        chunk = policy.predict_action_chunk(dead, noise=noise)
    torch.testing.assert_close(chunk[0], policy.predict_action_chunk({**batch, AUDIO: None}, noise=noise)[0])
    torch.testing.assert_close(chunk[1], policy.predict_action_chunk(batch, noise=noise)[1])
