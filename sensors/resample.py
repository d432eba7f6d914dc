"""Sound at another sample rate, by a polyphase filter. NumPy only. S samples.

    y[m] = U sum_n x[n] h[m D - n U],  U / D = target / source in lowest terms

h is a sinc with its zeros at the slower of the two rates, under a Kaiser window, with sum 1 (Crochiere and Rabiner 1983, "Multirate Digital
Signal Processing", chapter 4). Whatever lies above half the slower rate is removed; there is silence before and after the samples.
"""

import math
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

ZEROS: Final = 32
"""Zero crossings on each side: 44.1 to 16 kHz is flat to 7.3 kHz, and what would be mirrored from beyond 8.7 kHz is 90 dB down."""
BETA: Final = 9.0  # of the Kaiser window


def resample(samples: NDArray[np.floating[Any]], source: int, target: int) -> NDArray[np.float64]:
    """(..., S) at `source` [Hz] -> (..., ceil(S target / source)) at `target` [Hz]; the first samples coincide.

    Raises:
        ValueError: a rate below 1 Hz.
    """
    if source < 1 or target < 1:
        raise ValueError(f"expected sample rates of at least 1 Hz, got {source} and {target}")
    signal = np.asarray(samples, dtype=np.float64)
    divisor = math.gcd(source, target)
    up, down = target // divisor, source // divisor
    if up == down:
        return signal
    bank, reach = _bank(up, down)
    length = signal.shape[-1]
    blocks = -(-length // down)
    padding = [(0, 0)] * (signal.ndim - 1) + [(reach, blocks * down - length + reach)]
    windows = sliding_window_view(np.pad(signal, padding), down + 2 * reach, axis=-1)[..., ::down, :]  # (..., blocks, window)
    resampled = windows @ bank.T  # (..., blocks, up)
    return np.asarray(resampled.reshape(*signal.shape[:-1], blocks * up)[..., : -(-length * up // down)])


def lowpass(up: int, down: int) -> NDArray[np.float64]:
    """h of the formula above: odd length, symmetric, sum 1."""
    spacing = max(up, down)  # between zeros, in samples at U times the source rate
    steps = np.arange(-ZEROS * spacing, ZEROS * spacing + 1)
    taps = np.sinc(steps / spacing) * np.kaiser(len(steps), BETA)
    return np.asarray(taps / taps.sum())


@cache
def _bank(up: int, down: int) -> tuple[NDArray[np.float64], int]:
    """((up, down + 2 reach) weights of the samples around one block of `down` samples for the `up` samples made of it, reach)."""
    taps = lowpass(up, down)
    half = len(taps) // 2
    reach = -(-half // up)  # samples that a tap can be away from the block
    lag = np.arange(up)[:, None] * down - (np.arange(down + 2 * reach) - reach) * up  # m D - n U
    inside = np.abs(lag) <= half
    return np.where(inside, up * taps[np.where(inside, lag + half, 0)], 0.0), reach
