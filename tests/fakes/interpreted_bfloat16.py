"""bfloat16 in Triton's interpreter, made right for tests.

NumPy has no bfloat16, so Triton 3.6's interpreter keeps its bits in uint16. Its dot product multiplies those bits as integers and says
nothing, and its casts from float32 cut bits off where a GPU rounds to nearest even. Within `exact_bfloat16` both are done by PyTorch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import triton.language as tl
from numpy.typing import NDArray
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle


@contextmanager
def exact_bfloat16() -> Iterator[None]:
    """Patches the interpreter's builder: products of bfloat16 are exact and summed in float32, casts round to nearest even."""
    dot, cast, convert = InterpreterBuilder.create_dot, InterpreterBuilder.cast_impl, InterpreterBuilder.create_fp_to_fp

    def create_dot(self: Any, a: Any, b: Any, *others: Any) -> Any:
        return dot(self, _widened(a), _widened(b), *others)

    def cast_impl(self: Any, source: Any, target: Any) -> Any:
        return _cast(source, target) if _concerns(source, target) else cast(self, source, target)

    def create_fp_to_fp(self: Any, source: Any, target: Any, rounding: Any) -> Any:
        return _cast(source, target) if _concerns(source, target) else convert(self, source, target, rounding)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpreterBuilder, "create_dot", create_dot)
        patch.setattr(InterpreterBuilder, "cast_impl", cast_impl)
        patch.setattr(InterpreterBuilder, "create_fp_to_fp", create_fp_to_fp)
        yield


def _concerns(source: Any, target: Any) -> bool:
    return {source.dtype.scalar, target.scalar} == {tl.bfloat16, tl.float32}


def _cast(source: Any, target: Any) -> Any:
    if target.scalar == tl.float32:
        return _widened(source)
    rounded = torch.from_numpy(np.ascontiguousarray(source.data)).bfloat16().view(torch.int16)
    return TensorHandle(rounded.numpy().view(np.uint16), tl.bfloat16)


def _widened(x: Any) -> Any:
    """The same values in float32; other types as they are."""
    if x.dtype.scalar != tl.bfloat16:
        return x
    bits: NDArray[np.uint16] = np.ascontiguousarray(x.data)
    return TensorHandle((bits.astype(np.uint32) << 16).view(np.float32), tl.float32)
