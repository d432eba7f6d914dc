"""Sound in a batch: int16 columns to float, and log-mel spectrograms by torch.stft. B batch, S samples.

sensors/pcm.py is the NumPy side.
"""

import math
from typing import Final

import torch
from torch import Tensor, nn

from handsight.sensors.pcm import PCM_SCALE
from handsight.sensors.types import AUDIO_RATE

BANDS: Final = 64
WINDOW: Final = 512  # samples, 32 ms; 31 Hz a bin, so that the narrowest band (58 Hz) still holds one
HOP: Final = 160  # samples, 10 ms; five frames a control step
LOWEST: Final = 60.0  # [Hz]
POWER_FLOOR: Final = 1.0e-10  # -100 dB, at about the quantisation noise of 16 bits
FLOOR_DB: Final = 10.0 * math.log10(POWER_FLOOR)
CENTRE_DB: Final = -70.0  # is 0 in the output
SCALE_DB: Final = 30.0  # is 1 in the output


def int16_to_tensor(samples: Tensor) -> Tensor:
    """int16 samples, any shape -> float32 in [-1, 1], bit-equal to sensors/pcm.py."""
    if samples.dtype != torch.int16:
        raise ValueError(f"expected int16 samples, got {samples.dtype}; floats need no conversion")
    return samples.to(torch.float32) / PCM_SCALE


def is_live(sound: Tensor) -> Tensor:
    """Of which rows (B,) of sound (B, T, N) there is any: a microphone hears at least its own noise, one of exact zeros is dead."""
    return sound.flatten(1).ne(0).any(dim=1)


def mel_filterbank(bands: int = BANDS, transform: int = WINDOW, rate: int = AUDIO_RATE, lowest: float = LOWEST) -> Tensor:
    """(bands, transform / 2 + 1) triangles of height 1, their corners equally spaced from `lowest` to rate / 2 on the mel scale.

    mel = 2595 log10(1 + f / 700) (O'Shaughnessy 1987, "HTK").

    Raises:
        ValueError: a band is so narrow that no bin falls into it.
    """
    low, high = (2595.0 * math.log10(1.0 + frequency / 700.0) for frequency in (lowest, rate / 2))
    mels = torch.linspace(low, high, bands + 2, dtype=torch.float64)
    corners = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)  # [Hz]
    bins = torch.arange(transform // 2 + 1, dtype=torch.float64) * rate / transform
    left, centre, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bank = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp_min(0.0)
    if not bool((bank.sum(dim=1) > 0).all()):
        raise ValueError(f"expected every mel band to hold a bin, got an empty one of {bands}; use fewer bands or a longer transform")
    return bank.to(torch.float32)


class LogMel(nn.Module):
    """Log-mel spectrogram: (B, S) sound in [-1, 1] -> (B, 64, S / 160), oldest frame first; 100 frames a second.

    Power is relative to a full-scale sine (0 dB in its bin at an amplitude of 1), the output is (dB + 70) / 30: silence -1, full scale
    about 2. Fixed, not learned from data: a loudness statistic would follow the noise. Always float32, also under autocast.
    """

    window: Tensor
    bank: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Not persistent: constants of the code do not belong in a checkpoint.
        self.register_buffer("window", torch.hann_window(WINDOW) * (2.0 / (WINDOW / 2)), persistent=False)  # a sine of 1 has power 1
        with torch.device("cpu"):  # values that are checked, also while a model is laid out on the meta device
            bank = mel_filterbank()
        self.register_buffer("bank", bank, persistent=False)

    def forward(self, sound: Tensor) -> Tensor:
        with torch.autocast(sound.device.type, enabled=False):
            spectrum = torch.stft(
                sound.to(torch.float32), WINDOW, HOP, window=self.window, center=True, pad_mode="constant", return_complex=True
            )
            parts = torch.view_as_real(spectrum)  # (B, bins, S / 160 + 1, 2)
            # Ten times faster than a sum over the last axis of length 2, on a CPU.
            power = torch.addcmul(parts[..., 0].square(), parts[..., 1], parts[..., 1])
            mel = self.bank @ power[..., : sound.shape[-1] // HOP]  # the frame centred on the end would be half empty
            # In units of the floor: the exporter to ONNX takes a sum with 1e-10 for one with 0, and silence for -inf.
            return (10.0 * torch.log10(mel / POWER_FLOOR + 1.0) + FLOOR_DB - CENTRE_DB) / SCALE_DB
