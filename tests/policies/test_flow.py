"""Flow matching against closed forms."""

import pytest
import torch
from torch import Tensor, nn

from handsight.policies.flow import FlowMatching, TimeSampler


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_pair_lies_on_the_straight_path() -> None:
    data = torch.randn(64, 5, 3, generator=generator())
    pair = FlowMatching().pair(data, generator())
    t = pair.t.view(-1, 1, 1)
    noise = data - pair.target
    torch.testing.assert_close(pair.x, (1 - t) * noise + t * data)
    torch.testing.assert_close(pair.x + (1 - t) * pair.target, data)  # following the target from x_t arrives at the data


@pytest.mark.parametrize(
    ("sampler", "mean"),
    [(TimeSampler.UNIFORM, 0.5), (TimeSampler.LOGIT_NORMAL, 0.5), (TimeSampler.BETA, 0.999 * (1 - 1.5 / 2.5))],
)
def test_times_have_their_distribution(sampler: TimeSampler, mean: float) -> None:
    t = FlowMatching(time_sampler=sampler).times(40_000, like=torch.zeros(1), generator=generator())
    assert t.min() >= 0
    assert t.max() <= 1
    assert abs(t.mean().item() - mean) < 0.01


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_euler_is_exact_on_a_straight_field(steps: int) -> None:
    noise, displacement = torch.randn(2, 8, 16, 7, generator=generator()).unbind(0)
    out = FlowMatching(steps=steps).integrate(lambda x, t: displacement, noise)
    torch.testing.assert_close(out, noise + displacement)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
def test_exact_gaussian_velocity_gives_the_target_moments(temperature: float) -> None:
    """From N(0, 1) to N(m, s^2): E[data - noise | x_t] = m + (t s^2 - (1 - t)) / ((1 - t)^2 + t^2 s^2) (x_t - t m).

    The map from noise to data is then linear, m + s noise, so that the temperature scales the deviation.
    """
    m, s = 1.5, 0.4

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        t = t.view(-1, 1)
        return m + (t * s**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * s**2) * (x - t * m)

    flow = FlowMatching(steps=200, temperature=temperature)
    out = flow.integrate(velocity, flow.source((20_000, 1), like=torch.zeros(1), generator=generator()))
    assert abs(out.mean().item() - m) < 0.02
    assert abs(out.std().item() - temperature * s) < 0.02


def test_same_generator_same_sample() -> None:
    data = torch.ones(4, 2)
    first, second = FlowMatching().pair(data, generator(3)), FlowMatching().pair(data, generator(3))
    assert torch.equal(first.x, second.x)
    assert torch.equal(first.t, second.t)


def test_two_modes_stay_balanced() -> None:
    """Data at -1 and +1, half each: a trained flow samples both, 50 +- 5 points, and little between them. Regression would give 0."""
    g = generator()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
    flow = FlowMatching(steps=20)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(600):
        data = torch.randint(0, 2, (512, 1), generator=g) * 2.0 - 1.0
        pair = flow.pair(data, g)
        loss = (net(torch.cat([pair.x, pair.t.unsqueeze(1)], dim=1)) - pair.target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        noise = flow.source((4000, 1), like=torch.zeros(1), generator=g)
        out = flow.integrate(lambda x, t: net(torch.cat([x, t.unsqueeze(1)], dim=1)), noise)
    assert 0.45 < (out > 0).float().mean() < 0.55
    assert (out.abs() - 1).abs().median() < 0.1
