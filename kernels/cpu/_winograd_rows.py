"""Convolution of images of few channels with filters of 3 or 5 columns, and 2 x 2 max-pooling behind it:
Winograd's minimal filtering along the rows.

``_winograd.py`` multiplies matrices, (tiles, C) times (C, O), and has a vector of channels in its lanes; with
three channels there is nothing to share. Here the lanes are filters, and only rows are transformed. With the
matrices of F(m, taps), m + taps = 7, a group of m pixels (4, or 2 for 5 taps) of a row of the convolution is

    U[c, f, j] = sum over q of G[j, q] w[f, q, c]       6 numbers for each row of a filter, once
    V[c, t, j] = sum over k of B[j, k] x[mt + k, c]     6 numbers for each group of the image's rows
    y[i, t]    = sum over j of A[i, j] * (sum over c, f of U[c, f, j] V[c, t, j] of row f below)

which multiplies 6 times where a direct convolution does 12 (10) times. The sums over c and f of two rows of a
group stay in registers, are transformed and pooled there:

    V of rows 2p .. 2p + KH  (broadcast)   x   U of a vector of filters   ->   6 sums for each of 2 rows
                                                                          ->   2 x m pixels -> m / 2 maxima

For float32 only, and images whose results are not all finite are left to the direct way, as in
``_winograd.py``.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._conv_rows import TASKS, place
from ._jit import inline, jit
from ._math import like
from ._memory import aligned, bias_or_zeros
from ._tape import doubts
from ._transforms import N, matrices, product
from ._turn import turn_part
from ._vectors import Vectors, byte, i32, i64
from .activation import apply
from .threads import parallel_for, pool, row_blocks
from .tile import lanes

_MOST = 32  # rows of a filter times channels: each is some code
_LEAST = 128  # pooled pixels in all: for fewer, transforming the filters takes too long
_WIDE = (3, 5)  # columns of a filter: with six points, they leave an even number of outputs


@functools.lru_cache(maxsize=1024)
def pays(images, filters, itemsize, size, stride, dilation, groups):
    """Whether this way is open for so many `images`, (1, KH, KW, C, O) filters and pooled results of `size`
    pixels, and takes less time than the register tile."""
    _, KH, KW, C, O = filters
    simple = (*stride, *dilation, groups) == (1, 1, 1, 1, 1) and KW in _WIDE
    whole = O > 0 and O % lanes(itemsize) == 0
    return simple and whole and itemsize == 4 and 2 < KH * C <= _MOST and images * size[0] * size[1] >= _LEAST


def _group(KW):
    """Of how many pixels a group is, and how many groups behind a row's last are read with it."""
    M = N + 1 - KW
    return M, (N - 1) // M


