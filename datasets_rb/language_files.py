"""Checks language files against language.schema.json: the few keywords of JSON Schema (draft 2020-12) that it uses."""

import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from handsight.sensors.errors import HandsightError

_TYPES: Final = {"object": dict, "string": str, "integer": int}


def read_checked(path: Path, kind: str) -> Any:
    """The content of a JSON file that `$defs/kind` of the schema describes.

    Raises:
        HandsightError: no such file, not JSON, or not as the schema says; with the place in the file.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise HandsightError(f"expected language data in {path}, got no such file; check the path") from error
    except ValueError as error:
        raise HandsightError(f"expected JSON in {path}, got {error}; write it again") from error
    require(content, _schema()["$defs"][kind], str(path))
    return content


@cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(files("handsight.datasets_rb").joinpath("language.schema.json").read_text())
    return schema


def require(value: Any, schema: dict[str, Any], where: str) -> None:
    """Raises HandsightError at the first place that the schema forbids."""
    if not isinstance(value, _TYPES[schema["type"]]) or isinstance(value, bool):
        raise _wrong(where, f"of type {schema['type']}", value)
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        raise _wrong(where, f"a text like {schema['pattern']}", value)
    if isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        raise _wrong(where, f"a number from {schema['minimum']} to {schema['maximum']}", value)
    if isinstance(value, dict):
        _require_object(value, schema, where)


def _require_object(value: dict[str, Any], schema: dict[str, Any], where: str) -> None:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    for name in schema.get("required", ()):
        if name not in value:
            raise _wrong(where, f"an entry {name!r}", sorted(value))
    for name, entry in value.items():
        if name not in properties and others is False:
            raise _wrong(where, f"only the entries {', '.join(properties)}", name)
        require(entry, properties.get(name, others), f"{where}: {name}")


def _wrong(where: str, expected: str, found: object) -> HandsightError:
    return HandsightError(f"expected {expected} in {where}, got {str(found)[:80]!r}; see datasets_rb/language.schema.json")
