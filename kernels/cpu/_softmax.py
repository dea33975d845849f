"""Softmax and its logarithm: rows of exponentials, scaled to the sum of one.

A vector is as wide as 16 classes, and most networks have fewer. Some rows are therefore worked on together
(``_rows.py``): few enough that the memory of the next is fetched while these are computed, so many that one
step does not wait for the result of the last.
"""

from __future__ import annotations

import functools

import numpy as np

from ._jit import inline, jit, wide_vectors
from ._math import exp, exp_nonpositive, like, log
from ._memory import empty_like, on_a_line, plain, whole_vectors
from ._rows import copy_rows, largest_of_rows, out_minus, out_times, rows_minus, sums_of_rows
from ._turn import lanes_of
from .threads import parallel_for, pool

_CHUNK = 4096  # elements in a task
_SHORT = 64  # columns
_LANES = 16  # of the widest vectors
_TOGETHER = 2  # rows of a group, in lanes of a vector
_AT_ONCE = 4  # vectors in which a long row's maximum is sought: each waits for itself only


@inline
def one_a_row(x, real):
    """Memory for a number of each row of `x`, in whole groups of floats of the type of `real`."""
    return on_a_line(whole_vectors(x.shape[0], _TOGETHER * lanes_of(real)), x)


@inline
def log_of_total(total):
    """log of a sum of exponentials of which the largest is one, or of NaN."""
    return log(total) if total == total else total


@inline
def _short_rows(x, out, peaks, totals, scale, logarithm):
    wide_vectors()
    (count, columns), width, size = x.shape, lanes_of(scale), x.itemsize
    row, group = whole_vectors(columns, width), _TOGETHER * width
    memory = on_a_line((2 * row + 1) * group, x)
    exponents, powers, factors = memory[: row * group], memory[row * group :][: row * group], memory[-group:]
    held, power, factor = exponents.ctypes.data, powers.ctypes.data, factors.ctypes.data
    for first in range(0, count, group):
        rows, place = min(group, count - first), first * columns * size
        source, apart, target = x.ctypes.data + place, columns, out.ctypes.data + place
        peak, total = peaks[first : first + group], totals[first : first + group]
        if rows < group:  # the last ones, copied to where as many as there are lanes can be read
            copy_rows(scale, source, columns, rows, columns, factor, held, row)
            source, apart = held, row
        for i in range(0, group, width):
            largest_of_rows(scale, source + i * apart * size, apart, columns, peak.ctypes.data + i * size)
        rows_minus(scale, source, apart, group, columns, peak.ctypes.data, held, row)
        for i in range(powers.size):
            powers[i] = exp_nonpositive(exponents[i])
        for i in range(0, group, width):
            sums_of_rows(scale, power + i * row * size, row, columns, total.ctypes.data + i * size)
        if logarithm:
            for i in range(group):
                factors[i] = log_of_total(total[i])
            out_minus(scale, held, row, rows, columns, factor, target, columns)
        else:
            for i in range(group):
                factors[i] = scale / total[i]
            out_times(scale, power, row, rows, columns, factor, target, columns)


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
            result[j] = exp_nonpositive(row[j] - peak)
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
