"""A filmed episode over time, as a page shows it: moments of scene and touch, pressure, the expert's phases, the spectrogram.

Everything shares one axis: from 0 to 100% of the video's length; frame i of T lies between i / T and (i + 1) / T. T frames.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from handsight.launch.film import Senses
from handsight.launch.pictures import heat, jpeg_uri, pads, png_uri
from handsight.sensors.pcm import int16_to_float
from handsight.sensors.types import AUDIO_RATE

MOMENTS: Final = 6
LOUDEST_DB: Final = -20.0  # is the brightest of a spectrogram; the darkest is the floor of the log-mel features, -100 dB
MARKED_HZ: Final = (250, 1000, 4000)
MOST_TICKS: Final = 8
TICK_SECONDS: Final = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
CURVE_HEIGHT: Final = 10.0  # of one pad's pressure curve; both are drawn back to back, 100 wide


@dataclass(frozen=True)
class Mark:
    """A label at a place of an axis [%]."""

    place: float
    label: str


@dataclass(frozen=True)
class Moment:
    """What one frame showed and what both pads felt, `pressure` [kPa] at most; pictures are data URIs."""

    seconds: float
    scene: str
    pads: list[str]
    pressure: float


@dataclass(frozen=True)
class Span:
    """What went on from `start` for `width` [% of the video]."""

    name: str
    start: float
    width: float


@dataclass(frozen=True)
class Timeline:
    """All that is drawn below a video; what was not sensed is empty."""

    seconds: float
    aspect: float
    """Width by height of the view of the scene."""
    poster: str
    """The last frame, which tells how it went: what is shown until the video plays."""
    ticks: list[Mark]
    moments: list[Moment]
    pressure: list[str]
    """SVG outlines in a box of 100 x 20: the left pad's rises from the middle, the right pad's hangs from it; full height is `peak`."""
    peak: float
    """Highest pressure of the episode [kPa]."""
    phases: list[Span]
    told: list[Span]
    """The instructions, if there was more than one."""
    spectrogram: str
    """Data URI; low frequencies below."""
    heard: float
    """Share of the axis that the spectrogram covers [%]."""
    bands: list[Mark]
    """Frequencies, from the top of the spectrogram."""


def read_timeline(video: Path, senses: Senses) -> Timeline:
    """Draws everything from the files of one filmed episode."""
    frames = list(read_frames(video))
    length = len(frames) / senses.fps
    told = spans(senses.instructions.tolist())
    peaks = senses.pressure.max(axis=(2, 3)).astype(float)  # (T, 2)
    felt = peaks.max(axis=1) if len(peaks) else np.zeros(len(frames))
    peak = float(felt.max())
    return Timeline(
        seconds=length,
        aspect=senses.view[1] / senses.view[0],
        poster=jpeg_uri(frames[-1]),
        ticks=ticks(length),
        moments=[_moment(index, frames[index], senses) for index in moments(felt)],
        pressure=[outline(sign * curve / peak) for sign, curve in zip((1.0, -1.0), peaks.T, strict=True)] if peak > 0 else [],
        peak=peak,
        phases=spans([phase.replace("_", " ") for phase in senses.phases.tolist()]),
        told=told if len(told) > 1 else [],
        spectrogram=png_uri(spectrogram(int16_to_float(senses.sound))) if len(senses.sound) else "",
        heard=100.0 * len(senses.sound) / AUDIO_RATE / length,
        bands=bands(),
    )


def read_frames(video: Path) -> Iterator[NDArray[np.uint8]]:
    """(H, W, 3) each."""
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def moments(pressure: NDArray[np.float64], count: int = MOMENTS) -> list[int]:
    """One frame of every `count`-th of the episode: the one with the highest pressure (T,), or the middle one where nothing is touched.

    The last is the end of the episode, which tells how it went.
    """
    parts = [part for part in np.array_split(np.arange(len(pressure)), count) if len(part)]
    felt = [part[np.argmax(pressure[part])] if pressure[part].max() > 0 else part[len(part) // 2] for part in parts]
    return [int(index) for index in felt[:-1]] + [len(pressure) - 1]


def _moment(index: int, frame: NDArray[np.uint8], senses: Senses) -> Moment:
    felt = senses.pressure[index] if len(senses.pressure) else np.zeros((0, 1, 1))
    pictures = [png_uri(pad) for pad in pads(felt)]
    height, width = senses.view
    return Moment(index / senses.fps, jpeg_uri(frame[:height, :width]), pictures, float(felt.max(initial=0.0)))


def outline(curve: NDArray[np.float64]) -> str:
    """An SVG area between the middle of the box and T values in [-1, 1], each held for a frame."""
    edges = np.linspace(0.0, 100.0, len(curve) + 1)
    heights = CURVE_HEIGHT * (1.0 - curve)
    steps = " ".join(f"V{height:.2f} H{edge:.2f}" for height, edge in zip(heights, edges[1:], strict=True))
    return f"M0 {CURVE_HEIGHT:g} {steps} V{CURVE_HEIGHT:g} Z"


def spans(names: list[str]) -> list[Span]:
    """Runs of equal names."""
    found, start = [], 0
    for name, run in itertools.groupby(names):
        width = len(list(run))
        found.append(Span(name, 100.0 * start / len(names), 100.0 * width / len(names)))
        start += width
    return found


def ticks(seconds: float) -> list[Mark]:
    """Round times, at most MOST_TICKS; none so close to the end that its label would stick out."""
    step = next((step for step in TICK_SECONDS if seconds / step < MOST_TICKS), TICK_SECONDS[-1])
    return [Mark(100.0 * time / seconds, f"{time:g} s") for time in np.arange(0.0, 0.95 * seconds, step).tolist()]


def spectrogram(sound: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Sound (S,) -> (64, S / 160, 3): the log-mel features that policies get, as heat, high frequencies above."""
    import torch  # here, so that a scripted rollout without films never loads it

    from handsight.sensors.audio import CENTRE_DB, FLOOR_DB, SCALE_DB, LogMel

    features = LogMel()(torch.from_numpy(sound)[None])[0].numpy()
    return heat((features[::-1] * SCALE_DB + CENTRE_DB - FLOOR_DB) / (LOUDEST_DB - FLOOR_DB))


def bands() -> list[Mark]:
    """Where MARKED_HZ lie in a spectrogram."""
    from handsight.sensors.audio import BANDS, LOWEST

    low, high = _mel(LOWEST), _mel(AUDIO_RATE / 2)
    # band b is centred at the share (b + 1) / (BANDS + 1) of the mel axis, and its row b + 1/2 rows above the bottom
    rows = {hertz: (_mel(hertz) - low) / (high - low) * (BANDS + 1) - 0.5 for hertz in MARKED_HZ}
    return [Mark(100.0 * (1.0 - row / BANDS), f"{hertz / 1000:g} kHz" if hertz >= 1000 else f"{hertz} Hz") for hertz, row in rows.items()]


def _mel(hertz: float) -> float:
    return float(2595.0 * np.log10(1.0 + hertz / 700.0))
