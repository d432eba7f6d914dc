"""What can compute a policy's actions. Imports nothing, so that a command can check its options before torch is there."""

from typing import Final, Literal

Precision = Literal["fp32", "int8"]
RUNTIMES: Final[dict[str, Precision | None]] = {"torch": None, "onnx": "fp32", "onnx-int8": "int8"}
"""By name: the precision of the export (`handsight export`) that is run."""
