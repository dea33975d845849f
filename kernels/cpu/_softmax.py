"""Softmax and its logarithm: rows of exponentials, scaled to the sum of one.

A vector is as wide as 16 classes, and most networks have fewer. Short rows are therefore turned: a task
transposes its part of the matrix (``_turn.py``), works on all rows at once, and transposes the results back.
"""

from __future__ import annotations

import functools

import numpy as np

from ._jit import inline, jit, wide_vectors
from ._math import exp, like, log
from ._memory import empty_like, on_a_line, plain, whole_vectors
from ._prefetch import prefetch
from ._turn import lanes_of, turn_part
from .threads import parallel_for, pool

_CHUNK = 2048  # elements in a task
_SHORT = 64  # columns
_LANES = 16  # of the widest vectors
_AT_ONCE = 4  # vectors in which a long row's maximum is sought: each waits for itself only
_LINE = 64  # bytes of a cache line


@inline
def one_a_row(x, real):
    """Memory for a number of each row of `x`, in whole vectors of floats of the type of `real`."""
    return on_a_line(whole_vectors(x.shape[0], lanes_of(real)), x)


@inline
def log_of_total(total):
    """log of a sum of exponentials of which the largest is one, or of NaN."""
    return log(total) if total == total else total


@inline
def _short_rows(x, out, peaks, totals, scale, logarithm):
    wide_vectors()
    (rows, columns), size = x.shape, x.itemsize
    wide = whole_vectors(rows, lanes_of(scale))  # the last vector's other lanes compute with zeros
    turned, factors = on_a_line(columns * wide, x).reshape(columns, wide), on_a_line(wide, x)
    turn_part(scale, x.ctypes.data, columns, rows, columns, turned.ctypes.data, wide)
    turned[:, rows:] = 0
    for i in range(wide):
        peaks[i] = turned[0, i]
        totals[i] = 0
    for j in range(1, columns):
        for i in range(wide):
            value = turned[j, i]
            peaks[i] = value if value > peaks[i] or value != value else peaks[i]
    # While this part is computed, the next is fetched: without, memory and arithmetic would take turns.
    ahead = x.size * size
    for j in range(columns):
        for line in range(j * rows * size, (j + 1) * rows * size, _LINE):
            prefetch(x.ctypes.data + ahead + line, False)
            prefetch(out.ctypes.data + ahead + line, True)
        for i in range(wide):
            shifted = turned[j, i] - peaks[i]
            power = exp(shifted)
            turned[j, i] = shifted if logarithm else power
            totals[i] += power
    for i in range(wide):
        factors[i] = log_of_total(totals[i]) if logarithm else scale / totals[i]
    for j in range(columns):
        for i in range(wide):
            turned[j, i] = turned[j, i] - factors[i] if logarithm else turned[j, i] * factors[i]
    turn_part(scale, turned.ctypes.data, wide, columns, rows, out.ctypes.data, columns)


@inline
def _long_rows(x, out, peaks, totals, scale, logarithm):
    wide_vectors()
    width = _AT_ONCE * lanes_of(scale)
    best = on_a_line(width, x)
    for i in range(x.shape[0]):
        row, result = x[i], out[i]
        whole = row.size // width * width
        best[:] = row[0]
        for j in range(0, whole, width):
            part = row[j : j + width]
            for lane in range(width):
                value = part[lane]
                best[lane] = value if value > best[lane] or value != value else best[lane]
        peak = best[0]
        for lane in range(width):
            peak = best[lane] if best[lane] > peak or best[lane] != best[lane] else peak
        for j in range(whole, row.size):
            peak = row[j] if row[j] > peak or row[j] != row[j] else peak
        for j in range(row.size):
            result[j] = exp(row[j] - peak)
        total = like(scale, 0)
        for j in range(row.size):
            total += result[j]
        if logarithm:
            shift = log_of_total(total)
            for j in range(row.size):
                result[j] = (row[j] - peak) - shift
        else:
            factor = scale / total
            for j in range(row.size):
                result[j] *= factor
        peaks[i], totals[i] = peak, total


