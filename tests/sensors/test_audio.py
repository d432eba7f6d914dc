"""The log-mel spectrogram against formulas written another way."""

import numpy as np
import pytest
import torch

from handsight.sensors.audio import LogMel, int16_to_tensor, mel_filterbank
from handsight.sensors.pcm import int16_to_float


def slow_filterbank() -> np.ndarray:
    """Triangle by triangle, bin by bin."""

    def mel(frequency: float) -> float:
        return 1127.01048 * np.log(1 + frequency / 700)

    def hertz(mels: float) -> float:
        return 700 * (np.exp(mels / 1127.01048) - 1)

    corners = [hertz(m) for m in np.linspace(mel(60), mel(8000), 66)]
    bank = np.zeros((64, 257))
    for band in range(64):
        for index in range(257):
            frequency = index * 31.25
            left, centre, right = corners[band : band + 3]
            if left < frequency <= centre:
                bank[band, index] = (frequency - left) / (centre - left)
            elif centre < frequency < right:
                bank[band, index] = (right - frequency) / (right - centre)
    return bank


def sine(frequency: float, amplitude: float = 1.0, samples: int = 16_000) -> torch.Tensor:
    return amplitude * torch.sin(2 * torch.pi * frequency * torch.arange(samples, dtype=torch.float64) / 16_000).float()


def test_filterbank_against_a_slow_one() -> None:
    np.testing.assert_allclose(mel_filterbank().numpy(), slow_filterbank(), atol=1e-5)


def test_too_narrow_bands_are_named() -> None:
    with pytest.raises(ValueError, match="fewer bands"):
        mel_filterbank(bands=128, transform=256)


def test_spectrogram_against_numpy() -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 1600)
    padded = np.concatenate([np.zeros(256), sound, np.zeros(256)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    frames = np.stack([padded[160 * k : 160 * k + 512] * window for k in range(10)])
    power = np.abs(np.fft.rfft(frames, axis=1) / (window.sum() / 2)) ** 2
    expected = (10 * np.log10(slow_filterbank() @ power.T + 1e-10) + 70) / 30
    np.testing.assert_allclose(LogMel()(torch.from_numpy(sound).float()[None])[0].numpy(), expected, atol=1e-4)


def test_shape_and_silence() -> None:
    mel = LogMel()(torch.zeros(3, 16_000))
    assert mel.shape == (3, 64, 100)
    torch.testing.assert_close(mel, torch.full((3, 64, 100), -1.0))
    assert LogMel()(torch.zeros(1, 800)).shape == (1, 64, 5)
    assert not LogMel().state_dict()  # nothing of it enters a checkpoint


@pytest.mark.parametrize("frequency", [200.0, 880.0, 1450.0, 4000.0])
def test_a_sine_lights_its_band_at_its_level(frequency: float) -> None:
    mel = LogMel()(torch.stack([sine(frequency), sine(frequency, 0.1)]))[..., 50]
    assert abs(mel[0].argmax() - mel_filterbank()[:, round(frequency / 31.25)].argmax()) <= 1  # the window leaks into wider neighbours
    torch.testing.assert_close((mel[0] - mel[1]).max(), torch.tensor(20 / 30), atol=1e-3, rtol=0)  # a tenth is 20 dB less


def test_a_click_lights_only_its_frames() -> None:
    sound = torch.zeros(1, 16_000)
    sound[0, 8000] = 1.0
    lit = LogMel()(sound)[0].amax(dim=0) > -0.99
    assert lit.nonzero().squeeze(1).tolist() == [49, 50, 51]


def test_float32_under_autocast_and_differentiable() -> None:
    sound = sine(440)[None].requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mel = LogMel()(sound)
    assert mel.dtype == torch.float32
    mel.sum().backward()
    assert sound.grad is not None
    assert torch.isfinite(sound.grad).all()


def test_int16_equals_numpy() -> None:
    every = np.arange(-32_767, 32_768, dtype=np.int16)
    np.testing.assert_array_equal(int16_to_tensor(torch.from_numpy(every)).numpy(), int16_to_float(every))
    with pytest.raises(ValueError, match="int16"):
        int16_to_tensor(torch.zeros(3))
