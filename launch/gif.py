"""A filmed episode as a GIF, for a README or a talk: scene, what the policy sees and feels, the spectrogram so far, and what it says."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from handsight.launch.film import Senses
from handsight.launch.timeline import read_frames, spectrogram
from handsight.sensors.pcm import int16_to_float

WIDTH: Final = 640  # [px]
SOUND, LINE, FONT = 48, 22, 14  # heights of the spectrogram, of a line of text and of its letters [px]
EVERY: Final = 2  # frames of the video for one of the GIF
COLORS: Final = 96
LINGER_MS: Final = 1500  # on the last frame
_SAID: Final = re.compile(r"step (?P<step>\d+), (?P<sentence>\w+: .*)")  # a line of launch/narrate.py


def write_gif(video: Path, senses: Senses, said: Sequence[str], out: Path) -> None:
    """Writes `out`.

    Args:
        video: of the episode.
        senses: what was kept beside it.
        said: what the policy said, as `EpisodeResult.said` has it.
    """
    frames = list(read_frames(video))
    strip = _strip(senses)
    sentences = [(int(match["step"]), match["sentence"]) for match in map(_SAID.match, said) if match]
    pictures = []
    for index in (*range(0, len(frames) - 1, EVERY), len(frames) - 1):
        spoken = [sentence for step, sentence in sentences if step <= index]
        texts = [str(senses.instructions[index]), *([spoken[-1]] if spoken else [""] if sentences else [])]
        pictures.append(_page(frames[index], strip, (index + 1) / len(frames), texts))
    # One palette for all, from a moment in the middle and the end: colours must not flicker.
    palette = Image.fromarray(np.concatenate([np.asarray(pictures[len(pictures) // 2]), np.asarray(pictures[-1])])).quantize(COLORS)
    first, *rest = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    durations = [EVERY * 1000 // senses.fps] * len(rest) + [LINGER_MS]
    first.save(out, save_all=True, append_images=rest, duration=durations, loop=0, optimize=True)


def _strip(senses: Senses) -> NDArray[np.uint8] | None:
    """The spectrogram of the whole episode, (SOUND, WIDTH, 3)."""
    if not len(senses.sound):
        return None
    picture = Image.fromarray(spectrogram(int16_to_float(senses.sound)))
    return np.asarray(picture.resize((WIDTH, SOUND), Image.Resampling.BILINEAR))


def _page(frame: NDArray[np.uint8], strip: NDArray[np.uint8] | None, share: float, texts: Sequence[str]) -> Image.Image:
    """A frame, below it the first `share` of the spectrogram, below that a line for each text."""
    height = round(frame.shape[0] * WIDTH / frame.shape[1])
    below = height + (0 if strip is None else SOUND)
    page = Image.new("RGB", (WIDTH, below + LINE * len(texts)))
    page.paste(Image.fromarray(frame).resize((WIDTH, height), Image.Resampling.LANCZOS))
    if strip is not None:
        page.paste(Image.fromarray(strip[:, : round(share * WIDTH)]), (0, height))
    draw = ImageDraw.Draw(page)
    for line, text in enumerate(texts):
        place = (6, below + LINE * line + (LINE - FONT) // 2 - 2)
        draw.text(place, text, fill="white" if line == 0 else "#ffd479", font=ImageFont.load_default(FONT))
    return page
