"""Softmax and its logarithm: rows of exponentials, scaled to the sum of one.

A vector is as wide as 16 classes, and most networks have fewer: some of such short rows are worked on
together (``_rows.py``).
"""

from __future__ import annotations

import functools

import numpy as np

from ._each import each
from ._jit import EXACT, inline, jit, wide_vectors
from ._math import exp, exp_nonpositive, like, log
from ._memory import copy, empty_like, on_a_line, plain, whole_vectors
from ._rows import KINDS, PEAKS, TOTALS, group_of, longest, make_minus, make_peaks, make_softmax
from ._turn import lanes_of
from .threads import parallel_for, pool
from .tile import lanes

_CHUNK = 2048  # elements in a task: what its rows and results take of the L1 cache leaves room for more
_KINDS = len(KINDS)
_LANES = 16  # of the widest vectors, and no fewer than rows of a group
_AT_ONCE = 4  # vectors in which a long row's maximum is sought: each waits for itself only


@inline
def numbers_of(x, more):
    """Memory for numbers of each row of `x`, of each of the `KINDS` in whole groups, and for some `more`: of
    one piece, which lives as long as any of it is in use."""
    count = whole_vectors(x.shape[0], _LANES)
    memory = on_a_line(_KINDS * count + more, x)
    return memory[: _KINDS * count].reshape((_KINDS, count)), memory[_KINDS * count :]


@inline
def log_of_total(total):
    """log of a sum of exponentials of which the largest is one, or of NaN."""
    return log(total) if total == total else total


@inline(fastmath=EXACT)
def log_share(x, peak, log_total):
    """log softmax(x), the peak being taken off first: beside it, both others may be small."""
    return (x - peak) - log_total


@inline
def _nothing_ahead(scale, x, columns, peaks):
    pass


def _make_in_groups(itemsize, count, group, ahead=_nothing_ahead):
    """A function that has `group`, an intrinsic of ``_rows.py`` for rows of `count` vectors, do its work on
    all rows of `x`, and before it `ahead` what can be done for the next. Where vectors would reach beyond the
    last row, they work on copies."""
    width, height = lanes(itemsize), group_of(itemsize)

    @inline(fastmath=EXACT)  # which emitted code takes over from who calls it
    def in_groups(x, out, numbers, scale, taken):
        (rows, columns), values, results = x.shape, x.reshape(-1), out.reshape(-1)
        reach = (height - 1) * columns + count * width
        copying = (rows - 1) // height * height * columns + reach > values.size  # the last group
        held = on_a_line(reach, x) if copying else values  # memory costs a short task a twentieth of its time
        peaks, apart = numbers.ctypes.data, numbers.shape[1] * itemsize
        for row in range(-height, rows, height):
            first, end = row * columns, min((row + height) * columns, values.size)
            source, target = values.ctypes.data + first * itemsize, results.ctypes.data + first * itemsize
            peak = peaks + row * itemsize
            if end + reach <= values.size:
                ahead(scale, values.ctypes.data + end * itemsize, columns, peak + height * itemsize)
            if row < 0:
                continue
            copied = first + reach > values.size
            if copied:
                copy(values[first:end], held[: end - first])
                source = target = held.ctypes.data
                ahead(scale, source, columns, peak)
            group(scale, source, columns, peak, apart, taken, target)
            if copied:
                copy(held, results[first:end])

    return in_groups


def _make_short_rows(itemsize, count, result):
    in_groups, peaks = functools.partial(_make_in_groups, itemsize, count), make_peaks(itemsize, count)
    if result != "logarithms":
        softmax = in_groups(make_softmax(itemsize, count, result), peaks)

        @inline
        def short_rows(x, out, numbers, scale, taken):
            wide_vectors()
            softmax(x, out, numbers, scale, taken)

        return short_rows

    sums, minus = (
        in_groups(make_softmax(itemsize, count, "sums"), peaks),
        in_groups(make_minus(itemsize, count)),
    )

    @inline
    def logarithms_of_short_rows(x, out, numbers, scale, taken):
        wide_vectors()
        sums(x, out, numbers, scale, taken)
        totals = numbers[TOTALS]
        for i in range(x.shape[0]):  # of all rows at once: of a few, one would wait for it
            totals[i] = log_of_total(totals[i])
        minus(x, out, numbers, scale, taken)

    return logarithms_of_short_rows


@inline
def _power(x, peak):
    return exp_nonpositive(x - peak)


def _make_long_rows(logarithm):
    @inline
    def long_rows(x, out, numbers, scale, taken):
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
            each(_power, result, (row, peak))
            total = like(scale, 0)
            for j in range(row.size):
                total += result[j]
            if logarithm:
                shift = log_of_total(total)
                for j in range(row.size):
                    result[j] = log_share(row[j], peak, shift)
            else:
                factor = scale / total
                for j in range(row.size):
                    result[j] *= factor
            numbers[PEAKS, i], numbers[TOTALS, i] = peak, total

    return long_rows


def rows_in_task(columns):
    """How many rows of so many columns a task has: whole groups of short ones."""
    rows = max(1, _CHUNK // columns)
    return rows // _LANES * _LANES or rows


def vectors_of(columns, itemsize):
    """How many vectors a short row of so many columns has, 0 if it is a long one."""
    return -(-columns // lanes(itemsize)) if columns <= longest(itemsize) else 0


@functools.cache
def softmax_of_rows(vectors, itemsize, result):
    """The function (x, out, numbers, scale, taken) for rows of so many vectors, and its name.

    It writes the `result` to `out`: ``scale * softmax(x)`` ("shares"), ``log softmax(x)`` ("logarithms"), or
    of short rows only, ``scale * softmax(x)`` less `scale` at the row's label ("gradient"). With a NaN in a
    row its results are NaN.

    `numbers`, of :func:`numbers_of`, are left with each row's maximum and the sum of ``exp(x - maximum)``,
    after logarithms with nothing of use. For a gradient they have the labels, as integers as wide as the
    floats, and are left with ``x - maximum`` at the label in place of the maximum; `taken` is the address of
    ``-scale`` among zeros, as many before and behind it as a row's vectors have lanes less one. Other results
    have no use for it.
    """
    if vectors == 0:
        return _make_long_rows(result == "logarithms"), "long rows"
    return _make_short_rows(itemsize, vectors, result), f"rows of {vectors} vectors of {lanes(itemsize)}"


@functools.cache
def _kernel(vectors, itemsize, logarithm):
    result = "logarithms" if logarithm else "shares"
    of_rows, name = softmax_of_rows(vectors, itemsize, result)

    @inline
    def task(t, rows, x, out, scale):
        x, out = x[t * rows : (t + 1) * rows], out[t * rows : (t + 1) * rows]
        of_rows(x, out, numbers_of(x, 0)[0], scale, 0)

    @functools.partial(jit, variant=f"{name}, {result}")
    def kernel(pool, rows, x, out, scale):
        parallel_for(pool, (x.shape[0] + rows - 1) // rows, task, (rows, x, out, scale))

    return kernel


def _softmax(pool, x, out, logarithm):
    kernel = _kernel(vectors_of(x.shape[1], x.itemsize), x.itemsize, logarithm)
    kernel(pool, rows_in_task(x.shape[1]), x, out, x.dtype.type(1))


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
