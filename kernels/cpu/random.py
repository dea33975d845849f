"""Dropout from a counter-based random stream: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011).

The four words of block b depend on (seed, offset, b) alone, so tasks need no shared state, backward makes
the mask again instead of storing it, and every backend draws the same one. Element i, in C order, is word i
mod 4 of block i div 4.
"""

from __future__ import annotations

import numpy as np

from ._jit import inline, jit
from ._math import either, like
from ._memory import arranged, empty, plain
from ._philox import draw, words_at_once
from ._tape import current, moved_by_python
from .threads import parallel_for, pool

_CHUNK = 8192  # elements in a task
_DRAWN = 256  # words drawn before they are used; a divisor of the former, and a multiple of words_at_once()
_WORD = 4  # bytes


@inline
def _dropout_chunk(t, x, out, threshold, scale, seed, offset, at_once):
    words, zero = np.empty(_DRAWN, np.uint32), like(scale, 0)
    for begin in range(t * _CHUNK, min((t + 1) * _CHUNK, x.size), _DRAWN):
        values, result = x[begin : begin + _DRAWN], out[begin : begin + _DRAWN]
        for i in range(0, values.size, at_once):
            draw(np.uint64((begin + i) // 4), offset, seed, words.ctypes.data + _WORD * i)
        for i in range(values.size):
            result[i] = either(words[i] >= threshold, values[i] * scale, zero)


@jit
def _dropout(pool, x, out, threshold, scale, source, at_once):
    count = (x.size + _CHUNK - 1) // _CHUNK
    parallel_for(pool, count, _dropout_chunk, (x, out, threshold, scale, source[0], source[1], at_once))


def dropout(x, p, seed, offset):
    if p >= 1:
        moved_by_python()
        return np.zeros_like(x, subok=False)
    values = plain(x)
    out = empty(values.shape, x.dtype)
    threshold, one = np.uint32(int(p * 2**32)), x.dtype.type(1)
    scale = one / (one - x.dtype.type(p))
    source = np.array((seed, offset), np.uint64)
    tape = current()
    if tape is not None:
        tape.streams.append((source, seed, offset))
    _dropout(pool(), values.reshape(-1), out.reshape(-1), threshold, scale, source, words_at_once())
    return out if values is x else arranged(out, x)


def dropout_backward(grad, p, seed, offset):
    return dropout(grad, p, seed, offset)