def rows_in_task(columns):
    """How many rows of so many columns a task has: of short ones, whole vectors."""
    rows = max(1, _CHUNK // columns)
    return rows // _LANES * _LANES if columns <= _SHORT else rows


def rows_of(columns):
    """The function (x, out, peaks, totals, scale, logarithm) for rows of so many columns, and its name.

    It writes ``scale * softmax(x)`` to `out`, or with `logarithm` ``log softmax(x)``; each row's maximum to
    `peaks`, and to `totals` the sum of ``exp(x - maximum)``, both made by :func:`one_a_row`. A NaN wins the
    maximum, and then stays: nothing is greater.
    """
    return (_short_rows, "short rows") if columns <= _SHORT else (_long_rows, "long rows")


@functools.cache
def _kernel(softmax_of_rows, name):
    @inline
    def task(t, rows, x, out, scale, logarithm):
        x, out = x[t * rows : (t + 1) * rows], out[t * rows : (t + 1) * rows]
        softmax_of_rows(x, out, one_a_row(x, scale), one_a_row(x, scale), scale, logarithm)

    @functools.partial(jit, variant=name)
    def kernel(pool, rows, x, out, scale, logarithm):
        parallel_for(pool, (x.shape[0] + rows - 1) // rows, task, (rows, x, out, scale, logarithm))

    return kernel


def _softmax(pool, x, out, logarithm):
    rows, scale = rows_in_task(x.shape[1]), x.dtype.type(1)
    _kernel(*rows_of(x.shape[1]))(pool, rows, x, out, scale, logarithm)


@inline
def _softmax_backward_rows(t, rows, grad, y, out):
    for i in range(t * rows, min((t + 1) * rows, y.shape[0])):
        dot = y.dtype.type(0)
        for j in range(y.shape[1]):
            dot += grad[i, j] * y[i, j]
        for j in range(y.shape[1]):
            out[i, j] = y[i, j] * (grad[i, j] - dot)


@inline
def _log_softmax_backward_rows(t, rows, grad, y, out):
    for i in range(t * rows, min((t + 1) * rows, y.shape[0])):
        total = y.dtype.type(0)
        for j in range(y.shape[1]):
            total += grad[i, j]
        for j in range(y.shape[1]):
            out[i, j] = grad[i, j] - exp(y[i, j]) * total


@jit
def _softmax_backward(pool, grad, y, out, logarithm):
    rows = max(1, _CHUNK // max(y.shape[1], 1))
    count = (y.shape[0] + rows - 1) // rows
    if logarithm:
        parallel_for(pool, count, _log_softmax_backward_rows, (rows, grad, y, out))
    else:
        parallel_for(pool, count, _softmax_backward_rows, (rows, grad, y, out))


def _rows(x, axis):
    """`x` as a C-contiguous matrix whose rows run along `axis`."""
    moved = np.moveaxis(x, axis, -1)
    return (
        plain(moved).reshape(-1, x.shape[axis]) if x.size else np.empty((0, max(x.shape[axis], 1)), x.dtype)
    )


def _along_rows(kernel, arrays, axis, logarithm):
    out = empty_like(arrays[0])
    moved = np.moveaxis(out, axis, -1)
    memory = moved if moved.flags.carray else np.empty(moved.shape, out.dtype)
    if out.size:
        kernel(pool(), *(_rows(a, axis) for a in arrays), memory.reshape(-1, out.shape[axis]), logarithm)
    if memory is not moved:
        moved[...] = memory
    return out


def softmax(x, axis):
    return _along_rows(_softmax, [x], axis, False)


def log_softmax(x, axis):
    return _along_rows(_softmax, [x], axis, True)


def softmax_backward(grad, out, axis):
    return _along_rows(_softmax_backward, [grad, out], axis, False)


def log_softmax_backward(grad, out, axis):
    return _along_rows(_softmax_backward, [grad, out], axis, True)
