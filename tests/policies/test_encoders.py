"""Sensor encoders: shapes, what they may ignore, and what a missing sensor is."""

import torch

from handsight.policies.encoders import (
    AudioEncoder,
    Film,
    ImageNoise,
    KeypointImageEncoder,
    PatchImageEncoder,
    SensorEncoders,
    SpatialSoftmax,
    StateEncoder,
    TokenGroup,
    TouchEncoder,
)
from handsight.sensors.touch import contact_statistics, normalize_touch

TEXT = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


def test_film_starts_as_identity() -> None:
    x = torch.randn(3, 5, 4, 4)
    assert torch.equal(Film(5, 8)(x, TEXT), x)


def test_spatial_softmax_finds_a_peak() -> None:
    layer = SpatialSoftmax(1, 1, 8)
    torch.nn.init.constant_(layer.logits.weight, 100.0)
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 2, 7] = 1.0  # row 2 (y), column 7 (x)
    torch.testing.assert_close(layer(x), torch.tensor([[1.0, -1 + 2 * 2 / 7]]))


def test_shapes() -> None:
    images = torch.rand(3, 3, 64, 64)
    assert KeypointImageEncoder(64, 16, 8, noise=ImageNoise(shift=1, light=1.0))(images, TEXT).shape == (3, 4, 16)
    assert PatchImageEncoder(64, 16, 8, noise=ImageNoise(shift=1, light=1.0))(images, TEXT).shape == (3, 16, 16)
    assert PatchImageEncoder(64, 16, 8, noise=ImageNoise())(images.unsqueeze(1).expand(-1, 2, -1, -1, -1), TEXT).shape == (3, 32, 16)
    assert StateEncoder(15, 16, (), 0.0)(torch.randn(3, 5, 15), TEXT).shape == (3, 5, 16)
    assert TouchEncoder(16, 8)(torch.rand(3, 5, 2, 3, 16, 16), TEXT).shape == (3, 5, 16)
    assert AudioEncoder(16, 8)(torch.rand(3, 20, 800) - 0.5, TEXT).shape == (3, 4, 16)


def test_touch_skips_frames_without_contact() -> None:
    encoder = TouchEncoder(16, 8)
    torch.nn.init.normal_(encoder.film1.linear.weight)
    x = torch.rand(3, 4, 2, 3, 16, 16)
    x[0, 1] = x[2, 0] = 0
    tokens = encoder(x, TEXT)
    assert torch.equal(tokens[0, 1], encoder.no_contact)
    assert torch.equal(tokens[2, 0], encoder.no_contact)
    alone = encoder(x[1:2, 2:3], TEXT[1:2])  # each frame keeps its own instruction
    torch.testing.assert_close(tokens[1, 2], alone[0, 0])
    assert torch.equal(encoder(torch.zeros_like(x), TEXT), encoder.no_contact.expand(3, 4, -1))


