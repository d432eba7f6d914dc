"""Runs what `export_onnx.py` wrote: the observation once, then a flow step at a time, by ONNX Runtime on the CPU.

Axes: B batch, S times, T actions, A action dimension.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from handsight.policies.export_onnx import BATCH, FOLDER, GRAPHS, QUANTIZED, TIMES, Manifest, require_onnx
from handsight.policies.flow import Field
from handsight.policies.runtimes import RUNTIMES, Precision
from handsight.policies.weights import fingerprint
from handsight.sensors.errors import HandsightError

INSTRUCTION: Final = ("ids", "mask", "present")


class OnnxRuntime:
    """An exported policy: gives the velocity fields that `FlowMatching.follow` integrates. Keeps no state between calls."""

    def __init__(self, folder: Path, precision: Precision = "fp32", *, fingerprint: str | None = None) -> None:
        """Load the graphs of an export.

        Args:
            folder: with the graphs and manifest.json.
            precision: "int8" reads NAME.int8.onnx where quantised.
            fingerprint: sha256 of the checkpoint's weights; without it, nothing is compared.

        Raises:
            HandsightError: no export, one of other weights, or ONNX Runtime is not installed.
        """
        require_onnx()
        self.manifest = Manifest.read(folder)
        if fingerprint not in (None, self.manifest.fingerprint):
            raise HandsightError(f"expected an export of the weights beside it, got one of others in {folder}; export the checkpoint again")
        self._graphs = {name: _session(_file(folder, name, precision)) for name in GRAPHS}
        self._sensors = [name for name in self.manifest.inputs["encode"] if name not in INSTRUCTION]

    @classmethod
    def beside(cls, checkpoint: Path, runtime: str, *, checked: bool = True) -> "OnnxRuntime":
        """The export in a checkpoint's folder, of its weights.

        checked: refuse int8 unless its success was checked on a task.
        Raises HandsightError: as the constructor, a runtime that is none, or int8 that was not checked.
        """
        precision = RUNTIMES.get(runtime)
        if precision is None:
            raise HandsightError(f"expected a runtime out of {', '.join(RUNTIMES)} that has an export, got {runtime}")
        exported = cls(checkpoint / FOLDER, precision, fingerprint=fingerprint(checkpoint))
        if checked and precision == "int8":
            exported.manifest.require_int8_check()
        return exported

    def fields(self, times: Tensor, inputs: Mapping[str, Tensor | None], ids: Tensor, mask: Tensor) -> list[Field]:
        """The velocity (B, T, A) -> (B, T, A) at each of the times (S,), for the observation that a torch network would get.

        Args:
            times: (S,).
            inputs: (B, ...) by sensor name; None: missing.
            ids: (B, L) int64.
            mask: (B, L) bool.
        """
        known = self._run("encode", self._observation(inputs, ids, mask)) | {TIMES: _value(times)}
        modulations = self._run("schedule", known)["modulations"].numpy()
        return [partial(self._velocity, known=known | {"modulation": _value(row)}) for row in modulations]

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxRuntime":
        """Copies of a policy share it, as they share weights."""
        return self

    def _velocity(self, x: Tensor, known: Mapping[str, Any]) -> Tensor:
        return torch.from_numpy(self._run("step", {**known, "x": _value(x)})["velocity"].numpy())

    def _observation(self, inputs: Mapping[str, Tensor | None], ids: Tensor, mask: Tensor) -> dict[str, Any]:
        rows = ids.shape[0]
        shapes = self.manifest.inputs["encode"]
        present = torch.tensor([inputs[name] is not None for name in self._sensors]).expand(rows, -1)
        known: dict[str, Tensor] = {"ids": ids, "mask": mask, "present": present}
        for name in self._sensors:
            x = inputs[name]
            shape = [rows if size == BATCH else int(size) for size in shapes[name]]
            known[name] = torch.zeros(shape) if x is None else x
            if list(known[name].shape) != shape:
                raise HandsightError(f"expected {name} of shape {tuple(shape)}, as exported, got {tuple(known[name].shape)}")
        return {name: _value(x) for name, x in known.items()}

    def _run(self, graph: str, known: Mapping[str, Any]) -> dict[str, Any]:
        """The graph's outputs by name, from what it reads of `known`; values stay in ONNX Runtime's memory."""
        session = self._graphs[graph]
        names = list(self.manifest.outputs[graph])
        return dict(
            zip(names, session.run_with_ort_values(names, {value.name: known[value.name] for value in session.get_inputs()}), strict=True)
        )


def _file(folder: Path, name: str, precision: Precision) -> Path:
    file = folder / (f"{name}.int8.onnx" if precision == "int8" and name in QUANTIZED else f"{name}.onnx")
    if not file.is_file():
        raise HandsightError(f"expected {file}, got none; export the checkpoint again{' with --int8' if precision == 'int8' else ''}")
    return file


def _session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # As torch: a robot that shares its cores, and rollouts in several processes, set one.
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _value(x: Tensor | np.ndarray[Any, Any]) -> Any:
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(x))
