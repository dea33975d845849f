"""Convolution with fewer filters than half a vector has lanes, and 2 x 2 max-pooling behind it.

The register tile of ``tile.py`` has the filters in its lanes: six would leave ten of sixteen empty. Here the
lanes are pooled columns,

    out[p, l] = max over a, b in {0, 1} of sum over taps (f, q, c) of
                    weight[f, q, c, o] * image[2p + a + f, 2l + b + q, c]

so that the four sums of a window stand in four registers, and pooling is three comparisons. That wants every
second pixel of a row side by side: placing an image in its scratch splits its columns into even and odd, and
its channels. A step of the reduction is 4 loads of pixels and n of numbers to multiply them with, for 4n
multiply-adds; with n = 6 filters at a time (2 where there are 16 registers) the sums stay in registers.

A sum has its terms in the order in which the register tile adds them: results are the same to the bit.
"""

from __future__ import annotations

import functools

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._conv_rows import TASKS
from ._jit import inline, jit
from ._math import like
from ._memory import aligned
from ._turn import turn_part
from ._vectors import Vectors, i32, i64
from .activation import apply
from .threads import parallel_for, pool, row_blocks
from .tile import lanes, registers

_ALONE = 200_000  # multiply-adds from which on the rows of a single image are shared out


@functools.lru_cache(maxsize=1024)
def pays(filters, itemsize, size, stride, dilation, groups):
    """Whether this way is open for (1, KH, KW, C, O) filters and a pooled result of `size` pixels, and takes
    less time than the register tile: that has of its lanes O busy, this one as many as there are columns."""
    width, O = lanes(itemsize), filters[4]
    columns = -(-size[1] // width) * width
    simple = (*stride, *dilation, groups) == (1, 1, 1, 1, 1)
    return simple and 0 < O <= width // 2 and 4 * O * columns <= 3 * width * size[1]


def _make_columns(size, count):
    """The intrinsic for `count` filters and a vector of pooled columns.

    `pixels` is the address of the first even pixel under the windows, `taps` of two offsets for each tap, in
    elements: of the even and of the odd pixels' column of the window. `place` is the number of the first
    window's first pixel in the convolution, which is `across` pixels wide. Results go to rows of `best` and
    `where` that lie `apart` elements apart, one for each filter.
    """
    width = lanes(size)

    def emit(context, builder, signature, args):
        pixels, row, taps, terms, weight, step, bias, place, across, best, where, apart = args
        vectors = Vectors(builder, size, width)
        pointer = vectors.real.as_pointer()
        base, w = builder.inttoptr(pixels, pointer), builder.inttoptr(weight, pointer)
        offsets, out = builder.inttoptr(taps, i64.as_pointer()), builder.inttoptr(best, pointer)
        has_bias = builder.icmp_signed("!=", bias, i64(0))
        zeros = cgutils.alloca_once_value(builder, ir.Constant(ir.ArrayType(vectors.real, count), None))
        source = builder.select(has_bias, builder.inttoptr(bias, pointer), builder.bitcast(zeros, pointer))
        sums = []
        for o in range(count):
            start = vectors.splat(builder.load(builder.gep(source, [i64(o)])))
            sums.append([cgutils.alloca_once_value(builder, start) for _ in range(4)])
        with cgutils.for_range(builder, terms) as loop:
            at = builder.mul(loop.index, i64(2))
            window = []
            for a in range(2):
                line = builder.gep(base, [builder.mul(row, i64(a))])
                for b in range(2):
                    offset = builder.load(builder.gep(offsets, [builder.add(at, i64(b))]))
                    window.append(vectors.load(builder.gep(line, [offset])))
            factors = builder.gep(w, [builder.mul(loop.index, step)])
            for o in range(count):
                factor = vectors.splat(builder.load(builder.gep(factors, [i64(o)])))
                for value, held in zip(window, sums[o], strict=True):
                    builder.store(vectors.fmuladd(factor, value, builder.load(held)), held)
        lane = ir.Constant(vectors.places, [i32(2 * i) for i in range(width)])
        first = builder.add(vectors.splat(builder.trunc(place, i32)), lane)
        for o in range(count):
            held, here = builder.load(sums[o][0]), first
            for p in range(1, 4):
                a, b = divmod(p, 2)
                step_to = builder.add(builder.mul(across, i64(a)), i64(b))
                there = builder.add(first, vectors.splat(builder.trunc(step_to, i32)))
                held, here = vectors.larger(builder.load(sums[o][p]), there, held, here)
            line = builder.mul(apart, i64(o))
            vectors.store(held, builder.gep(out, [line]))
            vectors.store(here, builder.gep(builder.inttoptr(where, i32.as_pointer()), [line]))
        return context.get_dummy_value()

    @intrinsic
    def columns(
        typingctx, pixels, row, taps, terms, weight, step, bias, place, across, best, where, apart
    ):  # fmt: skip
        return types.void(*[types.int64] * 12), emit

    return columns


@intrinsic
def _part_pairs(typingctx, real, source, count, first, second):
    """Copy every other of `count` floats of the type of `real` from address `source` on to address `first`,
    the others to `second`."""
    size = real.bitwidth // 8
    width = lanes(size)

    def emit(context, builder, signature, args):
        _, source, count, first, second = args
        vectors = Vectors(builder, size, width)
        floats = vectors.real.as_pointer()
        source, *targets = (builder.inttoptr(address, floats) for address in (source, first, second))
        with cgutils.for_range_slice(builder, i64(0), count, i64(2 * width), inc=True) as (i, _):
            left = builder.sub(count, i)
            pair = [
                vectors.load(
                    builder.gep(source, [builder.add(i, skipped)]), vectors.below(builder.sub(left, skipped))
                )
                for skipped in (i64(0), i64(width))
            ]
            for odd, target in enumerate(targets):
                chosen = ir.Constant(vectors.places, [i32(2 * lane + odd) for lane in range(width)])
                few = builder.ashr(builder.add(left, i64(1 - odd)), i64(1))
                start = builder.gep(target, [builder.ashr(i, i64(1))])
                vectors.store(builder.shuffle_vector(*pair, chosen), start, vectors.below(few))
        return context.get_dummy_value()

    return types.void(real, *[types.int64] * 4), emit


@inline
def _split(image, scratch, top, left, begin):
    """Place `image` (H, W, C) in `scratch` (C, rows, 2, half).

    Row r becomes the image's row begin + r - top, its columns from -`left` on, those of even number first.
    What lies beside the image is left alone, what lies above and below it becomes zero.
    """
    H, W, C = image.shape
    _, rows, _, half = scratch.shape
    size, shift = image.itemsize, begin - top
    above = min(max(0, top - begin), rows)
    below = max(above, min(rows, H + top - begin))
    if above > 0:
        scratch[:, :above] = 0
    if below < rows:
        scratch[:, below:] = 0
    if C == 1:
        source, target = image.ctypes.data + (shift + above) * W * size, scratch[0, above:].ctypes.data
        even = (left % 2 * half + left // 2) * size
        odd = ((left + 1) % 2 * half + (left + 1) // 2) * size
        for _ in range(above, below):
            _part_pairs(image[0, 0, 0], source, W, target + even, target + odd)
            source += W * size
            target += 2 * half * size
        return
    for r in range(above, below):
        for c in range(C):
            line = scratch[c, r].reshape(2 * half)
            for x in range(W):
                line[(left + x) % 2 * half + (left + x) // 2] = image[shift + r, x, c]


@functools.cache
def _kernel(size, count):
    """The kernel for floats of `size` bytes, `count` filters at a time."""
    columns, width = _make_columns(size, count), lanes(size)

    @inline
    def task(t, tasks, blocks, x, weight, bias, results, scratch, corner, across, code):
        out, where = results
        image, best, places = scratch[0][t], scratch[1][t], scratch[2][t]
        _, KH, KW, C, O = weight.shape
        N, PH, PW, _ = out.shape
        height, half, apart = image.shape[1], image.shape[3], best.shape[1]
        image[:] = 0
        taps = np.empty((KH, KW, C, 2), np.int64)
        for f in range(KH):
            for q in range(KW):
                for c in range(C):
                    for b in range(2):
                        taps[f, q, c, b] = ((c * height + f) * 2 + (q + b) % 2) * half + (q + b) // 2
        for unit in range(t * N * blocks // tasks, (t + 1) * N * blocks // tasks):
            n, block = unit // blocks, unit % blocks
            first, end = block * PH // blocks, (block + 1) * PH // blocks
            _split(x[n], image, corner[0], corner[1], 2 * first)
            for p in range(first, end):
                for column in range(0, PW, width):
                    pixels = image.ctypes.data + (2 * (p - first) * 2 * half + column) * size
                    place = 2 * (p * across + column)
                    for part in range(0, O, count):
                        o = min(part, O - count)  # the last filters overlap with those before
                        w = weight.ctypes.data + o * size
                        shift = bias.ctypes.data + o * size if bias.size else 0
                        here = o * apart + (p - first) * PW + column
                        maxima, indices = best.ctypes.data + here * size, places.ctypes.data + here * 4
                        columns(pixels, 2 * half, taps.ctypes.data, KH * KW * C, w, O, shift, place, across,
                                maxima, indices, apart)  # fmt: skip
            pooled, at = (end - first) * PW, (n * PH + first) * PW * O
            real, place_like = like(x[0, 0, 0, 0], 0), np.float32(0)  # an int32 moves as a float32 does
            turn_part(real, best.ctypes.data, apart, O, pooled, out.ctypes.data + at * size, O)
            if where.size > 0:
                turn_part(place_like, places.ctypes.data, apart, O, pooled, where.ctypes.data + at * 4, O)
            apply(out[n, first:end].reshape(pooled * O), code)

    @functools.partial(jit, variant=f"{size} bytes, {width} lanes, {count} filters")
    def kernel(pool, tasks, blocks, x, weight, bias, results, scratch, corner, across, code):
        arguments = (tasks, blocks, x, weight, bias, results, scratch, corner, across, code)
        parallel_for(pool, tasks, task, arguments)

    return kernel


def run(x, filters, bias, results, corner, across, code):
    """Fill the NHWC `results`, maxima and (where that has any room) their places in a convolution `across`
    pixels wide, from NHWC `x` with a border of `corner` zeros above and beside it."""
    (N, PH, PW, O), (_, KH, KW, C, _) = results[0].shape, filters.shape
    width = lanes(x.itemsize)
    blocks = row_blocks(N, PH) if 4 * N * PH * PW * filters.size > _ALONE else 1
    tasks, rows = min(N * blocks, TASKS), -(-PH // blocks)
    half = -(-PW // width) * width + KW // 2 + 1  # the last vector of columns reads so far
    half = max(half, (x.shape[2] + corner[1]) // 2 + 1)
    image = (tasks, C, 2 * rows + KH - 1, 2, half)
    sums = (tasks, O, rows * PW + width)
    scratch = (aligned(image, x.dtype), aligned(sums, x.dtype), aligned(sums, np.dtype(np.int32)))
    most = 6 if registers() == 32 else 2
    count = -(-O // -(-O // most))
    _kernel(x.itemsize, count)(
        pool(), tasks, blocks, x, filters, bias, results, scratch, corner, across, code
    )
