"""Products with a weight of few columns: softmax regression, a network's last layer.

The register tile of ``tile.py`` has the weight's columns in its lanes: ten would leave six of sixteen empty,
and what it reads of X are pieces of twelve rows at a time, slower than they come from memory. Here X's
columns are in the lanes, and X is read as it lies, once:

    Y[i, j]   = sum over k of X[i, k] W'[j, k]      4 rows of X by 6 of W': 24 vectors of sums, each of whose
                                                    lanes are added up at the end of the rows
    dW'[j, k] = sum over i of dY[i, j] X[i, k]      12 rows of W' by 2 vectors of columns: 24 vectors of sums,
                                                    over some rows i before they go back to the cache

with W' the transpose of W. (On CPUs with 16 registers: 2 by 6, and 6 by 2.) Meanwhile the rows of X that
come next are asked for, as many as are at hand.

The rows of X are shared out, and of the second product either its columns or, if the rows are many, these in
parts of a number that the shape decides: no result depends on the threads.
"""

from __future__ import annotations

import functools

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._jit import inline, jit
from ._math import like
from ._memory import aligned
from ._parts import FLOPS
from ._rows import column_sums
from ._turn import turn_part
from ._vectors import Vectors, i64, prefetch
from .activation import apply
from .threads import parallel_for, pool, share_out
from .tile import lanes, registers

_MOST_COLUMNS = 12
_FEWEST_ROWS, _FEWEST_TERMS, _FEWEST = 64, 192, 100_000  # of X, from which on turning W and adding lanes pays
_VECTORS = 2  # in a panel of dW' columns
_PANELS = 128  # of columns in one task at most: the next rows of X still fit the L2 cache
_MANY_ROWS, _PARTS = 2048, 8  # from which on, and in how many parts, dW's sums are shared out by rows
_FEW_AT_ONCE, _MANY_AT_ONCE = 32, 16  # rows of X while dW's sums are in registers, in one part and in several
_ADDED = 100_000  # numbers in a task that adds up parts at least


def pays(rows, terms, columns):
    """Whether this way takes less time than the register tile, for X of `rows` x `terms`."""
    enough = rows >= _FEWEST_ROWS and terms >= _FEWEST_TERMS and rows * terms >= _FEWEST
    return 0 < columns <= _MOST_COLUMNS and enough


