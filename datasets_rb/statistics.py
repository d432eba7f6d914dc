"""Statistics of one episode, in LeRobot's shapes, by NumPy alone so that workers need no torch. T time, D width."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from handsight.datasets_rb.schema import WHOLE_KEYS

QUANTILES: Final = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
"""The names LeRobot stores (lerobot/datasets/compute_stats.py)."""
IMAGE_STRIDE: Final = 4  # frames; neighbouring frames at 20 Hz are nearly equal
WIDEST: Final = 64  # numbers in a column that still gets a statistic for each of them

Statistics = dict[str, NDArray[Any]]


def image_statistics(images: NDArray[np.uint8], stride: int = IMAGE_STRIDE) -> Statistics:
    """images (T, H, W, 3) -> per channel (3, 1, 1) in [0, 1]; exact on every `stride`-th frame, from 256-bin histograms."""
    sample = images[::stride]
    counts = np.stack([np.bincount(sample[..., channel].ravel(), minlength=256) for channel in range(3)])  # (3, 256)
    levels = np.arange(256) / 255.0
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ levels
    variance = share @ levels**2 - mean**2
    values = {
        "min": levels[(counts > 0).argmax(axis=1)],
        "max": levels[255 - (counts[:, ::-1] > 0).argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(variance, 0.0)),
    }
    cumulative = share.cumsum(axis=1)
    for name, q in QUANTILES.items():
        values[name] = levels[(cumulative >= q - 1e-12).argmax(axis=1)]
    return {**{name: value.reshape(3, 1, 1) for name, value in values.items()}, "count": np.array([len(sample)])}


def column_statistics(key: str, column: NDArray[Any]) -> Statistics:
    """column (T,) or (T, D) -> (1,) or (D,) each; the keys in WHOLE_KEYS and wide ones as a whole, so (1,). `count`: frames."""
    whole = column.ndim == 1 or key in WHOLE_KEYS or column.shape[1] > WIDEST
    rows = column.reshape(-1, 1) if whole else column
    rows = rows.astype(np.float64)
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0)
    return {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        **dict(zip(QUANTILES, quantiles, strict=True)),
        "count": np.array([len(column)]),
    }
