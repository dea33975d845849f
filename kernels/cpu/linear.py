"""Matrix product with bias and activation, and its gradients, on the register tile of ``tile.py``.

All three products are C = A B with B and C in rows: X W, X' dY (A's rows are then columns of memory), dY
W'. Work is cut into blocks of rows of C and, where B is large and C is low, the reduction into parts, whose
sums are added in order (``_parts.py``). Into how many depends on the shape alone, and every part is summed by
one task from its first term to its last: no result depends on the threads.

What keeps the operands of a tile in the caches: the reduction is taken in blocks of some hundred terms, C
standing in between. Where A comes from memory, the first panel of B fetches a few long rows of it into the L2
cache for the others. Of a transpose each term is on another page, which no processor sees coming: while the
tile multiplies one block, it asks for the next. And where many rows of A will pass, B may be copied into
panels first (``_packing.py``).

Where B would be a weight of few columns, ``_linear_narrow.py`` takes over; where X is mostly zeros, so does
``_mostly_zeros.py``.
"""

from __future__ import annotations

import math

import numpy as np

from . import _linear_narrow, _mostly_zeros
from ._jit import inline, jit
from ._math import like
from ._memory import (
    aligned,
    copy,
    empty,
    in_channels_last,
    nhwc,
    on_a_line,
    plain,
    turn_images,
    whole_vectors,
)
from ._packing import (
    BLOCKWISE,
    IN_PLACE,
    LARGE,
    WHOLE,
    count_of_panels,
    edges_of_panels,
    far,
    pack,
    pack_all,
    packing,
    streamed,
)
from ._parts import FLOPS, add_up_parts, parts_of
from ._rows import column_sums
from ._tape import moved_by_python
from ._turn import turn_part
from ._vectors import LINE
from .activation import RELU, code_of, finish
from .threads import parallel_for, pool, share_out
from .tile import NOTHING, lanes, multiply, panels

_DEEPER, _DEEPEST = 320, 512  # terms of a block where A comes from memory: of a transpose, and of rows
_BLOCK = 1 << 19  # bytes of C in one task
_LOWEST, _TALLEST = 64, 512  # rows of C in one task, where there are many
_COLUMNS_FAR = 192  # the same of a transpose from memory, whose _DEEPER terms fill a quarter of the L2 cache
_ROWS_FAR = 96  # the same of rows from memory
_COPIED_PANELS = 8  # of B, beyond which copying A pays with any vectors
_STRIPE = 64  # rows of a weight that a task transposes


@inline
def _blocks(a, transposed, tiles, b):
    """(terms, rows): the reduction's block, and the most rows of C in a task (0: no matter)."""
    if not far(a):
        return streamed(b, tiles), 0
    return (_DEEPER, _COLUMNS_FAR) if transposed else (_DEEPEST, _ROWS_FAR)


@inline
def _asks(a, transposed):
    """Whether a tile asks for the next block of A, and of B."""
    return transposed and far(a)


