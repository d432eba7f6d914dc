"""What is known of each GPU architecture that the kernels are compiled for: its limits, and its peak rates for arithmetic bounds."""

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
REGISTER_UNIT: Final = 8
"""Registers are handed out to threads in multiples of it, on all of these."""


@dataclass(frozen=True)
class Target:
    """One architecture, and one product of it that the peak rates are of."""

    name: str
    """As compilers write it: sm_90, gfx942."""
    backend: str
    """Triton's: cuda or hip."""
    arch: int | str
    """Triton's: 90, gfx942."""
    warp_size: int
    """Threads that step together."""
    shared_per_block: int
    """[bytes] of shared memory that one block may have."""
    registers_per_thread: int
    """32-bit registers that one thread may have."""
    registers_per_multiprocessor: int
    """32-bit registers that the threads of one block share."""
    shared_per_multiprocessor: int
    """[bytes] that the blocks of a multiprocessor share."""
    least_warps: int
    """Our budget: how many warps of any kernel fit a multiprocessor at a time by their registers and shared memory.

    Its four schedulers need one each; a second one each where shared memory is plenty, to work while the first waits."""
    matrix_instruction: str
    """The instruction that multiplies 16-bit matrices here, as its name begins in the machine code."""
    product: str
    """What the two rates are of."""
    flops: float
    """[1/s] dense 16-bit products with float32 sums."""
    bandwidth: float
    """[bytes/s] of the device's memory."""


# Shared memory, registers: CUDA C++ Programming Guide 13.0, table "Technical Specifications per Compute Capability" (maximum amount of
# shared memory per thread block, which is 1 KiB less than that of a multiprocessor, since the system takes 1 KiB of each block's; 255
# registers a thread; 64 Ki registers a multiprocessor). gfx942: "AMD Instinct MI300" Instruction Set Architecture, reference guide of 2025,
# sections 3.6 (512 vector registers a work item, half of them accumulators) and 3.7 (64 KiB of local data share).
# Rates: data sheets of A100 80GB SXM, H100 SXM, MI300X and DGX B200 (an eighth); whitepapers "NVIDIA Ampere GA102", "NVIDIA Ada GPU
# Architecture" and "NVIDIA RTX Blackwell GPU Architecture" (tensor rate with float32 accumulation, without sparsity).
TARGETS: Final = (
    Target("sm_80", "cuda", 80, 32, 163 * KIB, 255, 64 * KIB, 164 * KIB, 8, "HMMA", "A100 80GB SXM", 312e12, 2.039e12),
    Target("sm_86", "cuda", 86, 32, 99 * KIB, 255, 64 * KIB, 100 * KIB, 4, "HMMA", "RTX 3090", 71e12, 0.936e12),
    Target("sm_89", "cuda", 89, 32, 99 * KIB, 255, 64 * KIB, 100 * KIB, 4, "HMMA", "RTX 4090", 165.2e12, 1.008e12),
    Target("sm_90", "cuda", 90, 32, 227 * KIB, 255, 64 * KIB, 228 * KIB, 8, "HGMMA", "H100 SXM", 989.4e12, 3.35e12),
    Target("sm_100", "cuda", 100, 32, 227 * KIB, 255, 64 * KIB, 228 * KIB, 8, "UTCHMMA", "B200", 2250e12, 8.0e12),
    Target("sm_120", "cuda", 120, 32, 99 * KIB, 255, 64 * KIB, 100 * KIB, 4, "HMMA", "RTX 5090", 209.5e12, 1.792e12),
    Target("gfx942", "hip", "gfx942", 64, 64 * KIB, 512, 128 * KIB, 64 * KIB, 4, "v_mfma", "MI300X", 1307.4e12, 5.3e12),
)


def resident_warps(target: Target, *, registers: int, shared: int, warps: int) -> int:
    """How many warps of a kernel fit a multiprocessor at a time.

    Args:
        registers: a thread.
        shared: [bytes] a block.
        warps: a block.

    What a device allows besides, such as 32 blocks, does not bind kernels of attention.
    """
    block = -(-registers // REGISTER_UNIT) * REGISTER_UNIT * warps * target.warp_size
    reserved = shared + (KIB if target.backend == "cuda" else 0)
    blocks = min(target.registers_per_multiprocessor // block, target.shared_per_multiprocessor // max(reserved, 1))
    return blocks * warps


def target_named(name: str) -> Target:
    """The target of a name.

    Raises:
        KeyError: none has it.
    """
    for target in TARGETS:
        if target.name == name:
            return target
    raise KeyError(f"expected one of {[target.name for target in TARGETS]}, got {name!r}")
