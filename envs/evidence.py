"""What has been seen, touched and heard of each thing in an episode so far."""

import mujoco
import numpy as np

from handsight.envs.tasks.base import Setup
from handsight.sensors.grounding import NOTHING, Modality


class Evidence:
    """Follows one episode; feeds the tables of sensors/grounding.py.

    Args:
        model: tells which body a geom belongs to.
        setup: the episode's things and what they are like.
    """

    def __init__(self, model: mujoco.MjModel, setup: Setup) -> None:
        bodies = {model.body(name).id: name for name in setup.objects if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name) >= 0}
        self._owner = {geom: bodies[int(body)] for geom, body in enumerate(np.asarray(model.geom_bodyid)) if int(body) in bodies}
        self._voices = setup.voices
        self.met: dict[str, Modality] = dict.fromkeys(setup.objects, NOTHING)

    def add(self, *, visible: frozenset[str], touched: frozenset[int], heard: frozenset[str]) -> None:
        """One control step: names of what is in view, geoms under the finger pads, names of what sounded."""
        felt = {self._owner[geom] for geom in touched if geom in self._owner}
        sounding = {self._voices.get(name, name) for name in heard}
        for name in self.met:
            self.met[name] |= Modality.VISION if name in visible else NOTHING
            self.met[name] |= Modality.TOUCH if name in felt else NOTHING
            self.met[name] |= Modality.AUDIO if name in sounding else NOTHING
