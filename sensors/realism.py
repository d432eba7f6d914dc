"""What stands between the simulated world and a robot's readings, as data: rates, delays, noise, gains. sensors/corrupt.py applies it.

A sensor reads at `rate_hz` and holds its reading in between, adds its noise, and delivers after `delay_s`. A policy looks every 50 ms, so
it gets the newest reading that is at least `delay_s` old: delays count in whole control steps, rounded up (20 ms cost one step). Sound is
a stream of 16 kHz and is delayed by samples; controls are delayed by ticks of the physics (2 ms), both rounded to the nearest.

| knob | unit | ideal | robot |
|---|---|---|---|
| front.rate_hz, wrist.rate_hz | readings per second, at most 20 | 20 | 20 |
| front.delay_s, wrist.delay_s | s | 0 | 0.05 |
| front.noise, wrist.noise | sd, grey levels of 255, each pixel and colour | 0 | 3 |
| state.rate_hz | readings per second, at most 20 | 20 | 20 |
| state.delay_s | s | 0 | 0 |
| state.noise_m | sd, m, tcp position and finger opening | 0 | 0.0001 |
| state.noise_n | sd, N, pad forces | 0 | 0.05 |
| touch.rate_hz | readings per second, at most 20 | 20 | 20 |
| touch.delay_s | s | 0 | 0.05 |
| touch.noise_kpa | sd, kPa, each taxel and component | 0 | 0.5 |
| touch.gain | half width, share of 1, each taxel, drawn per episode | 0 | 0.05 |
| audio.delay_s | s | 0 | 0.05 |
| audio.gain_db | half width, dB, drawn per episode | 6 | 6 |
| audio.snr_db | low:high or none, dB below a 1 N tap, drawn per episode | 10:30 | 10:30 |
| actuator_delay_s | s | 0 | 0.02 |

Where ROBOT comes from. Camera noise: shot noise of a full well of 7000 electrons, 255 / sqrt(7000) = 3 grey levels (the photon transfer
model of EMVA 1288). State: the Panda's data sheet gives a repeatability of 0.1 mm. Taxel noise: sensors/touch.py already counts 0.5 kPa as
the noise of a real taxel. Latencies: UMI (Chi et al., RSS 2024; example/eval_robots_config.yaml of its code) compensates 0.1 ms of the
arm's state, and 100 ms from command to motion, which holds servo lag that is simulated here anyway; 20 ms is what we leave for transport.
The other values (50 ms for a USB camera, touch and sound; gains) are plausible and not measured.
"""

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from handsight.sensors.errors import HandsightError
from handsight.sensors.types import CONTROL_HZ

Value = float | tuple[float, float] | None
MAX_DELAY: Final = 2.0  # [s] bounds what is kept of each sensor
_LEAST: Final = "least"
_MOST: Final = "most"


def _knob(default: Value, most: float = math.inf, least: float = 0.0) -> Any:
    """A field with its bounds."""
    return field(default=default, metadata={_LEAST: least, _MOST: most})


@dataclass(frozen=True)
class Timing:
    """When a sensor reads and when the reading arrives."""

    rate_hz: float = _knob(CONTROL_HZ, most=CONTROL_HZ, least=0.01)
    """Readings per second; held in between."""
    delay_s: float = _knob(0.0, most=MAX_DELAY)
    """Age at which a reading arrives [s]; whole control steps, rounded up."""


@dataclass(frozen=True)
class CameraConfig(Timing):
    """One camera."""

    noise: float = _knob(0.0, most=255.0)
    """Standard deviation on each pixel and colour [grey levels of 255]; rounding adds another 0.29."""


@dataclass(frozen=True)
class StateConfig(Timing):
    """Encoders and force gauges."""

    noise_m: float = _knob(0.0)
    """Standard deviation on tcp position and finger opening [m]."""
    noise_n: float = _knob(0.0)
    """Standard deviation on the pad forces [N], which stay at least 0."""


@dataclass(frozen=True)
class TouchConfig(Timing):
    """Both pads."""

    noise_kpa: float = _knob(0.0)
    """Standard deviation on each component of each taxel [kPa]; normal pressure stays at least 0."""
    gain: float = _knob(0.0, most=1.0)
    """Half width of each taxel's own factor around 1, drawn per episode; the same for its three components."""


@dataclass(frozen=True)
class MicrophoneConfig:
    """What differs between one episode's microphone and the next, drawn at reset, and its delay."""

    delay_s: float = _knob(0.0, most=MAX_DELAY)
    """Age at which a sample arrives [s]; whole samples. Before the first one there is silence."""
    gain_db: float = _knob(6.0)
    """Gain is uniform in +- this [dB]."""
    snr_db: tuple[float, float] | None = _knob((10.0, 30.0), least=-math.inf)
    """White noise this far [dB] below a 1 N tap (envs/sound.py), uniform; None for no noise. A blow of 5 N stands another 14 dB higher."""


