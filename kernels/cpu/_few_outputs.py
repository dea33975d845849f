"""Convolution of images of many channels to few: the gradient of a first convolution's input.

The register tile of ``tile.py`` has outputs in its lanes; three of them leave thirteen of sixteen empty. Here
the lanes run along a window's rows, each a run of KW * C contiguous floats, for some pixels and all outputs:

    sums[p, o] += image[row f of the window of pixel p, vector v] * weight[o, f, v]     lane by lane

A step is a load for each pixel and one for each output, for as many multiply-adds as there are pairs of both.
What lies in the lanes of these sums, which are at most as many as a vector has lanes, is folded to one vector
of them (``_vectors.py``): pixels as they lie in memory.
"""

from __future__ import annotations

import functools

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._conv_rows import TASKS, lay_out, plan, scratches
from ._jit import inline, jit
from ._memory import aligned, plain
from ._vectors import LINE, Vectors, i64, prefetch
from .threads import parallel_for, pool, row_blocks
from .tile import lanes

_MOST = 4  # outputs


def _pixels(outputs, itemsize):
    """Pixels at a time: the largest power of two whose sums one vector has lanes for."""
    return 1 << (lanes(itemsize) // outputs).bit_length() - 1


def pays(shape, columns, stride, dilation, groups, itemsize):
    """Whether this way is open for the gradient of an input, `columns` pixels wide, of filters of an OIHW
    `shape`, and takes less time than the others."""
    O, C, _, KW = shape
    simple = (*stride, *dilation, groups) == (1, 1, 1, 1, 1) and 0 < C <= min(_MOST, lanes(itemsize))
    return simple and columns >= _pixels(C, itemsize) and lanes(itemsize) <= O * KW


def _make_dots(size, outputs):
    """The intrinsic for some pixels side by side. `image` is where the first one's window begins, of `rows`
    rows of `length` floats that lie `row` elements apart; the next pixel's is `apart` elements on. `weight`
    has a vector for each row, vector of it and output. Results go to `out`, pixel after pixel. Meanwhile as
    many `lines` of memory are asked for, from `ahead` on."""
    width, pixels = lanes(size), _pixels(outputs, size)

    def emit(context, builder: ir.IRBuilder, signature, args):
        image, row, apart, weight, rows, length, out, ahead, lines = args
        vectors = Vectors(builder, size, width)
        zero = vectors.constant(0)
        x, w, y = (builder.inttoptr(a, vectors.real.as_pointer()) for a in (image, weight, out))
        starts = [builder.gep(x, [builder.mul(apart, i64(p))]) for p in range(pixels)]
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(pixels * outputs)]
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
        held = [builder.load(sum_) for sum_ in sums] + [zero] * (width - len(sums))
        vectors.store(vectors.folded(held, ir.IRBuilder.fadd), y, vectors.below(i64(len(sums))))
        return context.get_dummy_value()

    @intrinsic
    def dots(typingctx, image, row, apart, weight, rows, length, out, ahead, lines):
        return types.void(*[types.int64] * 9), emit

    return dots


@functools.cache
def _kernel(size, outputs):
    dots, pixels = _make_dots(size, outputs), _pixels(outputs, size)

    @inline
    def task(t, tasks, blocks, x, turned, KW, out, scratch, geometry):
        N, H, W, C = out.shape
        image, channels = scratch[0 if geometry[-1] else t], x.shape[3]
        row = (x.shape[2] if geometry[-1] else scratch.shape[2]) * channels
        for unit in range(t * N * blocks // tasks, (t + 1) * N * blocks // tasks):
            n, cut = unit // blocks, unit % blocks
            first, end = cut * H // blocks, (cut + 1) * H // blocks
            start = lay_out(x, n, image, geometry, len(turned), first, end)
            # Of the next image each call asks for its share
            calls, coming = (end - first) * ((W + pixels - 1) // pixels), x[n].nbytes if n + 1 < N else 0
            lines = (coming // LINE + calls - 1) // calls if blocks == 1 else 0
            ahead = x.ctypes.data + (n + 1) * x[n].nbytes
            for y in range(first, end):
                for column in range(0, W, pixels):
                    z = min(column, W - pixels)  # the last pixels overlap with those before
                    window = start + ((y - first) * row + z * channels) * size
                    target = out.ctypes.data + ((n * H + y) * W + z) * C * size
                    dots(window, row, channels, turned.ctypes.data, len(turned), KW * channels, target, ahead,
                         lines)  # fmt: skip
                    ahead += lines * LINE

    @functools.partial(jit, variant=f"{size} bytes, {lanes(size)} lanes, {outputs} outputs")
    def kernel(pool, tasks, blocks, x, weight, turned, out, scratch, geometry):
        O, C, KH, KW = weight.shape
        width = turned.shape[3]
        turned[:] = 0
        for f, q, o, c in np.ndindex((KH, KW, O, C)):
            place = q * O + o
            turned[f, place // width, c, place % width] = weight[o, c, KH - 1 - f, KW - 1 - q]
        parallel_for(pool, tasks, task, (tasks, blocks, x, turned, KW, out, scratch, geometry))

    return kernel


def grad_input(grad, weight, out, padding):
    """Fill `out`, the gradient of an NHWC input, from NHWC `grad` and OIHW filters."""
    N, H, W, C = out.shape
    O, _, KH, KW = weight.shape
    blocks, width, one = row_blocks(N, H), lanes(grad.itemsize), (1, 1)
    tasks, rows = min(N * blocks, TASKS), -(-H // blocks)
    corner = KH - 1 - padding[0], KW - 1 - padding[1]
    geometry, size = plan(grad.shape[1:3], (KH, KW), (H, W), one, corner, one, one, 1, False, rows)
    scratch = scratches(tasks, size, grad, geometry)
    turned = aligned((KH, -(-KW * O // width), C, width), grad.dtype)
    kernel = _kernel(grad.itemsize, C)
    kernel(pool(), tasks, blocks, grad, plain(weight), turned, out, scratch, geometry)
