"""What a compiled kernel needs of a GPU, read from its machine code without one.

NVIDIA's binary is taken apart by cuobjdump, which Triton's wheel brings; AMD's assembly text says the same in its metadata.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from triton import knobs

_SASS_LINE: Final = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[T0-9]+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE)
_PTX_LINE: Final = re.compile(r"^\s*(?:@!?%p\d+\s+)?[a-z][a-z0-9_.:]*(?:\s.*)?;", re.MULTILINE)
_GCN_LINE: Final = re.compile(r"^\s+((?:[sv]|ds|buffer|global|flat|scratch)_[a-z0-9_]+)", re.MULTILINE)
_MATRIX: Final = ("HGMMA", "UTCHMMA", "HMMA", "v_mfma")


@dataclass(frozen=True)
class MachineCode:
    """Resources and size of one compiled kernel."""

    registers: int
    """32-bit registers a thread; on AMD vector registers with accumulators."""
    spill_bytes: int
    """[bytes] of each thread's stack: registers that did not fit."""
    spill_instructions: int
    """Loads from and stores to that stack."""
    instructions: int
    """Of the machine code, without the padding behind the end."""
    virtual_instructions: int
    """Of the PTX; 0 on AMD."""
    matrix_instructions: dict[str, int]
    """How many of each kind of matrix product."""

    @property
    def spills(self) -> bool:
        """Whether any register did not fit."""
        return self.spill_bytes > 0 or self.spill_instructions > 0


def of_nvidia(cubin: Path, ptx: str) -> MachineCode:
    """Reads a binary for NVIDIA and the PTX that it was made from.

    Raises:
        subprocess.CalledProcessError: not a binary that cuobjdump can read.
    """
    usage = _cuobjdump("-res-usage", cubin)
    operations = list(sass_operations(_cuobjdump("-sass", cubin)))
    stack = sum(int(_field(rf"{name}:(\d+)", usage)) for name in ("STACK", "LOCAL"))
    moved = sum(operation.partition(".")[0] in ("LDL", "STL") for operation in operations)
    virtual = sum(1 for _ in _PTX_LINE.finditer(ptx))
    return MachineCode(int(_field(r"REG:(\d+)", usage)), stack, moved, len(operations), virtual, _matrix(operations))


def of_amd(assembly: str) -> MachineCode:
    """Reads AMD's assembly text with its metadata."""
    operations = _GCN_LINE.findall(assembly)
    registers, stack = (int(_field(rf"\.{name}:\s+(\d+)", assembly)) for name in ("vgpr_count", "private_segment_fixed_size"))
    moved = sum(operation.startswith("scratch_") for operation in operations)
    return MachineCode(registers, stack, moved, len(operations), 0, _matrix(operations))


def sass_operations(sass: str) -> Iterator[str]:
    """The operations of a disassembly up to the endless loop and the padding that every kernel ends with."""
    operations = _SASS_LINE.findall(sass)
    while operations and operations[-1] in ("NOP", "BRA"):
        operations.pop()
    yield from operations


def _matrix(operations: list[str]) -> dict[str, int]:
    kinds = (next((kind for kind in _MATRIX if operation.startswith(kind)), None) for operation in operations)
    return dict(Counter(kind for kind in kinds if kind is not None))


def _cuobjdump(what: str, cubin: Path) -> str:
    return subprocess.run([knobs.nvidia.cuobjdump.path, what, str(cubin)], check=True, capture_output=True, text=True).stdout


def _field(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"expected {pattern!r} in what the compiler's tools say, got {text[:200]!r}")
    return found[1]