def spheres(generator: torch.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Taxels (count, 1, 2, 3, 16, 16) of spheres pressed with 2 to 20 N on both pads, and whether each is hard (count,) bool.

    Hertz: p = p0 sqrt(1 - r^2 / a^2), a^3 = 3 F R / 4 E, p0 = 3 F / 2 pi a^2, so the force alone does not tell E.
    """
    hard = torch.rand(count, generator=generator) < 0.5
    modulus = torch.where(hard, 3.0, 0.5)  # [MPa]
    radius, force = 20.0, 2 + 18 * torch.rand(count, generator=generator)  # [mm], [N]
    patch = (0.75 * force * radius / modulus).pow(1 / 3)  # [mm]
    axis = (torch.arange(16) - 7.5) * 18 / 16  # [mm]
    inside = (1 - (axis[:, None] ** 2 + axis**2) / patch[:, None, None].square()).clamp(min=0)  # (count, 16, 16)
    taxels = torch.zeros(count, 1, 2, 3, 16, 16)
    taxels[:, 0, :, 0] = (1e3 * 1.5 * force / (torch.pi * patch.square()))[:, None, None, None] * inside.sqrt().unsqueeze(1)
    return normalize_touch(taxels), hard


def test_contact_statistics_tell_stiffness_whatever_the_force() -> None:
    touch, hard = spheres(torch.Generator().manual_seed(0), 200)
    statistics = contact_statistics(touch.view(200, 6, 16, 16)).view(200, 2, 10)
    force, stiffness = statistics[:, 0, 0], statistics[:, 0, 1]
    assert stiffness[hard].min() > stiffness[~hard].max()
    assert force[hard].min() < force[~hard].median() < force[hard].max()


def test_contact_statistics_tell_shape_and_place() -> None:
    pressure = torch.zeros(3, 2, 3, 16, 16)
    pressure[0, :, 0, 6:10, 6:10] = 50.0  # [kPa] a small square patch
    pressure[1, :, 0, 6:10, :] = 50.0  # a line along the columns
    pressure[2, :, 0, 6:10, 12:16] = 50.0  # the square six taxels further
    small, line, aside = contact_statistics(normalize_touch(pressure).view(3, 6, 16, 16)).view(3, 2, 10)[:, 0]
    assert line[6] - small[6] > 2  # spread along columns
    torch.testing.assert_close(line[7], small[7], rtol=0.01, atol=0)  # and along rows
    torch.testing.assert_close(aside[4] - small[4], torch.tensor(3.0), rtol=0.03, atol=0)  # centre along columns, in two taxels
    assert contact_statistics(torch.zeros(1, 6, 16, 16)).isfinite().all()


def test_touch_encoder_learns_whether_it_is_what_was_asked() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    encoder, head, words = TouchEncoder(32, 8), torch.nn.Linear(32, 1), torch.randn(2, 8)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(300):
        touch, hard = spheres(generator, 16)
        asked = torch.rand(16, generator=generator) < 0.5
        logits = head(encoder(touch, words[asked.long()]).flatten(1)).squeeze(1)
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(logits, (asked == hard).float()).backward()
        optimizer.step()
    touch, hard = spheres(generator, 200)
    asked = torch.arange(200) % 2 == 0
    right = (head(encoder(touch, words[asked.long()]).flatten(1)).squeeze(1) > 0) == (asked == hard)
    assert right.float().mean() > 0.9


def test_state_is_relative_clamped_and_can_be_hidden() -> None:
    encoder = StateEncoder(3, 8, hidden=(2,), history_dropout=1.0).eval()
    x = torch.randn(2, 3, 3)
    y = x.clone()
    y[..., 2] = 9.0
    assert torch.equal(encoder(x, TEXT), encoder(y, TEXT))
    now = x[:, -1:].expand(-1, 3, -1)
    torch.testing.assert_close(encoder(now, TEXT)[:, 0], encoder.past.bias.expand(2, -1))  # a past equal to now says nothing
    assert torch.equal(encoder(1e6 * x.sign(), TEXT), encoder(5.0 * x.sign(), TEXT))
    torch.testing.assert_close(encoder.train()(x, TEXT)[:, 0], encoder.past.bias.expand(2, -1))  # forgotten in training


def make_sensors(dropout: float) -> SensorEncoders:
    groups = (TokenGroup("state", (-1, 0), 1), TokenGroup("touch", (0,), 1))
    encoders = {"state": StateEncoder(3, 8, (), 0.0), "touch": TouchEncoder(8, 8)}
    sensors = SensorEncoders(encoders, groups, 8, {"touch": dropout})
    for parameter in sensors.absent.parameters():
        torch.nn.init.normal_(parameter)
    return sensors


def test_masked_sensor_is_exactly_its_learned_token() -> None:
    sensors = make_sensors(0.0).eval()
    inputs = {"state": torch.randn(3, 2, 3), "touch": None}
    out = sensors(inputs, TEXT)
    assert out.tokens.shape == (3, 3, 8)
    assert out.present.tolist() == [[True, False]] * 3
    assert torch.equal(out.tokens[:, 2], sensors.absent["touch"].expand(3, -1))


def test_dropout_hides_whole_sensors_in_training_only() -> None:
    sensors = make_sensors(0.5)
    text = torch.zeros(2000, 8)
    inputs = {"state": torch.randn(2000, 2, 3), "touch": torch.rand(2000, 1, 2, 3, 16, 16)}
    out = sensors.train()(inputs, text, torch.Generator().manual_seed(0))
    assert out.present[:, 0].all()
    assert abs(out.present[:, 1].float().mean() - 0.5) < 0.04
    assert torch.equal(out.tokens[~out.present[:, 1], 2][0], sensors.absent["touch"][0])
    assert sensors.eval()(inputs, text).present.all()


def test_a_microphone_that_gives_exact_zeros_is_missing_and_one_that_hears_only_its_noise_is_not() -> None:
    groups = (TokenGroup("audio", (0,), 4), TokenGroup("touch", (0,), 1))
    sensors = SensorEncoders({"audio": AudioEncoder(8, 8), "touch": TouchEncoder(8, 8)}, groups, 8, {}).eval()
    for parameter in sensors.absent.values():
        torch.nn.init.normal_(parameter)
    sound = 1e-4 * torch.randn(3, 20, 800)
    sound[1] = 0.0
    sound[2, :-1] = 0.0  # just switched on
    out = sensors({"audio": sound, "touch": torch.zeros(3, 1, 2, 3, 16, 16)}, TEXT)
    assert out.present.tolist() == [[True, True], [False, True], [True, True]]  # no contact is a reading
    assert torch.equal(out.tokens[1, :4], sensors.absent["audio"])
    assert torch.equal(out.tokens[1, 4], sensors({"audio": None, "touch": torch.zeros(3, 1, 2, 3, 16, 16)}, TEXT).tokens[1, 4])
