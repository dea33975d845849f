"""Max and average pooling over channels-last memory: a vector of channels takes a tap in one comparison.

Torch's rules: padding is -inf to a maximum, a NaN wins it, the first of equal values (row by row in the
window) gives the index, and with `ceil_mode` a last window that would begin in the padding on the far side
is dropped. A task is one image or, in the forward pass, a part of its rows.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.kernels.reference._shared import pooled_shape

from ._jit import inline, jit
from ._memory import empty_nchw, nhwc, plain
from ._vectors import Vectors, bit, i32, i64
from .threads import parallel_for, pool, row_blocks
from .tile import lanes


def _make_window_max(size):
    """The intrinsic that takes the maximum over a window for a vector of channels, and where it was.

    Numba's own loop over channels would not be vector code below a vector's width (LeNet has 6 channels),
    and there every pixel would pay for a scalar loop. Channels past the last are masked in every load and
    store.
    """
    width = lanes(size)

    def emit(context, builder, signature, args):
        (
            source,
            out,
            where,
            channels,
            first_row,
            rows,
            row_step,
            first_column,
            columns,
            column_step,
            row,
            pixel,
        ) = args
        vectors = Vectors(builder, size, width)
        mask, lowest = vectors.below(channels), vectors.constant(-math.inf)
        best = cgutils.alloca_once_value(builder, lowest)
        index = cgutils.alloca_once_value(builder, ir.Constant(vectors.places, None))
        base = builder.inttoptr(source, vectors.real.as_pointer())

        def tap(f, q):
            """The values of tap (f, q), and its place in the image."""
            y = builder.add(first_row, builder.mul(f, row_step))
            x = builder.add(first_column, builder.mul(q, column_step))
            place = builder.add(builder.mul(y, row), x)
            value = vectors.load(builder.gep(base, [builder.mul(place, pixel)]), mask, lowest)
            return value, vectors.splat(builder.trunc(place, i32))

        def is_two(n):
            return builder.icmp_signed("==", n, i64(2))

        # A window of 2 x 2, which almost all are, is a straight line; a loop for each would take three times
        # as long.
        with builder.if_else(builder.and_(is_two(rows), is_two(columns))) as (four, any_number):
            with four:
                held, here = tap(i64(0), i64(0))
                for f, q in ((0, 1), (1, 0), (1, 1)):
                    value, place = tap(i64(f), i64(q))
                    wins = vectors.beats(value, held)
                    held, here = builder.select(wins, value, held), builder.select(wins, place, here)
                builder.store(held, best)
                builder.store(here, index)
            with any_number:
                seen = cgutils.alloca_once_value(builder, bit(0))
                builder.store(bit(0), seen)
                builder.store(lowest, best)
                with cgutils.for_range(builder, rows) as f, cgutils.for_range(builder, columns) as q:
                    value, place = tap(f.index, q.index)
                    first = vectors.splat(builder.not_(builder.load(seen)))  # wins, even if it is -inf
                    wins = builder.or_(vectors.beats(value, builder.load(best)), first)
                    builder.store(builder.select(wins, value, builder.load(best)), best)
                    builder.store(builder.select(wins, place, builder.load(index)), index)
                    builder.store(bit(1), seen)
        vectors.store(builder.load(best), builder.inttoptr(out, vectors.vector.as_pointer()), mask)
        vectors.store(builder.load(index), builder.inttoptr(where, vectors.places.as_pointer()), mask)
        return context.get_dummy_value()

    @intrinsic
    def window_max(
        typingctx,
        source,
        out,
        where,
        channels,
        first_row,
        rows,
        row_step,
        first_column,
        columns,
        column_step,
        row,
        pixel,
    ):
        return types.void(*[types.int64] * 12), emit

    return window_max


@functools.cache
def max_rows(size):
    """The function that pools rows of one image, for floats of `size` bytes: `image`, `out` and `where` are
    the addresses of its first row and of the first rows of its results."""
    window_max = _make_window_max(size)
    width = lanes(size)

    @inline
    def rows(image, shape, out, where, first, end, across, geometry):
        KH, KW, sh, sw, ph, pw, dh, dw = geometry
        H, W, C = shape
        for oy in range(first, end):
            y, rows = _inside(oy * sh - ph, KH, dh, H)
            for ox in range(across):
                z, columns = _inside(ox * sw - pw, KW, dw, W)
                at = (oy * across + ox) * C
                for c in range(0, C, width):
                    best, place = out + (at + c) * size, where + (at + c) * 4
                    window_max(image + c * size, best, place, C - c, y, rows, dh, z, columns, dw, W, C)

    return rows


@functools.cache
def _max_kernel(size):
    """The kernel for floats of `size` bytes."""
    rows_of = max_rows(size)

    @inline
    def part(t, blocks, x, out, indices, geometry):
        _, H, W, C = x.shape
        _, OH, OW, _ = out.shape
        n, b = t // blocks, t % blocks
        image, at = x.ctypes.data + n * H * W * C * size, n * OH * OW * C
        best, where = out.ctypes.data + at * size, indices.ctypes.data + at * 4
        rows_of(image, (H, W, C), best, where, b * OH // blocks, (b + 1) * OH // blocks, OW, geometry)

    @functools.partial(jit, variant=f"{size} bytes, {lanes(size)} lanes")
    def kernel(pool, blocks, x, out, indices, geometry):
        parallel_for(pool, x.shape[0] * blocks, part, (blocks, x, out, indices, geometry))

    return kernel


@inline
def _inside(start, taps, step, size):
    """The first of `taps` taps from `start` on that lies inside an axis of length `size`, and how many do."""
    skipped = (step - 1 - start) // step if start < 0 else 0
    first = start + skipped * step
    return first, max(0, min(taps - skipped, (size - 1 - first) // step + 1))


@inline
def _max_backward_image(n, grad, indices, out):
    _, H, W, C = out.shape
    image = out[n].reshape(H * W, C)
    image[:] = 0
    for oy in range(grad.shape[1]):
        for ox in range(grad.shape[2]):
            for c in range(C):
                image[indices[n, oy, ox, c], c] += grad[n, oy, ox, c]


@jit
def _max_backward(pool, grad, indices, out):
    parallel_for(pool, out.shape[0], _max_backward_image, (grad, indices, out))


@inline
def _window(o, kernel, stride, padding, size, count_include_pad):
    """``(first, end)`` of the taps inside the image of output `o`, and how many taps the mean divides by,
    along one axis."""
    start = o * stride - padding
    end = min(start + kernel, size + padding)
    first, last = max(start, 0), min(end, size)
    return first, last, end - start if count_include_pad else last - first


@inline
def _average_rows(t, blocks, x, out, geometry):
    KH, KW, sh, sw, ph, pw, count_include_pad = geometry
    _, H, W, C = x.shape
    _, OH, OW, _ = out.shape
    n, b = t // blocks, t % blocks
    for oy in range(b * OH // blocks, (b + 1) * OH // blocks):
        y0, y1, rows = _window(oy, KH, sh, ph, H, count_include_pad)
        for ox in range(OW):
            z0, z1, columns = _window(ox, KW, sw, pw, W, count_include_pad)
            mean = out[n, oy, ox]
            mean[:] = 0
            for y in range(y0, y1):
                for z in range(z0, z1):
                    for c in range(C):
                        mean[c] += x[n, y, z, c]
            count = x.dtype.type(rows * columns)
            for c in range(C):
                mean[c] /= count


@jit
def _average(pool, blocks, x, out, geometry):
    parallel_for(pool, x.shape[0] * blocks, _average_rows, (blocks, x, out, geometry))


@inline
def _average_backward_image(n, grad, out, geometry):
    KH, KW, sh, sw, ph, pw, count_include_pad = geometry
    _, H, W, C = out.shape
    out[n] = 0
    for oy in range(grad.shape[1]):
        y0, y1, rows = _window(oy, KH, sh, ph, H, count_include_pad)
        for ox in range(grad.shape[2]):
            z0, z1, columns = _window(ox, KW, sw, pw, W, count_include_pad)
            share = out.dtype.type(1) / out.dtype.type(rows * columns)
            for y in range(y0, y1):
                for z in range(z0, z1):
                    for c in range(C):
                        out[n, y, z, c] += grad[n, oy, ox, c] * share


@jit
def _average_backward(pool, grad, out, geometry):
    parallel_for(pool, out.shape[0], _average_backward_image, (grad, out, geometry))


def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    N, C, H, W = x.shape
    OH = pooled_shape(H, kernel_size[0], stride[0], padding[0], dilation[0], ceil_mode)
    OW = pooled_shape(W, kernel_size[1], stride[1], padding[1], dilation[1], ceil_mode)
    memory, out = empty_nchw(N, C, OH, OW, x.dtype)
    where, indices = empty_nchw(N, C, OH, OW, np.dtype(np.int32))
    geometry = (*kernel_size, *stride, *padding, *dilation)
    _max_kernel(x.itemsize)(pool(), row_blocks(N, OH), nhwc(x), memory, where, geometry)
    return out, indices


def max_pool2d_backward(grad, indices, input_shape):
    N, C, H, W = input_shape
    memory, out = empty_nchw(N, C, H, W, grad.dtype)
    where = plain(indices.transpose(0, 2, 3, 1)).astype(np.int32, copy=False)
    _max_backward(pool(), nhwc(grad), where, memory)
    return out


def avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad):
    N, C, H, W = x.shape
    OH = pooled_shape(H, kernel_size[0], stride[0], padding[0], 1, ceil_mode)
    OW = pooled_shape(W, kernel_size[1], stride[1], padding[1], 1, ceil_mode)
    memory, out = empty_nchw(N, C, OH, OW, x.dtype)
    geometry = (*kernel_size, *stride, *padding, bool(count_include_pad))
    _average(pool(), row_blocks(N, OH), nhwc(x), memory, geometry)
    return out


def avg_pool2d_backward(grad, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad):
    memory, out = empty_nchw(*input_shape, grad.dtype)
    geometry = (*kernel_size, *stride, *padding, bool(count_include_pad))
    _average_backward(pool(), nhwc(grad), memory, geometry)
    return out
