"""For which GPU Triton would compile now."""

import torch
from triton import knobs
from triton.runtime import driver


@torch.compiler.assume_constant_result
def architecture_of(device: torch.device) -> str:
    """As compilers write it: sm_90, gfx942; empty where Triton interprets and compiles nothing."""
    if knobs.runtime.interpret:
        return ""
    if device.type == "cuda":  # machines may hold several kinds of device
        with torch.cuda.device(device):
            return _current()
    return _current()


def _current() -> str:
    target = driver.active.get_current_target()
    return f"sm_{target.arch}" if target.backend == "cuda" else str(target.arch)