@dataclass(frozen=True)
class Realism:
    """Every knob. The defaults are the ideal robot: live and exact, but for the microphone's gain and noise.

    Raises:
        HandsightError: a value is out of bounds or not finite.
    """

    front: CameraConfig = CameraConfig()
    wrist: CameraConfig = CameraConfig()
    state: StateConfig = StateConfig()
    touch: TouchConfig = TouchConfig()
    audio: MicrophoneConfig = MicrophoneConfig()
    actuator_delay_s: float = _knob(0.0, most=MAX_DELAY)
    """Time from a command to the actuators' following it [s]; whole ticks of the physics."""

    def __post_init__(self) -> None:
        limits = _limits(self)
        for name, value in self.knobs().items():
            _require(name, value, *limits[name])

    def knobs(self) -> dict[str, Value]:
        """Every knob by its dotted name, in order of declaration."""
        return {name: getattr(part, entry.name) for name, part, entry in _walk(self)}

    @classmethod
    def parse(cls, text: str) -> "Realism":
        """From the command line: a preset, knobs by name, or both: `robot,touch.noise_kpa=1.0,audio.snr_db=20:30`.

        Raises HandsightError, in one line, for anything else.
        """
        preset, *rest = text.split(",")
        words = rest if "=" not in preset else [preset, *rest]
        start = IDEAL if "=" in preset else _preset(preset.strip())
        changes = dict(_read(word, start.knobs()) for word in words)
        return start.replace(changes)

    def replace(self, changes: Mapping[str, Value]) -> "Realism":
        """Another one with these knobs, by dotted name."""
        parts: dict[str, Any] = {}
        for name, value in changes.items():
            part, dot, knob = name.partition(".")
            parts[part] = dataclasses.replace(parts.get(part, getattr(self, part)), **{knob: value}) if dot else value
        return dataclasses.replace(self, **parts)

    def __str__(self) -> str:
        """The shortest text that `parse` reads as this; equal ones have equal texts."""
        return min((_text(name, preset, self) for name, preset in PRESETS.items()), key=lambda text: text.count(","))


def _walk(realism: Realism) -> Iterator[tuple[str, Any, "dataclasses.Field[Any]"]]:
    """(dotted name, what holds it, field) of each knob."""
    for entry in dataclasses.fields(realism):
        part = getattr(realism, entry.name)
        if dataclasses.is_dataclass(part):
            yield from ((f"{entry.name}.{inner.name}", part, inner) for inner in dataclasses.fields(part))
        else:
            yield entry.name, realism, entry


def _limits(realism: Realism) -> dict[str, tuple[float, float]]:
    return {name: (entry.metadata[_LEAST], entry.metadata[_MOST]) for name, _, entry in _walk(realism)}


def _require(name: str, value: Value, least: float, most: float) -> None:
    numbers = () if value is None else value if isinstance(value, tuple) else (value,)
    if all(math.isfinite(number) and least <= number <= most for number in numbers) and list(numbers) == sorted(numbers):
        return
    bounds = "two finite numbers, the lower first" if isinstance(value, tuple) else f"a finite number of at least {least:g}"
    ceiling = "" if most == math.inf else f" and at most {most:g}"
    raise HandsightError(f"expected {name} of --env.realism to be {bounds}{ceiling}, got {_show(value)}")


def _preset(name: str) -> Realism:
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {close[0]}?" if close else "knobs are written as touch.noise_kpa=1.0"
        raise HandsightError(f"expected --env.realism to start with {' or '.join(PRESETS)} or a knob, got '{name}'; {hint}")
    return PRESETS[name]


def _read(word: str, known: Mapping[str, Value]) -> tuple[str, Value]:
    """One `name=value`."""
    name, equals, text = (part.strip() for part in word.partition("="))
    if not equals or name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}{'' if equals else '=NUMBER'}?" if close else ""
        raise HandsightError(f"expected knobs of --env.realism among {', '.join(known)}, got '{word}'{hint}")
    ranged = name == "audio.snr_db"
    if ranged and text == "none":
        return name, None
    try:
        numbers = [float(number) for number in text.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        return name, (numbers[0], numbers[0]) if ranged else numbers[0]
    if len(numbers) == 2 and ranged:
        return name, (numbers[0], numbers[1])
    raise HandsightError(f"expected {name}={'LOW:HIGH or none' if ranged else 'NUMBER'} in --env.realism, got '{word}'")


def _show(value: Value) -> str:
    if value is None:
        return "none"
    return ":".join(repr(float(number)) for number in value) if isinstance(value, tuple) else repr(float(value))


def _text(name: str, preset: Realism, realism: Realism) -> str:
    """`realism` as a preset and what differs from it."""
    usual = preset.knobs()
    changes = [f"{knob}={_show(value)}" for knob, value in realism.knobs().items() if value != usual[knob]]
    return ",".join([name, *changes])


IDEAL: Final = Realism()
_USB_CAMERA: Final = CameraConfig(delay_s=0.05, noise=3.0)
ROBOT: Final = Realism(
    front=_USB_CAMERA,
    wrist=_USB_CAMERA,
    state=StateConfig(noise_m=1.0e-4, noise_n=0.05),
    touch=TouchConfig(delay_s=0.05, noise_kpa=0.5, gain=0.05),
    audio=MicrophoneConfig(delay_s=0.05),
    actuator_delay_s=0.02,
)
PRESETS: Final = {"ideal": IDEAL, "robot": ROBOT}
