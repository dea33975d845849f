"""How arrays lie in memory: what a kernel may be handed, and how it gets there.

Compiled kernels take C-contiguous, aligned, writeable arrays only, so that each is compiled once per dtype; everything else is brought
into that form here, at the price of one copy. Images travel as NHWC arrays: the channels-last memory of a logical NCHW array.
"""

from __future__ import annotations

import numpy as np

from ._jit import inline, jit
from .threads import parallel_for, pool


def plain(x: np.ndarray) -> np.ndarray:
    """`x` itself if it is C-contiguous, aligned and writeable, else a copy that is."""
    return x if x.flags.carray else np.array(x, order="C")


def nhwc(x: np.ndarray) -> np.ndarray:
    """The channels-last array of logical NCHW `x`: its own memory where that already is channels-last, else a copy."""
    view = x.transpose(0, 2, 3, 1)
    if view.flags.carray:
        return view
    if not x.flags.carray:
        return np.array(view, order="C")
    out = np.empty(view.shape, x.dtype)
    _to_nhwc(pool(), x, out)
    return out


def empty_nchw(n: int, c: int, h: int, w: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """A new image batch as ``(its NHWC memory, the logical NCHW view of it)``."""
    memory = np.empty((n, h, w, c), dtype)
    return memory, memory.transpose(0, 3, 1, 2)


def flat(x: np.ndarray) -> np.ndarray:
    """The elements of `x` in memory order as a 1-D array: a view where `x` is dense in any axis order, else of a copy."""
    if x.flags.carray:
        return x.reshape(-1)
    dense = x.transpose(memory_order(x))
    return dense.reshape(-1) if dense.flags.carray else np.array(x, order="K", copy=True).transpose(memory_order(x)).reshape(-1)


def memory_order(x: np.ndarray) -> list[int]:
    """The axes of `x` from the slowest to the fastest in memory."""
    return sorted(range(x.ndim), key=lambda axis: (-abs(x.strides[axis]), axis))


@inline
def _image_to_nhwc(t, x, out):
    for c in range(x.shape[1]):
        for h in range(x.shape[2]):
            for w in range(x.shape[3]):
                out[t, h, w, c] = x[t, c, h, w]


@jit
def _to_nhwc(pool, x, out):
    parallel_for(pool, x.shape[0], _image_to_nhwc, (x, out))
