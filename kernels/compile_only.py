"""A Triton driver without a device: what a call would launch is compiled for a chosen GPU and kept, and nothing runs.

    with compiling_for(target_named("sm_90")) as kernels:
        attend_forward(...)              # on CPU tensors; outputs stay uninitialised
    kernels[0].code.registers

So the check compiles exactly what the op launches, with the very tiles, constants, alignments and types of the call.
Needs a process in which Triton is not interpreting (no TRITON_INTERPRET).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime import driver

from handsight.kernels import machine_code
from handsight.kernels.compile_targets import TARGETS, Target
from handsight.kernels.machine_code import MachineCode

_MOST_THREADS: Final = 1024  # of a block, everywhere


@dataclass(frozen=True)
class CompiledKernel:
    """One kernel as compiled for one target."""

    name: str
    constants: dict[str, Any]
    """Its constexpr arguments."""
    warps: int
    stages: int
    shared: int
    """[bytes] of shared memory a block."""
    code: MachineCode


class CompileOnlyDriver(DriverBase):
    """Looks like one device of the target; launching does nothing."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._target = target
        self.utils = SimpleNamespace(get_device_properties=self._properties, load_binary=self._load)
        self.launcher_cls = lambda source, metadata: lambda *arguments: None

    @classmethod
    def is_active(cls) -> bool:
        """Never found by Triton itself, only set by `compiling_for`."""
        return False

    def map_python_to_cpp_type(self, ty: str) -> str:
        """Only launchers in C need it."""
        raise NotImplementedError(ty)

    def get_current_target(self) -> GPUTarget:
        """What Triton compiles for."""
        return GPUTarget(self._target.backend, self._target.arch, self._target.warp_size)

    def get_current_device(self) -> int:
        """Triton keeps compiled kernels by device: each target is one."""
        return TARGETS.index(self._target)

    def get_current_stream(self, device: int) -> int:
        """The default one."""
        return 0

    def get_active_torch_device(self) -> Any:
        """There is none."""
        raise NotImplementedError

    def get_benchmarker(self) -> Any:
        """There is nothing to measure."""
        raise NotImplementedError

    def _properties(self, device: int) -> dict[str, int]:
        # Triton raises OutOfResources by this, as it would on the device.
        return {"max_shared_mem": TARGETS[device].shared_per_block}

    def _load(self, name: str, binary: bytes, shared: int, device: int) -> tuple[object, object, int, int, int]:
        return object(), object(), 0, 0, _MOST_THREADS


@contextmanager
def compiling_for(target: Target) -> Iterator[list[CompiledKernel]]:
    """While open, Triton launches compile for `target` and do nothing else; what they compiled is in the list.

    A kernel that was compiled in this process before, with the same constants and types, is not in the list again.

    Raises:
        RuntimeError: Triton is interpreting in this process.
    """
    if knobs.runtime.interpret:
        raise RuntimeError("expected a process without TRITON_INTERPRET, because interpreted kernels are not compiled; start another one")
    kernels: list[CompiledKernel] = []

    def listen(*, src: Any, metadata: dict[str, Any], metadata_group: dict[str, str], **_: Any) -> None:
        kernels.append(_read(src, metadata, {Path(path).suffix: Path(path) for path in metadata_group.values()}))

    before, active = knobs.compilation.listener, driver._active
    knobs.compilation.listener = listen
    driver.set_active(CompileOnlyDriver(target))
    try:
        yield kernels
    finally:
        knobs.compilation.listener = before
        driver._active = active


def _read(source: Any, metadata: dict[str, Any], files: dict[str, Path]) -> CompiledKernel:
    if ".cubin" in files:
        code = machine_code.of_nvidia(files[".cubin"], files[".ptx"].read_text())
    else:
        code = machine_code.of_amd(files[".amdgcn"].read_text())
    names = source.fn.arg_names
    constants = {names[path[0]]: value for path, value in source.constants.items() if _is_plain(value)}
    return CompiledKernel(source.fn.__name__, constants, metadata["num_warps"], metadata["num_stages"], metadata["shared"], code)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
