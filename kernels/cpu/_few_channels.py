"""Convolution of images of few channels: a network's first.

A row of a filter is a few numbers, nine for 3 x 3 and three channels, and the windows of neighbours overlap
in most of them. The lanes are filters. A row of a vector of them is in registers, and some pixels' sums:

    w[q] = weight[f, q, filters]                       for each q of row f of the window
    for each number e of the image's row that any of the P pixels sees:
        out[p, filters] += image[e] * w[e - p * column]       for those p that see it

A number is loaded once for all pixels that see it, at a distance from the first that is known beforehand; so
is each weight for all pixels. The tile of ``tile.py`` loads the one for each pixel, from where a table says,
and the other for twelve. The terms of a sum are added up in the same order, and it comes out the same.
"""

from __future__ import annotations

import functools

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._conv_rows import lay_out, runs_of
from ._jit import call_code, inline, jit, native
from ._memory import bias_or_zeros
from ._vectors import IN_FLIGHT, Vectors, i64
from .activation import RELU, finish
from .threads import parallel_for, pool
from .tile import lanes, registers, widest

_OTHERS = 2  # registers, beside those for weights and sums


@functools.lru_cache(maxsize=1024)
def _pixels(columns, length):
    """How many of so many columns to work on at a time for rows of `length` numbers, 0 if there are too few
    columns or registers."""
    some = range(IN_FLIGHT, min(registers() - _OTHERS - length, columns) + 1)
    return min(some, key=lambda pixels: (-(-columns // pixels) * pixels, -pixels), default=0)


def pays(filters, columns, dilation, groups):
    """Whether this way is open for (1, KH, KW, C, O) filters and results of so many columns, and takes less
    time than the register tile does: with narrower vectors, whose masks cost more, most often it does not."""
    _, _, KW, C, _ = filters
    return widest() and groups == 1 and dilation[1] == 1 and _pixels(columns, KW * C) > 0


def _make(size, length, column, pixels):
    """The kernel for a row of `W` pixels and a vector of filters.

    `image` is where the first pixel's window begins, the next one's `column` elements on; `runs` of `length`
    elements of a window begin where `begins` says. `weight` and `out` are where these filters' first number
    and result are, the next `apart` elements on. Only the first `last` filters are touched.
    """
    width = lanes(size)
    elements = range((pixels - 1) * column + length)

    def emit(context, builder: ir.IRBuilder, signature, args):
        image, begins, runs, weight, bias, out, apart, W, last, relu = args
        vectors = Vectors(builder, size, width)
        x, w, shift, y = (builder.inttoptr(a, vectors.real.as_pointer()) for a in (image, weight, bias, out))
        begins, mask = builder.inttoptr(begins, i64.as_pointer()), vectors.below(last)
        own = vectors.load(shift, mask)
        floor = vectors.floor(relu)
        sums = [cgutils.alloca_once(builder, vectors.vector) for _ in range(pixels)]
        with cgutils.for_range_slice(builder, i64(0), W, i64(pixels), inc=True) as (begin, _):
            # the last pixels overlap with those before
            first = builder.sub(W, i64(pixels))
            first = builder.select(builder.icmp_signed("<", begin, first), begin, first)
            window = builder.gep(x, [builder.mul(first, i64(column))])
            results = builder.gep(y, [builder.mul(first, apart)])
            for sum_ in sums:
                builder.store(own, sum_)
            with cgutils.for_range(builder, runs) as f:
                start = builder.gep(window, [builder.load(builder.gep(begins, [f.index]))])
                row = builder.gep(w, [builder.mul(apart, builder.mul(f.index, i64(length)))])
                taps = [builder.gep(row, [builder.mul(apart, i64(q))]) for q in range(length)]
                weights = [vectors.load(tap, mask) for tap in taps]
                for e in elements:
                    seeing = [p for p in range(pixels) if 0 <= e - p * column < length]
                    if seeing:
                        number = builder.load(builder.gep(start, [i64(e)]))
                        for p in seeing:
                            tap, held = weights[e - p * column], builder.load(sums[p])
                            builder.store(vectors.fmuladd(vectors.splat(number), tap, held), sums[p])
            for p, sum_ in enumerate(sums):
                at = builder.gep(results, [builder.mul(apart, i64(p))])
                vectors.store(vectors.at_least(floor, builder.load(sum_)), at, mask)
        return context.get_dummy_value()

    @intrinsic
    def row(typingctx, image, begins, runs, weight, bias, out, apart, W, last, relu):
        return types.void(*[types.int64] * 10), emit

    def kernel(image, begins, runs, weight, bias, out, apart, W, last, relu):
        row(image, begins, runs, weight, bias, out, apart, W, last, relu)

    return kernel


@functools.cache
def _compiled(size, length, column, pixels):
    variant = f"f{8 * size} {length} apart {column} x {pixels} lanes={lanes(size)}"
    return native(types.void(*[types.int64] * 10), _make(size, length, column, pixels), variant=variant)


@inline
def _task(t, tasks, blocks, way, x, weight, bias, out, images, geometry, activation):
    address, width, begins, row = way
    N, OH, OW, O = out.shape
    size, image = x.itemsize, images[0 if geometry[-1] else t]
    for unit in range(t * N * blocks // tasks, (t + 1) * N * blocks // tasks):
        n, b = unit // blocks, unit % blocks
        first, end = b * OH // blocks, (b + 1) * OH // blocks
        start = lay_out(x, n, image, geometry, len(begins), first, end)
        for y in range(first, end):
            window, results = start + (y - first) * row * size, out[n, y].ctypes.data
            for o in range(0, O, width):
                words = (window, begins.ctypes.data, len(begins), weight.ctypes.data + o * size,
                         bias.ctypes.data + o * size, results + o * size, O, OW, min(O - o, width),
                         activation == RELU)  # fmt: skip
                call_code(address, words)
        finish(out[n, first:end].reshape((end - first) * OW * O), activation)


@jit
def _forward(pool, tasks, blocks, way, x, weight, bias, out, images, geometry, activation):
    arguments = (tasks, blocks, way, x, weight, bias, out, images, geometry, activation)
    parallel_for(pool, tasks, _task, arguments)


def run(tasks, blocks, x, filters, bias, out, images, geometry, code):
    """Fill NHWC `out` from NHWC `x` in so many tasks, an image in so many `blocks` of rows. `images` are the
    tasks' scratches."""
    (_, KH, KW, C, O), size = filters.shape, x.itemsize
    across = x.shape[2] if geometry[-1] else images.shape[2]
    length, (down, right), dilation = KW * C, geometry[:2], geometry[6:8]
    address = _compiled(size, length, right * C, _pixels(out.shape[2], length))
    way = address, lanes(size), runs_of(dilation, across, C, KH, KW), down * across * C
    bias = bias_or_zeros(bias, O)
    _forward(pool(), tasks, blocks, way, x, filters[0], bias, out, images, geometry, code)