@inline
def _turns(a, transposed, most, block):
    """The terms of a block, `most` at most, where a task has `block` rows of C, as (turns, terms in each):
    one turn, or where a tile asks, one for each row of the next block, a term for each cache line of it."""
    lines = block * a.itemsize // LINE + 2  # of a row, wherever it begins
    return (most // lines, lines) if _asks(a, transposed) else (1, most)


@inline
def _copies(a, transposed, tiles, b):
    """Whether a task copies the block of A at hand: where it comes from memory and is a transpose, for many
    panels of B, or for tiles narrow enough to wait for the L2 cache.

    What a tile reads of a transpose often lies in a single set of the L1 cache, and is gone when the next
    tile needs the rest of these lines.
    """
    narrow = tiles[0] * a.itemsize < LINE
    return _asks(a, transposed) and (narrow or count_of_panels(b.shape[1], tiles) > _COPIED_PANELS)


@inline
def _rows_task(t, block, turns, lines, tiles, a, transposed, b, how, edges, packed, bias, c, sums, code):
    # sums: (parts, M, N), or nothing where the one part is C itself
    size = a.itemsize
    (M, N), K = c.shape, b.shape[0]
    blocks, parts = (M + block - 1) // block, max(len(sums), 1)
    part, first = t // blocks, t % blocks * block
    begin, end = part * K // parts, (part + 1) * K // parts
    rows = min(block, M - first)
    out = sums[part].ctypes.data if len(sums) else c.ctypes.data
    bias_at = bias.ctypes.data if bias.size else 0
    count = edges.size - 1
    stride, a_k = (1, M) if transposed else (K, 1)
    most = turns * lines
    # Rows an odd number of cache lines apart fall into all of the cache's sets
    wide = (block + 31) // 32 * 32 + LINE // size
    copying = _copies(a, transposed, tiles, b)
    near = on_a_line(most * wide if copying else 0, a).reshape(most if copying else 0, wide)
    a_k = wide if copying else a_k
    table = stride * np.arange(rows)
    block_of_b = on_a_line(most * edges[count] if how == BLOCKWISE else 0, a)
    offsets = lines * a_k * np.arange(turns)
    for k in range(begin, max(end, begin + 1), most):
        depth = min(most, end - k)
        A = a.ctypes.data + (k * M + first if transposed else first * K + k) * size
        A_next = A + depth * M * size
        if copying:
            for i in range(depth):
                copy(a[k + i, first : first + rows], near[i, :rows])
            A = near.ctypes.data
        panels_at = packed.ctypes.data + k * edges[count] * size
        if how == BLOCKWISE:
            panels_at = block_of_b.ctypes.data
            pack(edges, b, k, depth, 0, depth, block_of_b)
        coming = min(most, end - k - depth) if _asks(a, transposed) else 0
        relu = code == RELU and k + depth >= K and not len(sums)
        for p in range(count):
            j, columns = edges[p], min(edges[p + 1], N) - edges[p]
            B, b_k = b.ctypes.data + k * b.shape[1] * size, b.shape[1]
            if how != IN_PLACE:
                B, b_k = panels_at + j * depth * size, edges[p + 1] - j
            bias_here = bias_at + j * size if bias_at and k == 0 else 0
            needed = NOTHING
            if p == 0 and coming:
                needed = A_next, M * size, A_next + coming * M * size
            elif p == 1 and coming and how != IN_PLACE:
                of_b, row = packed.ctypes.data, edges[count]
                if how == BLOCKWISE:
                    of_b, row = b.ctypes.data, b.shape[1]
                B_next = of_b + (k + depth) * row * size
                needed = B_next, lines * LINE, B_next + coming * row * size
            S, terms = (turns, lines) if needed[0] else (1, depth)
            multiply(tiles, out + (first * N + j) * size, N, A, table, a_k, offsets, S, terms, B, b_k,
                     bias_here, rows, columns, 1 if k > begin else 0, relu, size, needed)  # fmt: skip
    if not len(sums):
        finish(c[first : first + rows].reshape(rows * N), code)


@jit
def _product(pool, tiles, a, transposed, b, bias, c, code, sums_of_b, room, done):
    """``c = A b + bias``, A being `a` or its transpose, then the activation of that code; and the sums of the
    columns of `b`, as many as `sums_of_b` has room for. Rows of `b` may be longer than those of `c`. `room`:
    for a copy of `b` in whole vectors, or empty.

    One kernel for all three products, that it is compiled once. With `done`, `c` is left as it is."""
    (M, N), K = c.shape, b.shape[0]
    how = packing(a, M, transposed, tiles, b, room.size > 0)
    edges = edges_of_panels(N, 1 if how == IN_PLACE else count_of_panels(N, tiles), tiles[0])
    parts = parts_of(M, K, b)
    sums = np.empty((parts if parts > 1 else 0, M, N), a.dtype)
    # Each task reads all of B, or of its part: with many rows, few tall blocks, as many for each thread
    terms, tallest = _blocks(a, transposed, tiles, b)
    tallest = tallest or max(_LOWEST, min(_TALLEST, _BLOCK // max(N * a.itemsize, 1)))
    work = 2.0 * M * b.size
    tasks = share_out(pool, M, work, FLOPS, 8 if M <= 2 * _LOWEST else 2)
    threads = max(1, share_out(pool, M, work, FLOPS, 1))
    blocks = max((tasks + parts - 1) // parts, (M // tallest + threads - 1) // threads * threads)
    block = (M + blocks - 1) // max(blocks, 1)
    turns, lines = _turns(a, transposed, terms, block)
    packed = room if how == WHOLE and room.size else on_a_line(K * edges[-1] if how == WHOLE else 0, b)
    summed, needed = b, done[0] == 0
    if how == WHOLE and (needed or sums_of_b.size > 0):
        summed = pack_all(pool, parts, turns * lines, edges, b, packed, sums_of_b.size > 0)
    arguments = (block, turns, lines, tiles, a, transposed, b, how, edges, packed, bias, c, sums, code)
    parallel_for(pool, parts * ((M + block - 1) // max(block, 1)) if needed else 0, _rows_task, arguments)
    if parts > 1 and needed:
        add_up_parts(pool, c, sums, code)
    column_sums(summed, sums_of_b)


@inline
def _turn_rows(t, matrix, turned):
    first, (rows, columns), size = t * _STRIPE, matrix.shape, matrix.itemsize
    own, out = matrix.ctypes.data + first * columns * size, turned.ctypes.data + first * size
    count = min(_STRIPE, rows - first)
    turn_part(like(matrix[0, 0], 0), own, columns, count, columns, out, turned.shape[1])


@jit
def _turn(pool, matrix, turned):
    parallel_for(pool, (len(matrix) + _STRIPE - 1) // _STRIPE, _turn_rows, (matrix, turned))


def _turned(weight):
    """Memory for the transpose of `weight`. Its rows, an odd number of cache lines, fall into all sets."""
    (K, N), line = weight.shape, LINE // weight.itemsize
    return aligned((N, (-(-K // line) | 1) * line), weight.dtype)


def _room(x, grad):
    """Memory for a copy of `grad` in panels, where the product X' dY has use for one.

    The C library would give as large a block back to the system each time.
    """
    (K, N), M, width = grad.shape, x.shape[1], lanes(grad.itemsize)
    many = M >= 2 * _COLUMNS_FAR and far.py_func(x) and grad.nbytes >= LARGE
    return empty((K * whole_vectors.py_func(N, width),), grad.dtype) if many else none(grad.dtype)


def linear(x, weight, bias, activation):
    x, weight = plain(x), plain(weight)
    out = empty((x.shape[0], weight.shape[1]), x.dtype)
    nothing = none(x.dtype)
    bias = nothing if bias is None else plain(bias)
    code = code_of(activation, x.itemsize)
    if _linear_narrow.pays(*x.shape, weight.shape[1]):
        _linear_narrow.forward(x, weight, bias, out, code)
    else:
        done = _mostly_zeros.NEVER
        if _mostly_zeros.possible(x.shape, weight.shape[1]):
            done = _mostly_zeros.product(x, False, weight, bias, out, code)
        _product(pool(), panels(x.itemsize), x, False, weight, bias, out, code, nothing, nothing, done)
    return out


def linear_backward(grad, x, weight, input_grad, out=None):
    grad, x, weight = plain(grad), plain(x), plain(weight)
    grad_weight, grad_bias = out or (np.empty(weight.shape, x.dtype), np.empty(weight.shape[1], x.dtype))
    dense = grad_weight if grad_weight.flags.carray else np.empty(weight.shape, x.dtype)
    sums = grad_bias if grad_bias.flags.carray else np.empty(grad_bias.shape, x.dtype)
    nothing = none(x.dtype)
    if _linear_narrow.pays(*x.shape, weight.shape[1]):
        _linear_narrow.backward(x, grad, dense, sums)
    else:
        done, room = _mostly_zeros.NEVER, _room(x, grad)
        if not room.size and _mostly_zeros.possible(x.shape, weight.shape[1]):
            done = _mostly_zeros.product(x, True, grad, nothing, dense, 0)
        _product(pool(), panels(x.itemsize), x, True, grad, nothing, dense, 0, sums, room, done)
    grad_x = None
    if input_grad:
        grad_x, turned = empty(x.shape, x.dtype), _turned(weight)
        _turn(pool(), weight, turned)
        _product(pool(), panels(x.itemsize), grad, False, turned, nothing, grad_x, 0, nothing, nothing,
                 _mostly_zeros.NEVER)  # fmt: skip
    if dense is not grad_weight:
        grad_weight[:] = dense
    if sums is not grad_bias:
        grad_bias[:] = sums
    return grad_x, grad_weight, grad_bias


def flatten(x):
    if not in_channels_last(x):
        if not x.flags.c_contiguous:
            moved_by_python()
        return x.reshape(len(x), math.prod(x.shape[1:]))
    N, C, H, W = x.shape
    out = empty((N, C * H * W), x.dtype)
    turn_images(pool(), nhwc(x).reshape(N, H * W, C, 1), out.reshape(N, C, 1, H * W))
    return out


_NONE = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}
_NONE_2D = {dtype: nothing.reshape(0, 1) for dtype, nothing in _NONE.items()}


def none(dtype: np.dtype) -> np.ndarray:
    """An empty array in the place of an absent bias: kernels are compiled for arrays, not for None."""
    return _NONE[dtype]


def none_2d(dtype: np.dtype) -> np.ndarray:
    """The same in the place of a matrix."""
    return _NONE_2D[dtype]
