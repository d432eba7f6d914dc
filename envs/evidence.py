"""What has been seen, touched and heard of each thing in an episode so far, and which thing that makes the talk of the moment."""

import mujoco
import numpy as np

from handsight.envs.tasks.base import Setup
from handsight.sensors.grounding import NOTHING, Modality
from handsight.sensors.referent import NEVER, Referent


class Evidence:
    """Follows one episode; feeds the tables of sensors/grounding.py and the labels of sensors/referent.py.

    Args:
        model: tells which body a geom belongs to.
        setup: the episode's things and what they are like.
    """

    def __init__(self, model: mujoco.MjModel, setup: Setup) -> None:
        bodies = {model.body(name).id: name for name in setup.objects if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name) >= 0}
        self._owner = {geom: bodies[int(body)] for geom, body in enumerate(np.asarray(model.geom_bodyid)) if int(body) in bodies}
        self._objects, self._voices = setup.objects, setup.voices
        self.met: dict[str, Modality] = dict.fromkeys(setup.objects, NOTHING)
        self.referent = ""
        """The thing most recently touched or heard; empty before the first."""
        self._step = 0
        self._touched: dict[str, int] = {}  # the last step at which it was
        self._heard: dict[str, int] = {}
        self._visible: frozenset[str] = frozenset()

    def add(self, *, visible: frozenset[str], touched: frozenset[int], heard: frozenset[str]) -> None:
        """One control step: names of what is in view, geoms under the finger pads, names of what sounded."""
        felt = {self._owner[geom] for geom in touched if geom in self._owner}
        sounding = {name for source in heard if (name := self._voices.get(source, source)) in self.met}
        for name in self.met:
            self.met[name] |= Modality.VISION if name in visible else NOTHING
            self.met[name] |= Modality.TOUCH if name in felt else NOTHING
            self.met[name] |= Modality.AUDIO if name in sounding else NOTHING
        self._step += 1
        self._touched |= dict.fromkeys(felt, self._step)
        self._heard |= dict.fromkeys(sounding, self._step)
        self._visible = visible
        self._refer_to(felt or sounding)

    def _refer_to(self, met_now: set[str]) -> None:
        """Of several things at once: the one that was talked of already, else the first of the episode's objects."""
        if met_now and self.referent not in met_now:
            self.referent = next(name for name in self._objects if name in met_now)

    def grounding(self) -> Referent:
        """The label of the frame that was last added."""
        if not self.referent:
            return Referent()
        return Referent(
            self._objects[self.referent],
            self._since(self._touched),
            self._since(self._heard),
            self.referent in self._visible,
        )

    def _since(self, times: dict[str, int]) -> int:
        return self._step - times[self.referent] if self.referent in times else NEVER
