"""A pooling window for a vector of channels: its maximum, and the gradient back to where that was.

Numba's own loop over channels would not be vector code below a vector's width (LeNet has 6 channels), and
there every pixel would pay for a scalar loop. Channels past the last are masked in every load and store.
"""

from __future__ import annotations

import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._vectors import Vectors, bit, i32, i64
from .tile import lanes


def make_window_max(size):
    """The intrinsic that takes the maximum over a window, and where it was, for floats of `size` bytes."""
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
                    held, here = vectors.larger(value, place, held, here)
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


@intrinsic
def spread_window(typingctx, real, slopes, indices, pixel, place, across, channels, left, stream):
    """Write all four pixels of a window of 2 x 2: to the one whose number is the index the gradient, to the
    others zero. Returns whether an index was none of the four, as 1 or 0.

    `slopes`, `indices` and `pixel` are the addresses of a vector of gradients, floats of the type of `real`,
    of their int32 indices and of the window's first pixel, whose number is `place`; images are `across`
    pixels wide and have so many `channels`, of which `left` are left. With `stream` all that is written
    are whole, aligned vectors, and they go past the caches.
    """
    size = real.bitwidth // 8
    width = lanes(size)

    def emit(context, builder, signature, args):
        _, slopes, indices, pixel, place, across, channels, left, stream = args
        vectors = Vectors(builder, size, width)
        mask, zero = vectors.below(left), vectors.constant(0)
        floats = vectors.real.as_pointer()
        slope = vectors.load(builder.inttoptr(slopes, floats), mask)
        index = vectors.load(builder.inttoptr(indices, i32.as_pointer()), mask, kind=vectors.places)
        stray = mask
        for f in (0, 1):
            for q in (0, 1):
                step = builder.add(builder.mul(across, i64(f)), i64(q))
                here = vectors.splat(builder.trunc(builder.add(place, step), i32))
                hit = builder.icmp_signed("==", index, here)
                start = builder.gep(builder.inttoptr(pixel, floats), [builder.mul(step, channels)])
                value = builder.select(hit, slope, zero)
                with builder.if_else(stream) as (past, through):
                    with past:
                        vectors.stream(value, start)
                    with through:
                        vectors.store(value, start, mask)
                stray = builder.and_(stray, builder.not_(hit))
        lost = builder.bitcast(stray, ir.IntType(width))
        return builder.zext(builder.icmp_unsigned("!=", lost, ir.IntType(width)(0)), i64)

    return types.int64(real, *[types.int64] * 7, types.boolean), emit
