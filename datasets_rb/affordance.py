"""Affordance labels of a demonstration as columns: the same on every frame, because LeRobot has no column of an episode. T time."""

from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from handsight.sensors.errors import HandsightError
from handsight.sensors.types import CONTACTS, CONTACTS_SHAPE, WAYPOINTS, WAYPOINTS_SHAPE


class Affordance(Protocol):
    """What is recorded: `handsight.envs.affordance.Affordance`, or anything with these fields."""

    @property
    def pixels(self) -> NDArray[np.float64]: ...  # (P, 2) column and row in the first front picture

    @property
    def waypoints(self) -> NDArray[np.float64]: ...  # (32, 10)


FEATURES: Final[dict[str, dict[str, Any]]] = {
    CONTACTS: {"dtype": "float32", "shape": (int(np.prod(CONTACTS_SHAPE)),), "names": None},
    WAYPOINTS: {"dtype": "float32", "shape": (int(np.prod(WAYPOINTS_SHAPE)),), "names": None},
}


def affordance_columns(affordance: Affordance | None, size: int, length: int) -> dict[str, NDArray[np.float32]]:
    """The columns (T, 48) and (T, 320) of an episode of `length` frames whose pictures are `size` pixels wide and high.

    Raises:
        HandsightError: the episode made no contact, or at more places than there is room for.
    """
    if affordance is None:
        raise HandsightError("expected an episode with contact points, got none; record this task without affordance labels")
    contacts = np.zeros(CONTACTS_SHAPE, np.float32)
    count = len(affordance.pixels)
    if count > len(contacts):
        raise HandsightError(f"expected at most {len(contacts)} contact points, got {count}; raise CONTACTS_SHAPE in sensors/types.py")
    contacts[:count, :2] = (affordance.pixels + 0.5) / size
    contacts[:count, 2] = 1.0
    values = {CONTACTS: contacts, WAYPOINTS: affordance.waypoints.astype(np.float32)}
    return {key: np.tile(value.reshape(1, -1), (length, 1)) for key, value in values.items()}
