"""The sensors against what we did not write: Hertz's contact, a blind estimator of modes, OpenCV's projection."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from handsight.envs.env import HandsightEnv, make
from handsight.envs.observe import Camera, View
from handsight.envs.pinhole import Pinhole
from handsight.envs.proofs import SIDE
from handsight.envs.validate_sound import modal_table, strike_table
from handsight.envs.validate_touch import hertz_table
from handsight.sensors.types import Sensor

CAMERAS: Final = ("front", "wrist")
DRAWN: Final = "sense/tabletop_grasp"  # has spheres to compare pictures with
POINTS: Final = 200  # of the workspace a camera
LOW: Final = (0.3, -0.3, 0.0)  # where they lie [m], from
HIGH: Final = (0.7, 0.3, 0.3)  # to
LEAST: Final = 20  # pixels of a sphere whose centre is taken
SCENES: Final = 12


@dataclass(frozen=True)
class ProjectionRow:
    """How far apart two ideas of where a point appears are."""

    task: str
    camera: str
    against: str
    points: int
    error: float
    """Largest distance [pixel]."""


def projection_table(tasks: Sequence[str], seed: int) -> list[ProjectionRow]:
    """Ours against OpenCV's in every task and camera; OpenCV's against where the renderer draws spheres."""
    rows = []
    for task in tasks:
        env = make(task, sensors=Sensor.STATE)
        env.reset(seed=seed)
        rows += [_against_ours(env, camera, np.random.default_rng(seed)) for camera in CAMERAS]
        env.close()
    env = make(DRAWN, sensors=Sensor.STATE)
    rows += [_against_drawn(env, camera, seed) for camera in CAMERAS]
    env.close()
    return rows


def opencv(pinhole: Pinhole, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """OpenCV's projection of points (N, 3) [m] to (N, 2) [pixel]."""
    turn, _ = cv2.Rodrigues(pinhole.rotation)
    pixels, _ = cv2.projectPoints(points, turn, pinhole.translation, pinhole.matrix, None)
    return np.asarray(pixels[:, 0])


def _against_ours(env: HandsightEnv, camera: str, rng: np.random.Generator) -> ProjectionRow:
    pinhole = Pinhole.of(env.world, camera, SIDE)
    points = rng.uniform(LOW, HIGH, (POINTS, 3))
    found = pinhole.project(points)
    ahead = ~np.isnan(found[:, 0])
    error = np.linalg.norm(found[ahead] - opencv(pinhole, points[ahead]), axis=1).max()
    return ProjectionRow(env.task.name, camera, "envs/pinhole.py", int(ahead.sum()), float(error))


def _against_drawn(env: HandsightEnv, camera: str, seed: int) -> ProjectionRow:
    """The centre of a small sphere appears, to well under a pixel, at the mean of its pixels."""
    picture, errors = Camera(env.world, View(SIDE, SIDE)), []
    for scene in range(seed, seed + SCENES):
        env.reset(seed=scene)
        for body, pixels in _spheres(env, picture, camera):
            expected = opencv(Pinhole.of(env.world, camera, SIDE), env.world.position(body)[None])[0]
            errors.append(float(np.linalg.norm(pixels.mean(axis=0) - expected)))
    picture.close()
    return ProjectionRow(env.task.name, camera, "rendered spheres", len(errors), max(errors))


def _spheres(env: HandsightEnv, picture: Camera, camera: str) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Bodies that are spheres and wholly inside the picture, each with its pixels (N, 2), columns and rows, if nothing stood before it."""
    alpha = env.world.model.geom_rgba[:, 3]
    before = alpha.copy()
    for body in [name for name, words in env.setup.objects.items() if words.shape == "sphere"]:
        geom = env.world.model.geom(f"{body}_sphere").id
        alpha[:] = 0.0
        alpha[geom] = 1.0
        rows, columns = np.nonzero(picture.segmentation(camera) == geom)
        alpha[:] = before
        if len(rows) > LEAST and min(rows.min(), columns.min()) > 0 and max(rows.max(), columns.max()) < SIDE - 1:
            yield body, np.stack([columns, rows], axis=1)


def measure(tasks: Sequence[str], seed: int) -> dict[str, Any]:
    """All three validations as rows for a result file."""
    hertz = [asdict(row) | {"peak_error": row.peak_error, "contact_error": row.contact_error} for row in hertz_table()]
    return {
        "touch": hertz,
        "sound": [asdict(row) for row in modal_table()],
        "strikes": [asdict(row) for row in strike_table()],
        "cameras": [asdict(row) for row in projection_table(tasks, seed)],
    }


def table(measured: dict[str, Any]) -> str:
    """The largest errors in Markdown; every row is in the result file."""

    def largest(rows: Sequence[dict[str, Any]], key: str) -> float:
        return max((abs(float(row[key])) for row in rows), default=float("nan"))

    def cameras(against: str) -> list[dict[str, Any]]:
        return [row for row in measured["cameras"] if row["against"] == against]

    touch, sound, strikes = measured["touch"], measured["sound"], measured["strikes"]
    ours, drawn = cameras("envs/pinhole.py"), cameras("rendered spheres")
    lines = [
        ("touch: peak pressure", "Hertz, sphere between plane pads", len(touch), f"{largest(touch, 'peak_error'):.1%}"),
        ("touch: contact radius", "Hertz, sphere between plane pads", len(touch), f"{largest(touch, 'contact_error'):.1%}"),
        ("sound: mode frequency", "matrix pencil on the signal", len(sound), f"{largest(sound, 'frequency_error'):.1e}"),
        ("sound: mode decay", "matrix pencil on the signal", len(sound), f"{largest(sound, 'decay_error'):.1e}"),
        ("sound: level after a strike", "integrated oscillators", len(strikes), f"{largest(strikes, 'level_error_db'):.2f} dB"),
        ("cameras: our projection", "OpenCV, every task", sum(row["points"] for row in ours), f"{largest(ours, 'error'):.1e} px"),
        ("cameras: rendered spheres", "OpenCV", sum(row["points"] for row in drawn), f"{largest(drawn, 'error'):.2f} px"),
    ]
    head = ["| sensor | against | cases | largest error |", "|---|---|---|---|"]
    return "\n".join(head + [f"| {' | '.join(map(str, line))} |" for line in lines])
