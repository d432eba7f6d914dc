"""What an episode of a TensorFlow dataset holds: features.json as a flat table, and its values back from an Example. T steps of an episode.

A tree of features; a leaf is named by its path. Below `steps` there are the values of all T steps, one after another
(tensorflow_datasets/core/{example_serializer,features/*}.py).
"""

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from handsight.datasets_rb.tf_example import Values
from handsight.sensors.errors import HandsightError

STEPS: Final = "steps/"
Decoded = list[bytes] | NDArray[Any]
"""Of images and texts the encoded bytes, one a step; of tensors the array."""
_DTYPES: Final = ("bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")


@dataclass(frozen=True)
class Field:
    """One leaf of features.json."""

    name: str
    """Its path, `steps/observation/state`."""
    kind: str
    """`image`, `text` or `tensor`."""
    shape: tuple[int, ...] = ()
    """Of one step's value, or of the episode's if it is not below `steps`; images only: -1 for a size that is not declared."""
    dtype: str = ""
    encoding: str = "none"
    """Tensors only: `none`, `bytes` or `zlib`."""

    @property
    def stored_dtype(self) -> str:
        """Of what `decode` returns: an Example holds single precision, only encoded tensors keep double."""
        return "float32" if self.encoding == "none" and self.dtype.startswith("float") else self.dtype

    @property
    def size(self) -> int:
        """How many numbers the shape holds."""
        return math.prod(self.shape)

    @property
    def per_step(self) -> bool:
        """Whether there are T values."""
        return self.name.startswith(STEPS)

    def decode(self, values: Values) -> Decoded:
        """What an Example holds -> (T, *shape) or (*shape) of the declared type; bytes of images and texts as they are.

        Raises:
            ValueError: another type or number of values than declared.
        """
        if self.kind != "tensor":
            if not isinstance(values, list):
                raise ValueError(f"{self.kind} stored as numbers")
            return values
        shape = (-1, *self.shape) if self.per_step else self.shape
        if self.encoding != "none":
            parts = values if self.encoding == "bytes" else [zlib.decompress(part) for part in _bytes(values)]
            return np.frombuffer(b"".join(_bytes(parts)), dtype=self.dtype).reshape(shape)
        if isinstance(values, list):
            raise ValueError(f"{self.dtype} stored as bytes")
        return values.astype(self.stored_dtype).reshape(shape)


def _bytes(values: Values) -> list[bytes]:
    if not isinstance(values, list):
        raise ValueError("encoded tensor stored as numbers")
    return values


def read_features(path: Path) -> tuple[dict[str, Field], dict[str, str]]:
    """(fields by name, features that cannot be read and why) of a features.json. Raises HandsightError."""
    fields: dict[str, Field] = {}
    unreadable: dict[str, str] = {}
    _walk(read_json(path), "", fields, unreadable)
    if not any(field.per_step for field in fields.values()):
        raise HandsightError(f"expected a feature 'steps' in {path}, got none; this is no RLDS dataset of a current TensorFlow Datasets")
    return fields, unreadable


def _walk(node: Mapping[str, Any], name: str, fields: dict[str, Field], unreadable: dict[str, str]) -> None:
    if "featuresDict" in node:
        for key, child in node["featuresDict"]["features"].items():
            _walk(child, f"{name}/{key}" if name else key, fields, unreadable)
    elif "sequence" in node and name == STEPS.rstrip("/"):
        _walk(node["sequence"]["feature"], name, fields, unreadable)
    else:
        leaf = _leaf(node, name)
        if isinstance(leaf, Field):
            fields[name] = leaf
        else:
            unreadable[name] = leaf


def _leaf(node: Mapping[str, Any], name: str) -> Field | str:
    """The field, or why it cannot be read."""
    kind = next((kind for kind in ("image", "text", "tensor", "classLabel") if kind in node), "")
    detail = node.get(kind, {})
    shape = tuple(int(size) for size in detail.get("shape", {}).get("dimensions", ()))
    dtype = detail.get("dtype", "")
    if kind == "classLabel":
        return Field(name, "tensor", dtype="int64")
    if kind == "image":
        return Field(name, "image", shape, "uint8") if dtype in ("", "uint8") else f"images of {dtype}"
    if kind == "text" or (kind == "tensor" and dtype == "string" and not shape):
        return Field(name, "text")
    if kind != "tensor":
        return f"a {node.get('pythonClassName', 'feature').rpartition('.')[2]}"
    if dtype not in _DTYPES or -1 in shape:
        return f"an array of type {dtype} and shape {shape}"
    return Field(name, "tensor", shape, dtype, detail.get("encoding") or "none")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises HandsightError."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise HandsightError(f"expected JSON in {path}, got {error}; download it again") from error
    return content
