"""Arrays as pictures in a page: a perceptually uniform heat scale, touch in it, and data URIs."""

import base64
import functools
import io
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FULL_PRESSURE: Final = 150.0  # [kPa], the brightest; a firm grasp of something hard
_LEVELS: Final = 256

# Rows: OKLab (L, a, b) to the cube roots of cone responses; cone responses to linear sRGB.
# Source: B. Ottosson, "A perceptual color space for image processing" (2020).
_OKLAB_TO_ROOTS: Final = np.array(
    [[1.0, 0.3963377774, 0.2158037573], [1.0, -0.1055613458, -0.0638541728], [1.0, -0.0894841775, -1.2914855480]]
)
_CONES_TO_RGB: Final = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def heat(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Values in [0, 1], any shape -> (..., 3) from near black over violet and orange to light yellow; others are clipped.

    Equal steps of the value are equal steps of perceived colour: a curve through OKLab with rising lightness, walked by arc length.
    """
    return _scale()[np.rint(np.clip(values, 0.0, 1.0) * (_LEVELS - 1)).astype(int)]


@functools.cache
def _scale() -> NDArray[np.uint8]:
    """(256, 3)"""
    curve = heat_curve(np.linspace(0.0, 1.0, 4096))
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    even = np.interp(np.linspace(0.0, length[-1], _LEVELS), length, np.linspace(0.0, 1.0, len(length)))
    return np.asarray(np.rint(oklab_to_srgb(heat_curve(even)) * 255.0), np.uint8)


def heat_curve(place: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The curve (N, 3) in OKLab at places (N,) in [0, 1]: lightness rises evenly, hue turns from violet over red to yellow."""
    hue = np.deg2rad(295.0 + 170.0 * place)
    chroma = 0.03 + 0.12 * np.sin(np.pi * np.clip(place, 0.0, 1.0)) ** 0.8 + 0.06 * place
    return np.stack([0.13 + 0.82 * place, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)


def oklab_to_srgb(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3) OKLab -> sRGB in [0, 1]; colours that a screen cannot show are clipped."""
    linear = np.clip((lab @ _OKLAB_TO_ROOTS.T) ** 3 @ _CONES_TO_RGB.T, 0.0, 1.0)
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


def heat_css(stops: int = 9) -> str:
    """The scale as the colours of a CSS gradient."""
    return ", ".join(f"rgb({red} {green} {blue})" for red, green, blue in heat(np.linspace(0.0, 1.0, stops)).tolist())


def pads(pressure: NDArray[Any]) -> list[NDArray[np.uint8]]:
    """Normal pressure (2, rows, columns) [kPa] -> left and right pad as (rows, columns, 3), fingertip below.

    Brightness is the square root: a light touch shows, and the middle of a firm one still differs from its rim.
    """
    return list(heat(np.sqrt(np.maximum(pressure, 0.0) / FULL_PRESSURE)))


def png_uri(image: NDArray[np.uint8]) -> str:
    """(H, W, 3) as a lossless data URI."""
    return _uri(image, "png")


def jpeg_uri(image: NDArray[np.uint8]) -> str:
    """(H, W, 3) as a small data URI."""
    return _uri(image, "jpeg")


def _uri(image: NDArray[np.uint8], kind: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind.upper(), quality=82)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()