def _shares(columns, most):
    """`columns` in as few groups of at most so many as there can be, nearly equal: (of all but the last, of
    the last)."""
    groups = -(-columns // most)
    count = -(-columns // groups)
    return count, columns - (groups - 1) * count


def _make_dots(size, rows, count, fetched):
    """The intrinsic for a rectangle of Y, of `rows` and `count` columns:

        Y[r*y_r + j] = sum over k < terms of X[r*x_r + k] W'[j*w_j + k]

    W' has zeros up to whole vectors; strides count elements. Meanwhile it asks for `fetched` rows from
    address `ahead` on.
    """
    width = lanes(size)

    def emit(context, builder, signature, args):
        X, x_r, terms, W, w_j, Y, y_r, ahead = args
        vectors = Vectors(builder, size, width)
        pointer = vectors.real.as_pointer()
        x, w, y = (builder.inttoptr(address, pointer) for address in (X, W, Y))
        lines = [builder.gep(x, [builder.mul(x_r, i64(r))]) for r in range(rows)]
        columns = [builder.gep(w, [builder.mul(w_j, i64(j))]) for j in range(count)]
        coming = builder.inttoptr(ahead, pointer)
        coming = [builder.gep(coming, [builder.mul(x_r, i64(r))]) for r in range(fetched)]
        zero = vectors.constant(0)
        sums = [[cgutils.alloca_once_value(builder, zero) for _ in columns] for _ in lines]

        def add(k, mask=None):
            values = [vectors.load(builder.gep(line, [k]), mask) for line in lines]
            for line in coming:
                prefetch(builder, builder.gep(line, [k]))
            for j, column in enumerate(columns):
                factor = vectors.load(builder.gep(column, [k]))
                for value, held in zip(values, sums, strict=True):
                    builder.store(vectors.fmuladd(value, factor, builder.load(held[j])), held[j])

        whole = builder.and_(terms, i64(-width))
        with cgutils.for_range_slice(builder, i64(0), whole, i64(width), inc=True) as (k, _):
            add(k)
        with builder.if_then(builder.icmp_signed("<", whole, terms)):
            add(whole, vectors.below(builder.sub(terms, whole)))
        for r, held in enumerate(sums):
            for j, total in enumerate(held):
                place = builder.add(builder.mul(y_r, i64(r)), i64(j))
                builder.store(vectors.total(builder.load(total)), builder.gep(y, [place]))
        return context.get_dummy_value()

    @intrinsic
    def dots(typingctx, X, x_r, terms, W, w_j, Y, y_r, ahead):
        return types.void(*[types.int64] * 8), emit

    return dots


def _make_outer(size, nv, count):
    """The intrinsic for `count` rows of dW' and `nv` vectors of columns, of which `left` columns at most:

        dW'[j*w_j + k] (+)= sum over i < rows of dY[i*y_i + j] X[i*x_i + k]

    Meanwhile it asks for the same columns of as many rows that come next.
    """
    width = lanes(size)

    def emit(context, builder, signature, args):
        X, x_i, rows, Y, y_i, W, w_j, left, add = args
        vectors = Vectors(builder, size, width)
        pointer = vectors.real.as_pointer()
        x, y, w = (builder.inttoptr(address, pointer) for address in (X, Y, W))
        sums = [
            [cgutils.alloca_once_value(builder, vectors.constant(0)) for _ in range(nv)] for _ in range(count)
        ]
        ahead = builder.mul(x_i, rows)

        def at(j, v):
            return builder.gep(w, [builder.add(builder.mul(w_j, i64(j)), i64(v * width))])

        def panel(masks):
            with builder.if_then(builder.icmp_signed("!=", add, i64(0))):
                for j, held in enumerate(sums):
                    for v, total in enumerate(held):
                        builder.store(vectors.load(at(j, v), masks[v]), total)
            with cgutils.for_range(builder, rows) as loop:
                line = builder.gep(x, [builder.mul(loop.index, x_i)])
                factors = builder.gep(y, [builder.mul(loop.index, y_i)])
                values = []
                for v in range(nv):
                    start = builder.gep(line, [i64(v * width)])
                    values.append(vectors.load(start, masks[v]))
                    prefetch(builder, builder.gep(start, [ahead]))
                for j, held in enumerate(sums):
                    factor = vectors.splat(builder.load(builder.gep(factors, [i64(j)])))
                    for value, total in zip(values, held, strict=True):
                        builder.store(vectors.fmuladd(factor, value, builder.load(total)), total)
            for j, held in enumerate(sums):
                for v, total in enumerate(held):
                    vectors.store(builder.load(total), at(j, v), masks[v])

        with builder.if_else(builder.icmp_signed("<", left, i64(nv * width))) as (edge, inside):
            with edge:
                panel([vectors.below(builder.sub(left, i64(v * width))) for v in range(nv)])
            with inside:
                panel([None] * nv)
        return context.get_dummy_value()

    @intrinsic
    def outer(typingctx, X, x_i, rows, Y, y_i, W, w_j, left, add):
        return types.void(*[types.int64] * 9), emit

    return outer


@functools.cache
def _forward_kernel(size, columns):
    """The first product, for floats of `size` bytes and so many columns of W."""
    width, rows = lanes(size), 4 if registers() == 32 else 2
    count, _ = _shares(columns, 6)
    fetched = -(-rows // -(-columns // count))  # with each group of columns
    dots, last_dots = _make_dots(size, rows, count, fetched), _make_dots(size, 1, count, 0)

    @inline
    def task(t, tasks, x, turned, bias, out, code):
        (M, N), K, wide = out.shape, x.shape[1], turned.shape[1]
        first, end = t * M // tasks, (t + 1) * M // tasks
        for i in range(first, end, rows):
            X, Y = x.ctypes.data + i * K * size, out.ctypes.data + i * N * size
            ahead = X + rows * K * size
            for part in range(0, N, count):
                j = min(part, N - count)  # the last columns overlap with those before
                W = turned.ctypes.data + j * wide * size
                if i + rows <= end:
                    dots(X, K, K, W, wide, Y + j * size, N, ahead)
                    ahead += fetched * K * size
                else:
                    for r in range(end - i):
                        last_dots(X + r * K * size, K, K, W, wide, Y + (r * N + j) * size, N, 0)
        for i in range(first, end):
            for j in range(bias.size):
                out[i, j] += bias[j]
        apply(out[first:end].reshape((end - first) * N), code)

    @functools.partial(jit, variant=f"{size} bytes, {width} lanes, {columns} columns")
    def kernel(pool, x, weight, bias, turned, out, code):
        K, N = weight.shape
        turn_part(like(weight[0, 0], 0), weight.ctypes.data, N, K, N, turned.ctypes.data, turned.shape[1])
        turned[:, K:] = 0
        tasks = share_out(pool, len(x), 2.0 * len(x) * weight.size, FLOPS)
        parallel_for(pool, tasks, task, (tasks, x, turned, bias, out, code))

    return kernel


@functools.cache
def _backward_kernel(size, columns):
    """The second product, likewise."""
    width, nv = lanes(size), _VECTORS
    count, rest = _shares(columns, 12 if registers() == 32 else 6)
    outer, last_outer = _make_outer(size, nv, count), _make_outer(size, nv, rest)

    @inline
    def task(t, tasks, x, grad, sums):
        (parts, N, wide), (M, K) = sums.shape, x.shape
        panels, part, t = wide // (nv * width), t // tasks, t % tasks
        first, end = t * panels // tasks * nv * width, (t + 1) * panels // tasks * nv * width
        top, bottom = part * M // parts, (part + 1) * M // parts
        block = _FEW_AT_ONCE if parts == 1 else _MANY_AT_ONCE
        for i in range(top, bottom, block):
            rows, Y = min(block, bottom - i), grad.ctypes.data + i * N * size
            for k in range(first, end, nv * width):
                X, W = x.ctypes.data + (i * K + k) * size, sums[part].ctypes.data + k * size
                for j in range(0, N - rest, count):
                    outer(X, K, rows, Y + j * size, N, W + j * wide * size, wide, K - k, i - top)
                j = N - rest
                last_outer(X, K, rows, Y + j * size, N, W + j * wide * size, wide, K - k, i - top)

    @inline
    def add_task(t, tasks, sums, grad_weight):
        (parts, N, wide), K = sums.shape, len(grad_weight)
        first, end = t * K // tasks, (t + 1) * K // tasks
        for j in range(N):
            for part in range(1, parts):
                for k in range(first, end):
                    sums[0, j, k] += sums[part, j, k]
        out = grad_weight.ctypes.data + first * N * size
        real = like(sums[0, 0, 0], 0)
        turn_part(real, sums.ctypes.data + first * size, wide, N, end - first, out, N)

    @functools.partial(jit, variant=f"{size} bytes, {width} lanes, {columns} columns")
    def kernel(pool, x, grad, sums, grad_weight, grad_bias):
        parts, _, wide = sums.shape
        panels = wide // (nv * width)
        least = (panels + _PANELS - 1) // _PANELS
        work = 2.0 * len(x) * grad_weight.size
        tasks = least if parts > 1 else max(share_out(pool, panels, work, FLOPS, 2), least)
        parallel_for(pool, parts * tasks, task, (tasks, x, grad, sums))
        tasks = share_out(pool, len(grad_weight), parts * grad_weight.size, _ADDED, 1)
        parallel_for(pool, tasks, add_task, (tasks, sums, grad_weight))
        column_sums(grad, grad_bias)

    return kernel


def _turned(weight, parts=1):
    """Memory for `parts` transposes of `weight`, their rows in whole panels."""
    K, N = weight.shape
    panel = _VECTORS * lanes(weight.itemsize)
    return aligned((parts, N, -(-K // panel) * panel), weight.dtype)


def forward(x, weight, bias, out, code):
    """``out = x weight + bias``, then the activation of that code; no bias is an empty one."""
    kernel = _forward_kernel(x.itemsize, weight.shape[1])
    kernel(pool(), x, weight, bias, _turned(weight)[0], out, code)


def backward(x, grad, grad_weight, grad_bias):
    """``grad_weight = x' grad``, and the sums of the columns of `grad`."""
    sums = _turned(grad_weight, _PARTS if len(x) >= _MANY_ROWS else 1)
    _backward_kernel(x.itemsize, grad.shape[1])(pool(), x, grad, sums, grad_weight, grad_bias)
