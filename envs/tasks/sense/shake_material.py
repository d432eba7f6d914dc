"""Pick the closed box whose bead is of the named material; only shaking it tells."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from handsight.envs.listen import spectrum_peak
from handsight.envs.sound import MATERIALS, REFERENCE_SIZE
from handsight.envs.tasks.sense.shake import BOXES, HALF, Contents, Shake, ShakeExpert

BEADS: Final = ("metal", "glass", "wood", "plastic")
PITCH: Final = {name: MATERIALS[name].frequency * REFERENCE_SIZE / np.mean(HALF) for name in BEADS}
"""Lowest mode of each bead in a box of middle size [Hz]; others deviate by a tenth, materials from each other by a third."""
BAND: Final = (850.0, 3750.0)  # [Hz] where the pitches are: above the thud of a box, below the second mode of metal


def rattle_material(sound: NDArray[np.float32]) -> str:
    """Of which material the bead is that is heard in a sound (N,); empty if none is heard."""
    peak = spectrum_peak(sound, *BAND)
    return min(BEADS, key=lambda name: abs(np.log(peak.frequency / PITCH[name]))) if peak.heard else ""


class MaterialExpert(ShakeExpert):
    """Listens for the pitch of the bead."""

    def fit(self, sound: NDArray[np.float32]) -> float:
        heard = rattle_material(sound)
        if not heard:
            return 0.0
        return 1.0 if heard == self.setup.attributes["material"] else -1.0


class ShakeMaterial(Shake):
    """Each box holds one bead, of three different materials; boxes and beads weigh and look alike."""

    name = "sense/shake_material"
    phrases = "shake_material"
    expert = MaterialExpert

    def fill(self, rng: np.random.Generator) -> Contents:
        materials = tuple(str(material) for material in rng.choice(BEADS, len(BOXES), replace=False))
        target = int(rng.integers(len(BOXES)))
        sounds = tuple(f"{material} rattle" for material in materials)
        return Contents((1,) * len(BOXES), materials, target, {"material": materials[target]}, sounds)
