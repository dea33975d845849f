"""Dropout from a counter-based random stream: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011).

The four words of block b depend on (seed, offset, b) alone, so tasks need no shared state, backward makes
the mask again instead of storing it, and every backend draws the same one. Element i, in C order, is word i
mod 4 of block i div 4.
"""

from __future__ import annotations

import numpy as np

from ._jit import inline, jit
from ._math import like
from ._memory import arranged, empty, plain
from ._tape import current, moved_by_python
from .threads import parallel_for, pool

_CHUNK = 8192  # elements in a task: a multiple of 4
_M0, _M1 = (
    np.uint64(0xD2511F53),
    np.uint64(0xCD9E8D57),
)  # the multipliers and the key's increments of the paper
_W0, _W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_32 = np.uint64(32)


@inline
def philox(c0, c1, c2, c3, k0, k1):
    """Ten rounds on the counter (c0, c1, c2, c3) under the key (k0, k1); all uint32."""
    for _ in range(10):
        p0 = _M0 * np.uint64(c0)
        p1 = _M1 * np.uint64(c2)
        c0, c1, c2, c3 = (
            np.uint32(np.uint32(p1 >> _32) ^ c1 ^ k0),
            np.uint32(p1),
            np.uint32(np.uint32(p0 >> _32) ^ c3 ^ k1),
            np.uint32(p0),
        )
        k0, k1 = np.uint32(k0 + _W0), np.uint32(k1 + _W1)
    return c0, c1, c2, c3


@inline
def _dropout_chunk(t, x, out, threshold, scale, key, stream):
    begin, end = t * _CHUNK, (t + 1) * _CHUNK
    values, result = x[begin:end], out[begin:end]
    blocks = (values.size + 3) // 4
    # A row for each word of a block, so that blocks are the lanes of vectors
    words = np.empty((4, blocks), np.uint32)
    w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
    first = np.uint64(begin // 4)
    for b in range(blocks):
        block = first + np.uint64(b)
        drawn = philox(np.uint32(block), np.uint32(block >> _32), stream[0], stream[1], key[0], key[1])
        w0[b], w1[b], w2[b], w3[b] = drawn
    zero = like(scale, 0)
    for b in range(values.size // 4):
        i = 4 * b
        result[i] = values[i] * scale if w0[b] >= threshold else zero
        result[i + 1] = values[i + 1] * scale if w1[b] >= threshold else zero
        result[i + 2] = values[i + 2] * scale if w2[b] >= threshold else zero
        result[i + 3] = values[i + 3] * scale if w3[b] >= threshold else zero
    for i in range(values.size // 4 * 4, values.size):
        result[i] = values[i] * scale if words[i % 4, i // 4] >= threshold else zero


@jit
def _dropout(pool, x, out, threshold, scale, source):
    key = (np.uint32(source[0]), np.uint32(source[0] >> _32))
    stream = (np.uint32(source[1]), np.uint32(source[1] >> _32))
    parallel_for(
        pool, (x.size + _CHUNK - 1) // _CHUNK, _dropout_chunk, (x, out, threshold, scale, key, stream)
    )


def dropout(x, p, seed, offset):
    if p >= 1:
        moved_by_python()
        return np.zeros_like(x, subok=False)
    values = plain(x)
    out = empty(values.shape, x.dtype)
    threshold = np.uint64(int(p * 2**32))  # at p = 1 no word reaches it
    one = x.dtype.type(1)
    scale = one / (one - x.dtype.type(p)) if p < 1 else x.dtype.type(0)
    source = np.array((seed, offset), np.uint64)
    tape = current()
    if tape is not None:
        tape.streams.append((source, seed, offset))
    _dropout(pool(), values.reshape(-1), out.reshape(-1), threshold, scale, source)
    return out if values is x else arranged(out, x)


def dropout_backward(grad, p, seed, offset):
    return dropout(grad, p, seed, offset)
