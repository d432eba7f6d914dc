"""Who acts in a slot: one actor per slot, reset with the episode's seed, asked for one action at every step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from handsight.envs.pool import Attributes, Transition
from handsight.sensors.errors import HandsightError

SCRIPTED: Final = ("expert", "random", "constant", "down")


class Actor(Protocol):
    """Decides in one slot."""

    @property
    def looks(self) -> bool:
        """Whether the next `act` needs pictures; who executes a chunk of actions does not always."""

    def reset(self, seed: int) -> None:
        """Forget the last episode; all randomness of the new one comes from its seed."""

    def act(self, transition: Transition) -> NDArray[np.float32]:
        """The action (A,) for this observation; called at every step."""


@dataclass(frozen=True)
class Cast:
    """Everything a rollout needs to know about who acts.

    `image_size` [px] is what the policy was trained on (None: does not matter); `check` raises HandsightError when the environment does
    not fit; `note` is what it asks itself (policies/fuse/notes.py).
    """

    name: str
    fingerprint: str
    image_size: int | None
    needs_expert: bool
    check: Callable[[Attributes], None]
    make: Callable[[Attributes], Actor]
    note: str = ""


class ExpertActor:
    """The scripted expert, which runs beside its environment."""

    looks = True

    def reset(self, seed: int) -> None:
        pass

    def act(self, transition: Transition) -> NDArray[np.float32]:
        if transition.expert_action is None:
            raise HandsightError("expected an environment with a scripted expert, got none; choose another --policy.path")
        return transition.expert_action


class RandomActor:
    """Uniform over the action space, anew at every step."""

    looks = False

    def __init__(self, attributes: Attributes) -> None:
        self._attributes = attributes

    def reset(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 3])  # a stream of its own, apart from the environment's

    def act(self, transition: Transition) -> NDArray[np.float32]:
        return self._rng.uniform(self._attributes.action_low, self._attributes.action_high).astype(np.float32)


class ConstantActor(RandomActor):
    """One uniform draw, held for the whole episode."""

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self._action = self._rng.uniform(self._attributes.action_low, self._attributes.action_high).astype(np.float32)

    def act(self, transition: Transition) -> NDArray[np.float32]:
        return self._action


class DownActor:
    """Straight down with a closed gripper: what a policy without eyes might try."""

    looks = False

    def reset(self, seed: int) -> None:
        pass

    def act(self, transition: Transition) -> NDArray[np.float32]:
        return np.array([0, 0, -1, 0, 0, 0, 1], np.float32)


def scripted(name: str) -> Cast:
    """The cast for "expert", "random", "constant" or "down"."""
    makers: dict[str, Callable[[Attributes], Actor]] = {
        "expert": lambda _: ExpertActor(),
        "random": RandomActor,
        "constant": ConstantActor,
        "down": lambda _: DownActor(),
    }
    return Cast(name, name, None, needs_expert=name == "expert", check=lambda _: None, make=makers[name])
