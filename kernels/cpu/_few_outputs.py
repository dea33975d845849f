"""Convolution of images of many channels to few: the gradient of a first convolution's input.

The register tile of ``tile.py`` has outputs in its lanes; three of them leave thirteen of sixteen empty. Here
the lanes run along a window's rows, each a run of KW * C contiguous floats, for some pixels and all outputs:

    sums[p, o] += image[row f of the window of pixel p, vector v] * weight[o, f, v]     lane by lane

A step is a load for each pixel and one for each output, for as many multiply-adds as there are pairs of both.
The sums of a whole row of pixels are left in memory, in the order in which their results lie there. They are
folded (``_vectors.py``), as many at a time as a vector has lanes, some after each call for the next row: what
is folded is ready then, and goes on beside the multiplications.

The image is read as it lies. Rows of a window above or below it are left out. So are its columns to the left
or right, for which weights are laid out without those; few pixels have such windows, and each is worked on by
itself::

    z = 0      |q1 q2|                 left = 1 column left out
    z = 1      |q0 q1 q2|              some pixels at a time, all with whole windows
    ...              ...
    z = W - 1              |q0 q1|     the last column left out
               [  a row of dY  ]
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
from ._memory import aligned, hwio
from ._vectors import IN_FLIGHT, LINE, Vectors, i64, prefetch
from .threads import parallel_for, pool, row_blocks
from .tile import lanes, registers

_MOST = 4  # outputs
_SUMS = {16: 12, 32: 18}  # at most, by the number of vector registers
_CALL = 0.3  # the time of a call besides its pixels', in that of a pixel


def _whole_windows(columns, padding, KW):
    """How many of so many columns have windows that lie in the image."""
    return columns - 2 * max(KW - 1 - padding[1], 0)


def _pixels(columns, outputs):
    """How many of so many columns to work on at a time, 0 if there are too few."""
    some = range(-(-IN_FLIGHT // outputs), min(_SUMS[registers()] // outputs, columns) + 1)
    return min(some, key=lambda pixels: -(-columns // pixels) * (pixels + _CALL), default=0)


def pays(shape, columns, stride, padding, dilation, groups, itemsize):
    """Whether this way is open for the gradient of an input, `columns` pixels wide, of filters of an OIHW
    `shape`, and takes less time than the others."""
    O, C, _, KW = shape
    simple = (*stride, *dilation, groups) == (1, 1, 1, 1, 1) and 0 < C <= _MOST
    return simple and _pixels(_whole_windows(columns, padding, KW), C) > 0 and lanes(itemsize) <= O * KW


def _make_dots(size, outputs, pixels):
    """The intrinsic for `pixels` side by side. `image` is where the first one's window begins, of `rows` rows
    of `length` floats that lie `row` elements apart; the next pixel's is `apart` elements on. `weight` has a
    vector for each row, vector of it and output. Sums go to `out`, pixel after pixel. Meanwhile as many
    `lines` of memory are asked for, from `ahead` on."""
    width = lanes(size)

    def emit(context, builder: ir.IRBuilder, signature, args):
        image, row, apart, weight, rows, length, out, ahead, lines = args
        vectors = Vectors(builder, size, width)
        x, w, y = (builder.inttoptr(a, vectors.real.as_pointer()) for a in (image, weight, out))
        starts = [builder.gep(x, [builder.mul(apart, i64(p))]) for p in range(pixels)]
        sums = [cgutils.alloca_once_value(builder, vectors.constant(0)) for _ in range(pixels * outputs)]
        at = cgutils.alloca_once_value(builder, w)

        def step(offset, mask):
            own = builder.load(at)
            weights = [vectors.load(builder.gep(own, [i64(o * width)])) for o in range(outputs)]
            builder.store(builder.gep(own, [i64(outputs * width)]), at)
            for p, start in enumerate(starts):
                seen = vectors.load(builder.gep(start, [offset]), mask)
                for o, factor in enumerate(weights):
                    sum_ = sums[p * outputs + o]
                    builder.store(vectors.fmuladd(seen, factor, builder.load(sum_)), sum_)

        with cgutils.for_range(builder, lines) as line:
            coming = builder.add(ahead, builder.mul(line.index, i64(LINE)))
            prefetch(builder, builder.inttoptr(coming, ir.IntType(8).as_pointer()), level=2)
        whole = builder.udiv(length, i64(width))
        rest = builder.urem(length, i64(width))
        with cgutils.for_range(builder, rows) as f:
            line = builder.mul(row, f.index)
            with cgutils.for_range(builder, whole) as v:
                step(builder.add(line, builder.mul(v.index, i64(width))), None)
            with builder.if_then(builder.icmp_signed(">", rest, i64(0))):
                step(builder.add(line, builder.sub(length, rest)), vectors.below(rest))
        for i, sum_ in enumerate(sums):
            vectors.store(builder.load(sum_), builder.gep(y, [i64(i * width)]))
        return context.get_dummy_value()

    @intrinsic
    def dots(typingctx, image, row, apart, weight, rows, length, out, ahead, lines):
        return types.void(*[types.int64] * 9), emit

    return dots


def _make_fold(size):
    """The intrinsic that writes the lanes' sum of each of `count` vectors to `out`. There is memory, if not
    vectors, for whole groups of as many as a vector has lanes."""
    width = lanes(size)

    def emit(context, builder: ir.IRBuilder, signature, args):
        sums, count, out = args
        vectors = Vectors(builder, size, width)
        x, y = (builder.inttoptr(a, vectors.real.as_pointer()) for a in (sums, out))
        with cgutils.for_range_slice(builder, i64(0), count, i64(width), i64) as (first, _):
            begin = builder.gep(x, [builder.mul(first, i64(width))])
            rows = [vectors.load(builder.gep(begin, [i64(i * width)])) for i in range(width)]
            mask = vectors.below(builder.sub(count, first))
            vectors.store(vectors.folded(rows, ir.IRBuilder.fadd), builder.gep(y, [first]), mask)
        return context.get_dummy_value()

    @intrinsic
    def fold(typingctx, sums, count, out):
        return types.void(*[types.int64] * 3), emit

    return fold


@inline
def _turn(weight, skipped, used, turned):
    """Lay out `used` columns of the flipped HWIO filters from `skipped` on, each row in whole vectors."""
    KH, KW, C, O = weight.shape
    row = (used * O + turned.shape[2] - 1) // turned.shape[2]
    turned[:] = 0
    for f, q, o, c in np.ndindex((KH, used, O, C)):
        place = q * O + o
        vector, lane = f * row + place // turned.shape[2], place % turned.shape[2]
        turned[vector, c, lane] = weight[KH - 1 - f, KW - 1 - (q + skipped), c, o]


@functools.cache
def _kernel(size, outputs, pixels):
    width, vector = lanes(size), lanes(size) * size
    some, one, fold = _make_dots(size, outputs, pixels), _make_dots(size, outputs, 1), _make_fold(size)

    @inline
    def weights_of(window, turned, above, length):
        """Where the weights begin for a window's rows of so many floats, without those above."""
        return turned[window].ctypes.data + above * ((length + width - 1) // width) * outputs * vector

    @inline
    def share_of(count, part, parts):
        """Which of so many sums part `part` of `parts` is, in whole groups."""
        groups = (count + width - 1) // width
        return part * groups // parts * width, min((part + 1) * groups // parts * width, count)

    @inline
    def task(t, tasks, blocks, x, turned, KH, KW, out, sums, top, left):
        (N, H, W, C), (_, GH, GW, O) = out.shape, x.shape
        begin, end = max(left, 0), min(W, GW + left - KW + 1)  # of the columns whose windows are whole
        row, results = GW * O, W * C
        for unit in range(t * N * blocks // tasks, (t + 1) * N * blocks // tasks):
            n, cut = unit // blocks, unit % blocks
            first, last = cut * H // blocks, (cut + 1) * H // blocks
            # Of the next image each call asks for its share
            of_a_row, coming = (end - begin + pixels - 1) // pixels, x[0].nbytes
            calls = (last - first) * of_a_row
            lines = (coming // LINE + calls - 1) // calls if blocks == 1 and n + 1 < N else 0
            ahead = x.ctypes.data + (n + 1) * coming
            for y in range(first, last):
                own, before = sums[t, y % 2].ctypes.data, sums[t, 1 - y % 2].ctypes.data
                above = max(top - y, 0)
                rows = min(KH, GH + top - y) - above
                image = x.ctypes.data + (n * GH + y - top + above) * row * size
                for z in range(begin):
                    length = (KW - left + z) * O
                    factors = weights_of(left - z, turned, above, length)
                    one(image, row, O, factors, rows, length, own + z * C * vector, 0, 0)
                length = KW * O
                factors = weights_of(0, turned, above, length)
                for call in range(of_a_row):
                    z = min(begin + call * pixels, end - pixels)  # the last pixels overlap with those before
                    window = image + (z - left) * O * size
                    some(window, row, O, factors, rows, length, own + z * C * vector, ahead, lines)
                    ahead += lines * LINE
                    if y > first:
                        a, b = share_of(results, call, of_a_row)
                        fold(before + a * vector, b - a, out[n, y - 1].ctypes.data + a * size)
                for z in range(end, W):
                    beyond = z - end + 1
                    window, length = image + (z - left) * O * size, (KW - beyond) * O
                    factors = weights_of(left + beyond, turned, above, length)
                    one(window, row, O, factors, rows, length, own + z * C * vector, 0, 0)
            fold(sums[t, (last - 1) % 2].ctypes.data, results, out[n, last - 1].ctypes.data)

    @functools.partial(
        jit, variant=f"{lanes(size)} lanes of {size} bytes, {outputs} outputs of {pixels} pixels"
    )
    def kernel(pool, tasks, blocks, x, weight, turned, out, sums, top, left):
        KH, KW = weight.shape[:2]
        _turn(weight, 0, KW, turned[0])
        for few in range(1, left + 1):
            _turn(weight, few, KW - few, turned[few])
            _turn(weight, 0, KW - few, turned[left + few])
        parallel_for(pool, tasks, task, (tasks, blocks, x, turned, KH, KW, out, sums, top, left))

    return kernel


def grad_input(grad, weight, out, padding):
    """Fill `out`, the gradient of an NHWC input, from NHWC `grad` and OIHW filters."""
    N, H, W, C = out.shape
    O, _, KH, KW = weight.shape
    blocks, width = row_blocks(N, H), lanes(grad.itemsize)
    tasks, top, left = min(N * blocks, TASKS), KH - 1 - padding[0], KW - 1 - padding[1]
    turned = aligned((1 + 2 * max(left, 0), KH * -(-KW * O // width), C, width), grad.dtype)
    sums = aligned((tasks, 2, -(-W * C // width) * width, width), grad.dtype)
    kernel = _kernel(grad.itemsize, C, _pixels(_whole_windows(W, padding, KW), C))
    kernel(pool(), tasks, blocks, grad, hwio(weight), turned, out, sums, top, left)
