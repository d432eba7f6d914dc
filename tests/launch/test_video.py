"""Films: what a frame shows, sound in step with the picture, files that are complete or absent, and the pictures of a page."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from handsight.envs.pool import Attributes, Transition
from handsight.launch import pictures, timeline
from handsight.launch.film import SENSES_SUFFIX, FilmWriter, Senses
from handsight.launch.gif import EVERY, LINE, WIDTH, write_gif
from handsight.launch.video import VideoWriter, compose
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import AUDIO, AUDIO_RATE, AUDIO_STEP, FRONT, TOUCH, TOUCH_SHAPE, Observation

FPS = 20
VIEW = np.full((240, 320, 3), 200, np.uint8)


def observe(pressure: float = 0.0, sound: float = 0.0) -> Observation:
    touch = np.zeros(TOUCH_SHAPE, np.float32)
    touch[1, 0] = pressure
    front = np.full((32, 32, 3), 100, np.uint8)
    return {FRONT: front, TOUCH: touch, AUDIO: np.full(AUDIO_STEP, sound, np.float32)}


def film(path: Path, observations: list[Observation], phases: list[str] | None = None, finish: bool = True) -> Path:
    shapes = {key: value.shape for key, value in observations[0].items()}
    attributes = Attributes(shapes, np.zeros(7, np.float32), np.ones(7, np.float32), 100, FPS)
    writer = FilmWriter(path, attributes)
    for index, observation in enumerate(observations):
        phase = phases[index] if phases else ""
        writer.add(Transition(0, observation, "take it", 0.0, False, False, False, False, False, VIEW, None, phase))
    writer.finish() if finish else writer.discard()
    return path


def test_frames_show_the_view_both_cameras_and_both_pads() -> None:
    frame = compose(VIEW, observe(pressure=pictures.FULL_PRESSURE))
    assert frame.shape == (240, 560, 3)
    places = {"scene": (10, 10), "front": (60, 380), "wrist, which is missing": (180, 380), "left pad": (60, 500), "right pad": (180, 500)}
    colors = {name: tuple(frame[place].tolist()) for name, place in places.items()}
    nothing, full = (tuple(pictures.heat(np.array(value)).tolist()) for value in (0.0, 1.0))
    assert list(colors.values()) == [(200,) * 3, (100,) * 3, (0,) * 3, nothing, full]
    without_touch = {key: value for key, value in observe().items() if key != TOUCH}
    assert compose(VIEW, without_touch).shape == (240, 440, 3)


def test_videos_are_complete_or_absent_and_play_before_they_are_loaded(tmp_path: Path) -> None:
    frame = compose(VIEW, observe())
    with VideoWriter(tmp_path / "a.mp4", FPS) as video:
        for _ in range(5):
            video.add(frame)
        assert not (tmp_path / "a.mp4").exists()
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt, stream.frames) == ("h264", "yuv420p", 5)
        decoded = next(container.decode(stream)).to_ndarray(format="rgb24")
    assert np.abs(decoded.astype(int) - frame).mean() < 3
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    for count in (1, 2):
        film(tmp_path / "b.mp4", [observe()] * count, finish=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("count", [2, 3, 40])
def test_the_sound_of_a_step_is_heard_with_the_frame_before_it(tmp_path: Path, count: int) -> None:
    """A tone in the 50 ms that led to the last observation, and therefore before its frame."""
    observations = [observe() for _ in range(count)]
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(AUDIO_STEP) / AUDIO_RATE).astype(np.float32)
    observations[-1][AUDIO] = tone
    path = film(tmp_path / "a.mp4", observations)
    with av.open(str(path)) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    loud = np.flatnonzero(np.abs(heard) > 0.25) / AUDIO_RATE
    assert loud.min() == pytest.approx((count - 2) / FPS, abs=0.02)
    assert loud.max() == pytest.approx((count - 1) / FPS, abs=0.02)
    sound = Senses.load(path.with_suffix(".npz")).sound
    assert len(sound) == (count - 1) * AUDIO_STEP
    assert np.abs(sound[-AUDIO_STEP:] / 32767 - tone).max() < 2e-5


def test_an_episode_of_one_frame_is_silent(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [observe(sound=0.5)])
    line = timeline.read_timeline(path, Senses.load(path.with_suffix(".npz")))
    assert (len(line.moments), line.spectrogram, line.seconds) == (1, "", 1 / FPS)


def test_senses_survive_the_disk_and_damage_is_one_line(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [observe(pressure=3.0), observe(pressure=80.0)], ["reach", "squeeze"])
    senses = Senses.load(path.with_suffix(".npz"))
    assert (senses.fps, senses.view) == (FPS, VIEW.shape[:2])
    assert senses.pressure[:, :, 0, 0].tolist() == [[0, 3], [0, 80]]
    assert senses.phases.tolist() == ["reach", "squeeze"]
    assert senses.instructions.tolist() == ["take it", "take it"]
    for content in (b"", b"PK damaged", path.with_suffix(".npz").read_bytes()[:300]):
        path.with_suffix(".npz").write_bytes(content)
        with pytest.raises(HandsightError, match="expected touch and sound of a filmed episode"):
            Senses.load(path.with_suffix(".npz"))


def test_the_heat_scale_is_even_and_fits_a_screen() -> None:
    curve = pictures.heat_curve(np.linspace(0, 1, 500))
    linear = (curve @ pictures._OKLAB_TO_ROOTS.T) ** 3 @ pictures._CONES_TO_RGB.T
    assert (linear.min(), linear.max()) == (pytest.approx(0.5, abs=0.5), pytest.approx(0.5, abs=0.5))  # nothing was clipped
    steps = np.diff(_oklab(pictures.heat(np.linspace(0, 1, 13))), axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    assert lengths.max() / lengths.min() < 1.1  # what rounding to bytes leaves
    assert np.all(steps[:, 0] > 0.03)
    assert np.array_equal(pictures.heat(np.array([-1.0, 2.0])), pictures.heat(np.array([0.0, 1.0])))


def _oklab(color: np.ndarray) -> np.ndarray:
    """(N, 3) sRGB bytes -> OKLab: the inverse of what is tested."""
    srgb = color / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.linalg.inv(pictures._CONES_TO_RGB).T
    return np.asarray(np.cbrt(cones) @ np.linalg.inv(pictures._OKLAB_TO_ROOTS).T)


def test_white_and_red_are_where_oklab_was_published() -> None:
    """Ottosson (2020), and the example of CSS Color 4: red is oklab(0.628 0.2249 0.1258)."""
    assert pictures.oklab_to_srgb(np.array([1.0, 0.0, 0.0])) == pytest.approx(1.0, abs=1e-3)
    assert pictures.oklab_to_srgb(np.array([0.62796, 0.22486, 0.12585])) == pytest.approx([1, 0, 0], abs=0.02)


def test_moments_are_those_of_strongest_touch_and_the_end() -> None:
    pressure = np.zeros(60)
    pressure[[23, 31, 57]] = 5.0, 7.0, 9.0
    assert timeline.moments(pressure) == [5, 15, 23, 31, 45, 59]
    assert timeline.moments(np.zeros(2)) == [0, 1]
    assert timeline.moments(np.zeros(1)) == [0]


def test_phases_become_spans_that_fill_the_axis() -> None:
    spans = timeline.spans(["reach", "reach", "move on", "reach"])
    assert [(span.name, span.start, span.width) for span in spans] == [("reach", 0, 50), ("move on", 50, 25), ("reach", 75, 25)]
    assert timeline.spans([]) == []


@pytest.mark.parametrize("hertz", timeline.MARKED_HZ)
def test_frequencies_are_marked_where_a_tone_shows(hertz: int) -> None:
    sound = 0.5 * np.sin(2 * np.pi * hertz * np.arange(AUDIO_RATE) / AUDIO_RATE).astype(np.float32)
    picture = timeline.spectrogram(sound)
    assert picture.shape == (64, AUDIO_RATE // 160, 3)
    brightest = int(np.argmax(picture[:, 50].sum(axis=1)))
    marks = dict(zip(timeline.MARKED_HZ, timeline.bands(), strict=True))
    assert marks[hertz].place / 100 * 64 == pytest.approx(brightest + 0.5, abs=1.5)  # low bands are narrower than a bin


def test_the_spectrogram_is_dark_for_silence_and_bright_for_what_is_loud() -> None:
    assert np.array_equal(timeline.spectrogram(np.zeros(1600, np.float32))[5, 5], pictures.heat(np.array(0.0)))
    loud = timeline.spectrogram(np.sin(2 * np.pi * 1000 * np.arange(1600) / AUDIO_RATE).astype(np.float32))
    assert (loud == pictures.heat(np.array(1.0))).all(axis=-1).any()


def test_a_timeline_of_a_film(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [observe(pressure=10.0 * step) for step in range(12)], ["reach"] * 6 + ["lift"] * 6)
    line = timeline.read_timeline(path, Senses.load(path.with_suffix(".npz")))
    assert (line.seconds, line.peak, line.aspect) == (0.6, 110.0, pytest.approx(4 / 3))
    assert [moment.pressure for moment in line.moments] == [10.0, 30.0, 50.0, 70.0, 90.0, 110.0]
    assert line.heard == pytest.approx(100 * 11 / 12)
    assert [tick.label for tick in line.ticks] == ["0 s", "0.25 s", "0.5 s"]
    assert all(uri.startswith("data:image/") for uri in (line.spectrogram, line.poster, *line.moments[0].pads))


def test_a_film_without_touch_sound_and_expert_still_has_its_moments(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [{FRONT: observe()[FRONT]}] * 8)
    line = timeline.read_timeline(path, Senses.load(path.with_suffix(".npz")))
    assert (line.spectrogram, line.pressure, line.phases, line.told, line.peak) == ("", [], [], [], 0.0)
    assert [len(moment.pads) for moment in line.moments] == [0] * 6


def test_a_gif_says_what_was_said_from_the_step_on_at_which_it_was(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [observe(100.0, 0.1)] * 20)
    out = tmp_path / "a.gif"
    write_gif(path, Senses.load(path.with_suffix(SENSES_SUFFIX)), ["step 8, T: it feels soft (true)"], out)
    with Image.open(out) as gif:
        last_lines = []
        for index in range(gif.n_frames):
            gif.seek(index)
            last_lines.append(np.asarray(gif.convert("RGB"))[-LINE:].max())
        assert gif.size[0] == WIDTH
    assert [bool(brightest > 100) for brightest in last_lines] == [step >= 8 for step in (*range(0, 19, EVERY), 19)]
