"""Memory for parameters, and for what an optimiser walks beside them: gradients, velocities, running means.

Every training step reads and writes it from end to end. So on the host

* it begins on a cache line, which is as long as the widest vector;
* what is walked side by side begins a quarter of a page apart. A CPU compares the last twelve bits of two
  addresses to tell whether a load waits for a store: from the same place of a page, an update takes up to
  twice as long;
* a large array has a gap before it. A CPU that reads a batch row by row runs ahead, past its last row; were
  parameters there, it would take their first pages away from the core that works on them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn import backend as _backend

_LINE, _PAGE = 64, 4096
_LARGE, _GAP = 1 << 14, 1 << 16  # bytes


def zeros(xp: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """C-contiguous zeros."""
    return _zeros(shape, dtype, None, _LINE, 0) if xp is np else xp.zeros(shape, dtype)


def zeros_beside(array: Any, place: int) -> Any:
    """Zeros of the shape, dtype and memory order of `array`, on its device: walked beside it as number
    `place`, from 1 on."""
    if not isinstance(array, np.ndarray):
        return _backend.backend_of(array).xp.zeros_like(array)
    start = array.ctypes.data + place * _PAGE // 4
    return _zeros(array.shape, array.dtype, array.strides, _PAGE, start)


def _zeros(
    shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...] | None, unit: int, start: int
) -> np.ndarray:
    """Zeros whose address is `start` but for a multiple of `unit`."""
    size = math.prod(shape) * dtype.itemsize
    gap = _GAP if size >= _LARGE else 0
    block = np.zeros(gap + size + unit, np.uint8)
    return np.ndarray(shape, dtype, block, gap + (start - block.ctypes.data - gap) % unit, strides)
