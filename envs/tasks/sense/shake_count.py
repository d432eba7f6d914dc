"""Pick the closed box that is empty, that holds a single bead or that holds many; only shaking it tells."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from handsight.envs.tasks.sense.shake import BOXES, Contents, Shake, ShakeExpert

COUNTS: Final = {"empty": 0, "one": 1, "many": 5}
BEADS: Final = ("metal", "glass", "wood", "plastic")
SOUNDS: Final = {"empty": "silent", "one": "single rattle", "many": "busy rattle"}
ORDER: Final = 24  # samples from which the next one is predicted
WINDOW: Final = 32  # samples: 2 ms, one tick of physics
STANDS_OUT: Final = 3.0  # times the median of the unpredicted part
RATTLES: Final = 4  # windows with a strike, of a shake; fewer are silence
MANY: Final = 49.0  # windows with a strike that one bead and many reach equally seldom


def count_strikes(sound: NDArray[np.float32]) -> int:
    """In how many windows of a sound (N,) something is struck.

    What rings can be predicted from its past, a strike cannot: the residual of a linear prediction (least squares, over the whole sound)
    has a pulse for each strike, however long the material rings.
    """
    past = np.lib.stride_tricks.sliding_window_view(sound.astype(np.float64), ORDER + 1)
    weights = np.linalg.lstsq(past[:, :-1], past[:, -1])[0]
    residual = past[:, -1] - past[:, :-1] @ weights
    level = np.sqrt(np.square(residual[: len(residual) // WINDOW * WINDOW].reshape(-1, WINDOW)).mean(axis=1))
    return int((level > STANDS_OUT * np.median(level)).sum())


class CountExpert(ShakeExpert):
    """Listens for how many strikes there are."""

    doubt = 0.15

    def fit(self, sound: NDArray[np.float32]) -> float:
        strikes, wanted = count_strikes(sound), self.setup.attributes["count"]
        silent = strikes < RATTLES
        if silent or wanted == "empty":
            return 1.0 if silent == (wanted == "empty") else -10.0
        busy = float(np.log(strikes / MANY))
        return busy if wanted == "many" else -busy


class ShakeCount(Shake):
    """Boxes that weigh and look alike: an empty one, one with a bead, one with many of the same material."""

    name = "sense/shake_count"
    phrases = "shake_count"
    beads = tuple(f"bead{i}" for i in range(sum(COUNTS.values())))
    expert = CountExpert

    def fill(self, rng: np.random.Generator) -> Contents:
        counts = [str(count) for count in rng.permutation(list(COUNTS))]
        target, material = int(rng.integers(len(BOXES))), str(rng.choice(BEADS))
        beads, sounds = tuple(COUNTS[count] for count in counts), tuple(SOUNDS[count] for count in counts)
        return Contents(beads, (material,) * len(BOXES), target, {"count": counts[target]}, sounds)
