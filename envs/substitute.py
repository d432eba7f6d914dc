"""Controls that take a sensor away from whoever acts: its readings are zeros, or those of another episode of the same task."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from handsight.sensors.types import Observation

DONOR: Final = 1_000_000  # the other episode's seed is so much higher: no seed that is used elsewhere


class Substitution:
    """What happens to the observations of one environment, episode by episode.

    Args:
        zeroed: keys that are all zero.
        swapped: keys whose readings are taken, step by step, from an episode of the scripted expert with another seed, so that they look
            right and tell of things that are elsewhere. After its last step they stay as they were then.
    """

    def __init__(self, zeroed: Sequence[str] = (), swapped: Sequence[str] = ()) -> None:
        self.zeroed, self.swapped = tuple(zeroed), tuple(swapped)
        self._donor: list[Observation] = []
        self._step = 0

    def begin(self, env: Any, seed: int) -> None:
        """Before the reset of an episode: plays the other one, if readings of it are needed."""
        self._step = 0
        if self.swapped:
            self._donor = [{key: observation[key] for key in self.swapped} for observation in _expert_observations(env, seed + DONOR)]

    def apply(self, observation: Observation) -> Observation:
        """The observation of the next step as whoever acts gets it."""
        other = self._donor[min(self._step, len(self._donor) - 1)] if self.swapped else {}
        self._step += 1
        zeros = {key: np.zeros_like(observation[key]) for key in self.zeroed if key in observation}
        return observation | zeros | {key: value for key, value in other.items() if key in observation}


def _expert_observations(env: Any, seed: int) -> list[Observation]:
    observation, _ = env.reset(seed=seed)
    expert = env.unwrapped.make_expert()
    seen, done = [observation], False
    while not done:
        observation, _, terminated, truncated, _ = env.step(np.asarray(expert.act(observation), np.float32))
        seen.append(observation)
        done = terminated or truncated
    return seen
