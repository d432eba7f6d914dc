"""Sensors by the names that they have on the command line."""

from handsight.sensors.errors import HandsightError
from handsight.sensors.types import Sensor


def parse_sensors(names: str) -> Sensor:
    """`"front,touch"` -> Sensor.FRONT | Sensor.TOUCH; also "all", "cameras" and "" (none).

    Raises HandsightError for an unknown name.
    """
    chosen = Sensor(0)
    for name in filter(None, (part.strip().upper() for part in names.split(","))):
        if name not in Sensor.__members__:
            known = ", ".join(member.lower() for member in Sensor.__members__)
            raise HandsightError(f"expected sensors out of {known}, got {name.lower()!r}; separate names by commas")
        chosen |= Sensor[name]
    return chosen
