"""The weight average against its closed form."""

import torch
from torch import nn

from handsight.policies.ema import Ema, decay_at


def test_decay_warms_up() -> None:
    assert decay_at(0, 0.998) == 0.1
    assert decay_at(10, 0.998) == 11 / 20
    assert decay_at(10**6, 0.998) == 0.998


def test_average_is_the_weighted_sum() -> None:
    model = nn.Linear(1, 1, bias=False)
    values = [0.3, -1.2, 2.0, 0.7, 5.0]
    ema = Ema(model, decay=0.5)
    expected = model.weight.item()
    for update, value in enumerate(values):
        model.weight.data.fill_(value)
        ema.update(model)
        d = decay_at(update, 0.5)
        expected = d * expected + (1 - d) * value
    assert abs(ema.module.weight.item() - expected) < 1e-6  # type: ignore[union-attr, operator] # nn.Module hides the class
    assert int(ema.updates) == len(values)


def test_frozen_weights_are_shared_and_buffers_follow() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[0].requires_grad_(False)
    ema = Ema(model, decay=0.9)
    copy = dict(ema.module.named_parameters())
    assert copy["0.weight"] is model[0].weight
    assert copy["1.weight"] is not model[1].weight
    model(torch.randn(8, 2))
    ema.update(model)
    assert torch.equal(dict(ema.module.named_buffers())["1.running_mean"], dict(model.named_buffers())["1.running_mean"])
    assert not ema.train().module.training
