"""Each sensor to tokens: encoders that share one signature, the missing-sensor mask and modality dropout.

Every encoder maps its sensor's batch tensor and the pooled instruction (B, text) to tokens (B, n, D), n = steps x tokens_per_step,
oldest step first. Axes: B batch, T history steps, C channels, H, W pixels, D token width.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handsight.sensors.audio import BANDS, LogMel, is_live
from handsight.sensors.camera import random_light, random_shift
from handsight.sensors.touch import CONTACT_FLOOR, CONTACT_STATISTICS, contact_statistics


@dataclass(frozen=True)
class TokenGroup:
    """Where one sensor's tokens stand: `tokens_per_step` tokens for each history offset, oldest first."""

    name: str
    offsets: tuple[int, ...]
    tokens_per_step: int

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return len(self.offsets) * self.tokens_per_step


@dataclass(frozen=True)
class SensorTokens:
    """All sensors' tokens, in the order of `groups`."""

    tokens: Tensor  # (B, N, D)
    present: Tensor  # (B, S) bool, in the order of `groups`
    groups: tuple[TokenGroup, ...]


class Film(nn.Module):
    """Feature-wise modulation of (B, C, ...) by the instruction: y = (1 + gain) x + bias; the identity at initialisation."""

    def __init__(self, channels: int, text_width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(text_width, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        gain, bias = self.linear(text).view(*text.shape[:-1], -1, *(1,) * (x.dim() - 2)).chunk(2, dim=1)
        return torch.addcmul(bias, x, 1 + gain)


def pixel_grid(size: int) -> Tensor:
    """(x, y) of every pixel of a square map in [-1, 1], (size * size, 2)."""
    axis = torch.linspace(-1, 1, size)
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).flatten(0, 1)


class SpatialSoftmax(nn.Module):
    """Expected image coordinates under a softmax over pixels (Levine et al. 2016), sharpened by a learned temperature."""

    grid: Tensor

    def __init__(self, channels: int, keypoints: int, size: int) -> None:
        super().__init__()
        self.logits = nn.Conv2d(channels, keypoints, 1)
        # e^1.6: at 1 the softmax over 256 pixels stays nearly flat for thousands of steps.
        self.log_scale = nn.Parameter(torch.tensor(1.6))
        self.register_buffer("grid", pixel_grid(size), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, keypoints * 2) in [-1, 1]."""
        weights: Tensor = (self.logits(x).flatten(2) * self.log_scale.exp()).softmax(dim=-1)
        return (weights @ self.grid).flatten(1)


class InstructedKeypoints(nn.Module):
    """Where is what the instruction names? Queries made of the instruction attend to pixels; their expected coordinates come out.

    A bilinear match of words and pixels: with FiLM alone the policy took over three times as many steps to begin to follow the instruction.
    """

    grid: Tensor

    def __init__(self, channels: int, text_width: int, size: int, queries: int) -> None:
        super().__init__()
        self.shape = (queries, channels)
        self.query = nn.Linear(text_width, queries * channels)
        self.register_buffer("grid", pixel_grid(size), persistent=False)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """x (B, C, H, W), text (B, D) -> (B, queries * 2) in [-1, 1]."""
        scores = torch.bmm(self.query(text).view(-1, *self.shape), x.flatten(2))  # (B, queries, H * W)
        return (scores.softmax(dim=-1) @ self.grid).flatten(1)


@dataclass(frozen=True)
class ImageNoise:
    """Training augmentation of a camera's pictures."""

    shift: int = 0
    """Largest random shift [pixel of the pooled picture]."""
    light: float = 0.0
    """Strength of random brightness and tint; 1 is `random_light`'s own, 0 none."""

    def __call__(self, images: Tensor) -> Tensor:
        """Noisy copy of images (B, 3, H, W)."""
        shifted = random_shift(images, self.shift)
        return random_light(shifted, 0.25 * self.light, 0.12 * self.light, 0.08 * self.light) if self.light > 0 else shifted


class KeypointImageEncoder(nn.Module):
    """Two small convolutions with instruction FiLM; keypoints say where, maxima and pools say what.

    No normalisation layer: GroupNorm on the 16 x 16 map costs as much as a convolution on a CPU and was not needed.
    """

    tokens_per_step = 4
    keypoints = 16

    def __init__(self, size: int, width: int, text_width: int, noise: ImageNoise) -> None:
        super().__init__()
        self.noise = noise
        self.conv1 = nn.Conv2d(3, 32, 6, stride=4, padding=1)
        self.film1 = Film(32, text_width)
        self.conv2 = nn.Conv2d(32, 48, 3, padding=1)
        self.film2 = Film(48, text_width)
        side = (size - 4) // 4 + 1
        self.fixed = SpatialSoftmax(48, self.keypoints, side)
        self.instructed = InstructedKeypoints(48, text_width, side, self.keypoints)
        # A projection each: behind a common one the few coordinates drown among the pools (3.8 cm against 1.8 held out, 600 steps).
        self.where = nn.Linear(2 * 2 * self.keypoints, 2 * width)
        self.peaks = nn.Linear(48, width)
        self.pools = nn.Linear(48 * 16, width)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Images (B, 3, size, size) in [0, 1] -> (B, 4, D). With noise in training mode."""
        if self.training:
            x = self.noise(x)
        x = F.silu(self.film1(self.conv1((x - 0.5) * 4), text))
        x = F.silu(self.film2(self.conv2(x), text))
        where = self.where(torch.cat([self.fixed(x), self.instructed(x, text)], dim=1))
        tokens = torch.cat([where, self.peaks(x.amax(dim=(2, 3))), self.pools(F.adaptive_avg_pool2d(x, 4).flatten(1))], dim=1)
        return tokens.view(x.shape[0], self.tokens_per_step, -1)


class PatchImageEncoder(nn.Module):
    """Octo's SmallStem16: four stride-2 convolutions, then one token for each 16 x 16 patch. For the transformer."""

    channels = (32, 96, 192, 384)

    def __init__(self, size: int, width: int, text_width: int, noise: ImageNoise) -> None:
        super().__init__()
        self.noise = noise
        self.tokens_per_step = (size // 16) ** 2
        stem: list[nn.Module] = []
        for before, after in zip((3, *self.channels[:-1]), self.channels, strict=True):
            stem += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(32, after), nn.ReLU()]
        self.stem = nn.Sequential(*stem)
        self.film = Film(self.channels[-1], text_width)
        self.out = nn.Conv2d(self.channels[-1], width, 1)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Images (B, 3, size, size), or (B, T, 3, size, size), in [0, 1] -> (B, T * patches, D)."""
        steps = x.shape[1] if x.dim() == 5 else 1
        x = x.flatten(0, -4)  # (B * T, 3, H, W)
        if self.training:
            x = self.noise(x)
        x = self.film(self.stem((x - 0.5) * 2), text.repeat_interleave(steps, dim=0))
        tokens: Tensor = self.out(x).flatten(2).transpose(1, 2)  # (B * T, patches, D)
        return tokens.reshape(text.shape[0], steps * self.tokens_per_step, -1)


class ResNetImageEncoder(nn.Module):
    """ResNet-26 from scratch, its four stages followed by instruction FiLM; four tokens, the quarters of the last map.

    FuSe's baseline without a pretrained transformer.
    """

    tokens_per_step = 4

    def __init__(self, size: int, width: int, text_width: int, noise: ImageNoise) -> None:
        super().__init__()
        # Imported here: timm takes seconds to import and no other encoder needs it.
        import timm
        from timm.layers.norm import GroupNorm

        self.noise = noise
        # Group and not batch normalisation: the average of weights that inference uses has no batch statistics of its own.
        net: Any = timm.create_model("resnet26", pretrained=False, num_classes=0, norm_layer=GroupNorm)
        self.backbone = net
        channels = [info["num_chs"] for info in net.feature_info[1:]]
        self.films = nn.ModuleList(Film(count, text_width) for count in channels)
        self.out = nn.Linear(channels[-1], width)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Images (B, 3, size, size) in [0, 1] -> (B, 4, D). With noise in training mode."""
        if self.training:
            x = self.noise(x)
        net: Any = self.backbone
        x = net.maxpool(net.act1(net.bn1(net.conv1((x - 0.5) * 2))))
        for stage, film in zip((net.layer1, net.layer2, net.layer3, net.layer4), self.films, strict=True):
            x = film(stage(x), text)
        tokens: Tensor = self.out(F.adaptive_avg_pool2d(x, 2).flatten(2).transpose(1, 2))
        return tokens


class StateEncoder(nn.Module):
    """One token for each proprioceptive frame; past frames relative to now, all of them forgotten at a given rate.

    Without forgetting, a policy may copy its own last actions from the history ("copycat", de Haan et al. 2019).
    """

    tokens_per_step = 1
    visible: Tensor

    def __init__(self, dim: int, width: int, hidden: tuple[int, ...], history_dropout: float) -> None:
        super().__init__()
        self.history_dropout = history_dropout
        self.now = nn.Linear(dim, width)
        self.past = nn.Linear(dim, width)
        visible = torch.ones(dim)
        visible[list(hidden)] = 0
        self.register_buffer("visible", visible, persistent=False)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Standardised state (B, T, dim) -> (B, T, D)."""
        # A channel that barely moved in the demonstrations has a tiny deviation; a rollout may leave its range by far.
        x = x.clamp(-5, 5) * self.visible
        now, past = x[:, -1:], x[:, :-1] - x[:, -1:]
        if self.training and self.history_dropout > 0:
            past = past * (torch.rand(x.shape[0], 1, 1, device=x.device) >= self.history_dropout)
        return torch.cat([self.past(past), self.now(now)], dim=1)


class Asked(nn.Module):
    """What the instruction asks for, as factors of what a sensor has found: a bilinear match of the two.

    "Is it what was asked?" is an exclusive or ("soft" and yields, "hard" and does not), which convolutions and FiLM hardly find: on
    held-out squeezes of sense/bag_stiff with 4 squeezes a step, the match in 600 steps, they alone not in 1500 (one seed). Factors are 1
    where nothing is asked, and do not depend on how long an instruction is.
    """

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(text_width, width)
        nn.init.ones_(self.linear.bias)

    def forward(self, text: Tensor) -> Tensor:
        """Pooled instructions (..., text) -> factors (..., width)."""
        factors: Tensor = self.linear(F.normalize(text, dim=-1) * math.sqrt(text.shape[-1]))
        return factors


class TouchEncoder(nn.Module):
    """Each frame that has contact to one token: what convolutions with instruction FiLM see, and how the contact matches the instruction.

    Frames without contact share one learned token.
    """

    tokens_per_step = 1

    def __init__(self, width: int, text_width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(6, 32, 3, stride=2, padding=1)
        self.film1 = Film(32, text_width)
        self.conv2 = nn.Conv2d(32, 48, 3, stride=2, padding=1)
        self.film2 = Film(48, text_width)
        self.seen = nn.Linear(48 * 16, width - width // 2)
        self.felt = nn.Linear(CONTACT_STATISTICS, width // 2)
        self.asked = Asked(text_width, width // 2)
        self.no_contact = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Normalised taxels (B, T, 2, 3, 16, 16) -> (B, T, D)."""
        steps = x.shape[1]
        frames = x.flatten(0, 1).flatten(1, 2)  # (B * T, 6, 16, 16)
        contact = frames.abs().amax(dim=(1, 2, 3)) > CONTACT_FLOOR
        # What is compiled or exported has one shape: every frame is encoded, and those without contact are replaced.
        tokens = self._all(frames, contact, text) if torch.compiler.is_compiling() else self._touched(frames, contact, text)
        return tokens.view(x.shape[0], steps, -1)

    def _touched(self, frames: Tensor, contact: Tensor, text: Tensor) -> Tensor:
        """Frames (B * T, 6, 16, 16), contact (B * T,) bool, text (B, D) -> (B * T, D): no work for frames without contact."""
        tokens: Tensor = self.no_contact.expand(frames.shape[0], -1)
        index = contact.nonzero().squeeze(1)
        if index.numel() > 0:
            felt = self._encode(frames[index], text[index // (frames.shape[0] // text.shape[0])])
            tokens = tokens.index_copy(0, index, felt.to(tokens.dtype))
        return tokens

    def _all(self, frames: Tensor, contact: Tensor, text: Tensor) -> Tensor:
        """As `_touched`."""
        felt = self._encode(frames, text.repeat_interleave(frames.shape[0] // text.shape[0], dim=0))
        return torch.where(contact.unsqueeze(1), felt, self.no_contact)

    def _encode(self, x: Tensor, text: Tensor) -> Tensor:
        y = F.silu(self.film1(self.conv1(x), text))
        y = F.silu(self.film2(self.conv2(y), text))
        match = self.felt(contact_statistics(x)) * self.asked(text)
        return torch.cat([self.seen(y.flatten(1)), match], dim=1)


class AudioEncoder(nn.Module):
    """Log-mel image of the last second of sound, one token for each quarter of it: what two convolutions with instruction FiLM hear, and
    how the quarter's spectrum matches the instruction.

    Both are normalised: what two convolutions leave of a sound is a hundredth of what a camera gives. With one shake of
    sense/shake_material a step, the spectrum found what was asked in 1000 steps, normalised convolutions in 3000, bare ones not by then.
    """

    def __init__(self, width: int, text_width: int, grid: tuple[int, int] = (4, 4)) -> None:
        super().__init__()
        self.grid = grid
        self.log_mel = LogMel()
        self.conv1 = nn.Conv2d(1, 24, 6, stride=4, padding=1)
        self.film1 = Film(24, text_width)
        self.conv2 = nn.Conv2d(24, 48, 3, stride=2, padding=1)
        self.film2 = Film(48, text_width)
        self.heard = nn.Sequential(nn.LayerNorm(48 * grid[0]), nn.Linear(48 * grid[0], width - width // 2))
        self.spectrum = nn.Sequential(nn.LayerNorm(2 * BANDS), nn.Linear(2 * BANDS, width // 2))
        self.asked = Asked(text_width, width // 2)
        self.tokens_per_step = grid[1]

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Sound (B, T, 800) in [-1, 1] -> (B, 4, D), oldest first."""
        mel = self.log_mel(x.flatten(1))  # (B, mels, frames)
        y = F.silu(self.film1(self.conv1(mel.unsqueeze(1)), text))
        y = F.silu(self.film2(self.conv2(y), text))
        heard = self.heard(F.adaptive_avg_pool2d(y, self.grid).flatten(1, 2).transpose(1, 2))
        return torch.cat([heard, self.spectrum(self._spectra(mel)) * self.asked(text).unsqueeze(1)], dim=2)

    def _spectra(self, mel: Tensor) -> Tensor:
        """Mean and maximum of each band in each part of the window: (B, mels, frames) -> (B, parts, 2 mels)."""
        parts = self.grid[1]
        kept = mel[..., mel.shape[-1] % parts :].unflatten(2, (parts, -1))  # what does not divide is the oldest
        return torch.cat([kept.mean(dim=3), kept.amax(dim=3)], dim=1).transpose(1, 2)


class SensorEncoders(nn.Module):
    """All encoders of a policy. A sensor that is masked (missing, dropped) becomes a learned token and a flag, and so does a dead
    microphone, in whatever rows it is."""

    def __init__(self, encoders: Mapping[str, nn.Module], groups: tuple[TokenGroup, ...], width: int, dropout: Mapping[str, float]) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.groups = groups
        self.dropout = [dropout.get(group.name, 0.0) for group in groups]
        self.absent = nn.ParameterDict({group.name: nn.Parameter(torch.zeros(group.tokens, width)) for group in groups})

    def forward(self, inputs: Mapping[str, Tensor | None], text: Tensor, generator: torch.Generator | None = None) -> SensorTokens:
        """Encode `inputs`, one entry a group (None: masked for the whole batch), under the instruction text (B, D)."""
        sensors = self.encode(inputs, text)
        if not self.training or not any(self.dropout):
            return sensors
        rate = torch.tensor(self.dropout, device=text.device)
        return self.keep(sensors, torch.rand(sensors.present.shape, generator=generator, device=text.device) >= rate)

    def encode(self, inputs: Mapping[str, Tensor | None], text: Tensor) -> SensorTokens:
        """As `forward`, without dropping any sensor that is there."""
        tokens = [self._encode(group, inputs[group.name], text) for group in self.groups]
        present = torch.stack([self._given(group, inputs[group.name], text) for group in self.groups], dim=1)
        return self.keep(SensorTokens(torch.cat(tokens, dim=1), present, self.groups), present)

    def keep(self, sensors: SensorTokens, kept: Tensor) -> SensorTokens:
        """The same without the sensors that kept (B, S) rules out: their absent tokens take the place of what was encoded."""
        present = sensors.present & kept
        kept_tokens = torch.cat([present[:, i : i + 1].expand(-1, group.tokens) for i, group in enumerate(self.groups)], dim=1)
        absent = torch.cat([self.absent[group.name] for group in self.groups])  # (N, D)
        tokens = torch.where(kept_tokens[..., None], sensors.tokens, absent)
        return SensorTokens(tokens=tokens, present=present, groups=self.groups)

    def _encode(self, group: TokenGroup, x: Tensor | None, text: Tensor) -> Tensor:
        absent = self.absent[group.name].expand(text.shape[0], -1, -1)
        tokens: Tensor = absent if x is None else self.encoders[group.name](x, text)
        return tokens

    def _given(self, group: TokenGroup, x: Tensor | None, text: Tensor) -> Tensor:
        """In which rows (B,) there is a reading, of something that works."""
        if x is not None and group.name == "audio":
            return is_live(x)
        return torch.full((text.shape[0],), x is not None, device=text.device)


def token_groups(steps: Mapping[str, tuple[int, ...]], encoders: Mapping[str, Any]) -> tuple[TokenGroup, ...]:
    """The groups of `encoders`, whose histories are `steps`. An audio encoder reads its history as one window ending now."""
    return tuple(TokenGroup(name, (0,) if name == "audio" else steps[name], encoder.tokens_per_step) for name, encoder in encoders.items())