def _make_into(size, C, KW):
    """The intrinsic that makes V of `count` groups of as many pixels as filters of `KW` columns have outputs.
    Of these the numbers, all channels of one pixel after the other, lie in as many rows at `source`, `apart`
    elements long, those of the next group one on. To `target` go 6 C vectors for as many groups as there are
    lanes, then those for the next ones: rows have room for whole vectors, and one more."""
    width = lanes(size)
    M, B = _group(KW)[0], matrices(KW)[1]

    def emit(context, builder: ir.IRBuilder, signature, args):
        source, target, apart, count = args
        vectors = Vectors(builder, size, width)
        x, v = (builder.inttoptr(address, vectors.real.as_pointer()) for address in (source, target))

        def pixels(t, k, c):
            at = builder.add(builder.mul(apart, i64(k % M * C + c)), builder.add(t, i64(k // M)))
            return vectors.load(builder.gep(x, [at]))

        with cgutils.for_range_slice(builder, i64(0), count, i64(width), inc=True) as (t, _):
            own = builder.gep(v, [builder.mul(t, i64(N * C))])
            for c in range(C):
                for j, value in enumerate(product(builder, vectors, B, [pixels(t, k, c) for k in range(N)])):
                    vectors.store(value, builder.gep(own, [i64((j * C + c) * width)]))
        return context.get_dummy_value()

    @intrinsic
    def into(typingctx, source, target, apart, count):
        return types.void(*[types.int64] * 4), emit

    return into


def _make_block(size, C, KH, KW, short):
    """The intrinsic for two rows of a group of pixels of the convolution and a vector of filters.

    The group has number `group` of those in `V`, where a row has `line` of them; `U` is where these filters'
    part of it is. Maxima and places go to `best` and `where`, those of the right two columns of four `O`
    elements on, where `both`; `first` is the number of the first pixel in the convolution, which is `across`
    pixels wide. Where `short`, places are bytes, 0 to 3 within their window. The byte at `doubt` becomes 1
    where a sum is not finite.
    """
    width = lanes(size)
    A = matrices(KW)[0]

    def emit(context, builder: ir.IRBuilder, signature, args):
        V, group, line, U, O, bias, best, where, both, first, across, doubt = args
        vectors, bits = Vectors(builder, size, width), ir.IntType(width)
        v, u, shift, out = (
            builder.inttoptr(address, vectors.real.as_pointer()) for address in (V, U, bias, best)
        )
        places = builder.inttoptr(where, (byte if short else i32).as_pointer())
        starts = []
        for row in range(KH + 1):
            number = builder.add(group, builder.mul(line, i64(row)))
            lane, vector = builder.urem(number, i64(width)), builder.udiv(number, i64(width))
            starts.append(builder.gep(v, [builder.add(builder.mul(vector, i64(N * C * width)), lane)]))

        sums = [[vectors.constant(0)] * N for _ in range(2)]

        def seen(j, c, row):
            return vectors.splat(builder.load(builder.gep(starts[row], [i64((j * C + c) * width)])))

        for c in range(C):
            upper = [seen(j, c, 0) for j in range(N)]
            for f in range(KH):
                lower = [seen(j, c, f + 1) for j in range(N)]
                for j in range(N):
                    weights = vectors.load(builder.gep(u, [i64(((c * KH + f) * N + j) * width)]))
                    for held, pixel in zip(sums, (upper[j], lower[j]), strict=True):
                        held[j] = vectors.fmuladd(pixel, weights, held[j])
                upper = lower

        def pool(y, column, own):
            """Write the maxima of a window and where they were."""
            held = here = None
            for a, b in itertools.product(range(2), range(2)):
                index = builder.add(builder.mul(across, i64(a)), i64(2 * column + b))
                place = i32(2 * a + b) if short else builder.trunc(builder.add(first, index), i32)
                place = vectors.splat(place)
                value = builder.fadd(y[a][2 * column + b], own)
                if held is None:
                    held, here = value, place
                else:  # finite, or all of this is done again
                    wins = builder.fcmp_ordered(">", value, held)
                    held, here = builder.select(wins, value, held), builder.select(wins, place, here)
            offset = builder.mul(O, i64(column))
            vectors.store(held, builder.gep(out, [offset]))
            vectors.store_place(here, builder.gep(places, [offset]), short)

        y = [product(builder, vectors, A, held) for held in sums]
        total = functools.reduce(builder.fadd, [*y[0], *y[1]])
        bad = builder.fcmp_unordered(">=", vectors.magnitude(total), vectors.constant(np.inf))
        with builder.if_then(builder.icmp_signed("!=", builder.bitcast(bad, bits), bits(0)), likely=False):
            builder.store(byte(1), builder.inttoptr(doubt, byte.as_pointer()))
        own = vectors.load(shift)
        pool(y, 0, own)
        if len(A) > 2:
            with builder.if_then(builder.icmp_signed("!=", both, i64(0)), likely=True):
                pool(y, 1, own)
        return context.get_dummy_value()

    @intrinsic
    def block(typingctx, V, group, line, U, O, bias, best, where, both, first, across, doubt):
        return types.void(*[types.int64] * 12), emit

    return block


@functools.cache
def _kernel(size, C, KH, KW, short):
    """The kernel for floats of `size` bytes, `C` channels and filters of `KH` x `KW`; `short` as in
    `_make_block`."""
    into, block, width = _make_into(size, C, KW), _make_block(size, C, KH, KW, short), lanes(size)
    M, beyond = _group(KW)

    @inline
    def task(t, tasks, blocks, x, U, bias, results, scratch, corner, across, code, again):
        out, where = results
        image, columns, V = scratch[0][t], scratch[1][t], scratch[2][t]
        images, PH, PW, O = out.shape
        groups, apart = image.shape[1] // M, columns.shape[1]
        real = like(x[0, 0, 0, 0], 0)
        for unit in range(t * images * blocks // tasks, (t + 1) * images * blocks // tasks):
            n, cut = unit // blocks, unit % blocks
            first, end = cut * PH // blocks, (cut + 1) * PH // blocks
            source = image.ctypes.data
            if corner[0] == corner[1] == 0 and x.shape[2] == image.shape[1]:
                source = x[n, 2 * first].ctypes.data
            else:
                place(x[n], image, 2 * first, corner[0], 1, corner[1], 1)
            count = (2 * (end - first) + KH - 1) * groups
            turn_part(real, source, M * C, count, M * C, columns.ctypes.data, apart)
            into(columns.ctypes.data, V.ctypes.data, apart, count - beyond)
            for p in range(first, end):
                for group in range(groups - beyond):
                    column = group * (M // 2)
                    at = ((n * PH + p) * PW + column) * O
                    begin, both = 2 * (p - first) * groups + group, column + 1 < PW
                    number = 2 * p * across + M * group
                    for part in range(len(U)):
                        o = part * width
                        block(V.ctypes.data, begin, groups, U[part].ctypes.data, O, bias[o:].ctypes.data,
                              out.ctypes.data + (at + o) * size,
                              where.ctypes.data + (at + o) * where.itemsize, both, number, across,
                              again.ctypes.data + n)  # fmt: skip
            apply(out[n, first:end].reshape((end - first) * PW * O), code)

    shape = f"{C} channels, {KH} x {KW}"

    @functools.partial(jit, variant=f"{size} bytes, {width} lanes, {shape}, short={short}")
    def kernel(pool, tasks, blocks, x, U, bias, results, scratch, corner, across, code, again):
        arguments = (tasks, blocks, x, U, bias, results, scratch, corner, across, code, again)
        parallel_for(pool, tasks, task, arguments)

    return kernel


@functools.cache
def _filter_kernel(size, KW):
    """The kernel that makes U, (parts, C, KH, 6, lanes), of HWIO filters of `KW` columns."""
    width, G = lanes(size), matrices(KW)[2]

    @intrinsic
    def transform(typingctx, source, column, target, apart):
        def emit(context, builder: ir.IRBuilder, signature, args):
            vectors = Vectors(builder, size, width)
            w, u = (builder.inttoptr(args[i], vectors.real.as_pointer()) for i in (0, 2))
            taps = [vectors.load(builder.gep(w, [builder.mul(args[1], i64(q))])) for q in range(KW)]
            for j, value in enumerate(product(builder, vectors, G, taps)):
                vectors.store(value, builder.gep(u, [builder.mul(args[3], i64(j))]))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), emit

    @functools.partial(jit, variant=f"{size} bytes, {width} lanes, {KW} columns")
    def kernel(weight, U):
        KH, _, C, O = weight.shape
        for part in range(len(U)):
            for c in range(C):
                for f in range(KH):
                    source = weight[f, 0, c, part * width :].ctypes.data
                    transform(source, C * O, U[part, c, f].ctypes.data, width)

    return kernel


def run(x, filters, bias, results, corner, across, code):
    """Fill the NHWC `results`, maxima and their places (int32 in a convolution `across` pixels wide, or
    uint8), from NHWC `x` with a border of `corner` zeros above and beside it. Returns which images did not
    come out finite, to be done again."""
    (n, PH, PW, O), (_, KH, KW, C, _) = results[0].shape, filters.shape
    blocks, width, (M, beyond) = row_blocks(n, PH), lanes(x.itemsize), _group(KW)
    tasks, rows = min(n * blocks, TASKS), 2 * -(-PH // blocks) + KH - 1
    groups = -(-2 * PW // M) + beyond
    U = aligned((O // width, C, KH, N, width), x.dtype)
    _filter_kernel(x.itemsize, KW)(filters[0], U)
    vectors = -(-rows * groups // width)
    scratch = (
        aligned((tasks, rows, groups * M, C), x.dtype),
        aligned((tasks, M * C, (vectors + 1) * width), x.dtype),
        aligned((tasks, vectors, N * C, width), x.dtype),
    )
    again = doubts(n)
    bias = bias_or_zeros(bias, O)
    _kernel(x.itemsize, C, KH, KW, results[1].dtype == np.uint8)(
        pool(), tasks, blocks, x, U, bias, results, scratch, corner, across, code, again
    )
    return again
