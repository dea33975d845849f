"""Matrix product with bias and activation, and its gradients, on the register tile of ``tile.py``.

All three products are C = A B with B and C in rows: X W, X' dY (A's rows are then columns of memory), dY
W'. Work is cut into blocks of rows of C. Every element is reduced by one task from the first term to the
last, so its value depends on neither the cut nor the threads.

Three things keep the operands of a tile in the caches, each where it pays: the reduction is taken in blocks
of `_DEPTH` terms, C standing in between; where many rows of A will pass, B is first copied into panels as
wide as a tile (a row of B elsewhere begins a page later, and a page apart is the same cache set); and a
transposed block of A is copied likewise.
"""

from __future__ import annotations

import numpy as np

from ._jit import inline, jit
from ._memory import empty, plain
from .activation import CODES, finish
from .threads import parallel_for, pool, share_out
from .tile import multiply, panels

_FLOPS = 400_000  # of a task at least, about 2 µs: four times what handing it out costs
_DEPTH = 512  # terms of the reduction in one block at most, and where a transposed block is copied
_BLOCK = 16384  # elements of A in one block: half the L1 cache in float32
_PACK_ROWS = 96  # of C, from which on B is packed
_PACKED_BLOCK = 240  # rows of C in one task at most where B is packed
_STRIPE = 16  # rows of a transpose in one task: a cache line of what is read
_COPY_COLUMNS, _COPY_DEPTH = 96, 256  # of C and of the reduction, from which on a transposed block is copied


@inline
def _pack_panel(p, width, b, packed):
    """Copy columns ``p*width ...`` of `b` to consecutive memory, panel after panel."""
    K, N = b.shape
    first = p * width
    columns = min(width, N - first)
    panel = packed[K * first : K * (first + columns)]
    for k in range(K):
        for j in range(columns):
            panel[k * columns + j] = b[k, first + j]


@inline
def _rows_task(t, block, tiles, a, transposed, b, packed, bias, c, code):
    size = a.itemsize
    K, N = b.shape
    first = t * block
    rows = min(block, c.shape[0] - first)
    width = tiles[0] * tiles[1] if packed.size else N
    bias_at = bias.ctypes.data if bias.size else 0
    copying = transposed and N >= _COPY_COLUMNS and K >= _COPY_DEPTH
    copied = np.empty((min(_DEPTH, K), rows) if copying else (1, 1), a.dtype)
    stride, a_k = (1, rows if copying else c.shape[0]) if transposed else (K, 1)
    table = stride * np.arange(rows)
    no_offset = np.zeros(1, np.int64)
    step = _DEPTH if transposed else max(128, min(_DEPTH, _BLOCK // max(rows, 1)))
    for k in range(0, max(K, 1), step):
        depth = min(step, K - k)
        A = a.ctypes.data + (k * c.shape[0] + first if transposed else first * K + k) * size
        if copying:
            for r in range(depth):
                copied[r] = a[k + r, first : first + rows]
            A = copied.ctypes.data
        for j in range(0, N, width):
            columns = min(width, N - j)
            B = b.ctypes.data + k * N * size
            if packed.size:
                B = packed.ctypes.data + (K * j + k * columns) * size
            bias_here = bias_at + j * size if bias_at and k == 0 else 0
            last = k + depth >= K
            multiply(tiles, c.ctypes.data + (first * N + j) * size, N, A, table, a_k, no_offset, 1, depth, B,
                     columns, bias_here, rows, columns, 1 if k else 0, code == 1 and last, size)  # fmt: skip
    finish(c[first : first + rows].reshape(rows * N), code)


@inline
def _product(pool, tiles, a, transposed, b, bias, c, code):
    """``c = A b + bias``, A being `a` or its transpose, then the activation of that code."""
    M, N = c.shape
    width = tiles[0] * tiles[1]
    packing = width < N and M >= _PACK_ROWS
    packed = np.empty(b.size if packing else 0, b.dtype)
    count = share_out(pool, M, 2.0 * M * b.size, _FLOPS)
    if packing:
        parallel_for(pool, (N + width - 1) // width, _pack_panel, (width, b, packed))
        count = max(count, M // _PACKED_BLOCK)
    block = (M + count - 1) // max(count, 1)
    parallel_for(pool, count, _rows_task, (block, tiles, a, transposed, b, packed, bias, c, code))


@jit
def _forward(pool, tiles, x, weight, bias, out, code):
    _product(pool, tiles, x, False, weight, bias, out, code)


@inline
def _column_sums(matrix, sums):
    """``sums[j] = matrix[0, j] + matrix[1, j] + ...``, row after row."""
    for j in range(sums.size):
        sums[j] = 0
    for i in range(matrix.shape[0]):
        for j in range(sums.size):
            sums[j] += matrix[i, j]


@inline
def _transpose_rows(t, matrix, transposed):
    first = t * _STRIPE
    for i in range(matrix.shape[0]):
        for j in range(first, min(first + _STRIPE, matrix.shape[1])):
            transposed[j, i] = matrix[i, j]


@jit
def _backward(pool, tiles, grad, x, weight, grad_weight, grad_bias, grad_x, input_grad):
    nothing = grad_bias[:0]
    _product(pool, tiles, x, True, grad, nothing, grad_weight, 0)
    _column_sums(grad, grad_bias)
    if input_grad:
        K, N = weight.shape
        turned = np.empty((N, K), weight.dtype)
        parallel_for(pool, (N + _STRIPE - 1) // _STRIPE, _transpose_rows, (weight, turned))
        _product(pool, tiles, grad, False, turned, nothing, grad_x, 0)


def linear(x, weight, bias, activation):
    x, weight = plain(x), plain(weight)
    out = empty((x.shape[0], weight.shape[1]), x.dtype)
    bias = none(x.dtype) if bias is None else plain(bias)
    _forward(pool(), panels(x.itemsize), x, weight, bias, out, CODES[activation])
    return out


def linear_backward(grad, x, weight, input_grad, out=None):
    grad, x, weight = plain(grad), plain(x), plain(weight)
    grad_weight, grad_bias = out or (np.empty(weight.shape, x.dtype), np.empty(weight.shape[1], x.dtype))
    dense = grad_weight if grad_weight.flags.carray else np.empty(weight.shape, x.dtype)
    sums = grad_bias if grad_bias.flags.carray else np.empty(grad_bias.shape, x.dtype)
    grad_x = empty(x.shape, x.dtype) if input_grad else none_2d(x.dtype)
    _backward(pool(), panels(x.itemsize), grad, x, weight, dense, sums, grad_x, input_grad)
    if dense is not grad_weight:
        grad_weight[:] = dense
    if sums is not grad_bias:
        grad_bias[:] = sums
    return grad_x if input_grad else None, grad_weight, grad_bias


_NONE = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}
_NONE_2D = {dtype: nothing.reshape(0, 1) for dtype, nothing in _NONE.items()}


def none(dtype: np.dtype) -> np.ndarray:
    """An empty array in the place of an absent bias: kernels are compiled for arrays, not for None."""
    return _NONE[dtype]


def none_2d(dtype: np.dtype) -> np.ndarray:
    """The same in the place of a matrix."""
    return _NONE_2D[dtype]
