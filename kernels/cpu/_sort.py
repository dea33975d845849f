"""Gradients sorted by filter, a vector of pixels at a time: the lists of ``_lists.py`` where vectors can be
compressed.

Memory has a pixel's filters side by side, a list a filter's pixels. A square of both, as wide as a vector, is
transposed in registers; of a filter's row that gives, what is not zero is moved together and appended to its
list:

    grad of 16 pixels x 16 filters   ->   [ 3 0 7 0 0 2 ... ] of a filter   ->   [ 3 7 2 ... . . . ]

whose end moves on by as many as there are. What is written beyond it the next square overwrites: a list has
room for a vector more. Where a window begins in the image is computed, not looked up:

    row = place * multiplier >> shift                  place // across, exactly
    begin = place * step + row * jump

or, of a place within a window of the pooling (a byte: 0 or 1, and 2 more in the second row), added to where
the pooling's window begins.

Source of the division: Granlund & Montgomery (1994), "Division by invariant integers using multiplication".
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._jit import native
from ._vectors import Vectors, byte, i32, i64
from .tile import lanes


def divided_by(d: int) -> tuple[int, int]:
    """(multiplier, shift) of the division of numbers below 2**31 by `d`: the multiplier is below 2**32."""
    shift = 31 + (d - 1).bit_length()
    return -(-(1 << shift) // d), shift


def _make(size: int, short: bool) -> Any:
    """The kernel for the gradients of one image, `pixels` of `O` filters each, and their `indices`.

    These are bytes where `short`. Then `corners` is where for each pixel an int32 says where its pooling's
    window begins, and there must be whole vectors of them; `row` and `step` are a pixel down and right.

    Of filter o the list goes to ``places + o * room`` and ``values + o * room`` (in elements), its length
    to ``counts[o]``; its gradients are added to ``sums[o]``. There must be room for `O` rounded up to whole
    vectors.
    """
    width = lanes(size)

    def emit(context, builder: ir.IRBuilder, signature, args):
        grad, indices, pixels, O, *way, places, values, room, counts, sums = args
        vectors = Vectors(builder, size, width)
        real, wide = vectors.real, ir.VectorType(i64, width)
        slopes, listed, total = (builder.inttoptr(a, real.as_pointer()) for a in (grad, values, sums))
        where = builder.inttoptr(indices, (byte if short else i32).as_pointer())
        begins = builder.inttoptr(places, i32.as_pointer())
        lengths = builder.inttoptr(counts, i64.as_pointer())

        def narrow(value):
            return vectors.splat(builder.trunc(value, i32))

        def divided(place, pixel):
            multiplier, shift, step, jump = way
            row = builder.mul(builder.zext(place, wide), vectors.splat(multiplier))
            row = builder.trunc(builder.lshr(row, vectors.splat(shift)), vectors.places)
            return builder.add(builder.mul(place, narrow(step)), builder.mul(row, narrow(jump)))

        def within(place, pixel):
            corners, step, row = way
            corner = builder.gep(builder.inttoptr(corners, i32.as_pointer()), [pixel])
            begin, none = vectors.splat(builder.load(corner)), ir.Constant(vectors.places, None)
            for flag, by in ((1, step), (2, row)):
                raised = builder.and_(place, vectors.splat(i32(flag)))
                raised = builder.icmp_unsigned("!=", raised, none)
                begin = builder.add(begin, builder.select(raised, narrow(by), none))
            return begin

        begin_of = within if short else divided

        def square(first, o, among):
            """Gradients and begins of a square, pixel after pixel."""
            added = vectors.load(builder.gep(total, [o]), among)
            rows, starts = [], []
            for i in range(width):
                pixel = builder.add(first, i64(i))
                inside = builder.icmp_signed("<", pixel, pixels)
                mask = builder.and_(among, vectors.splat(inside))
                at = builder.add(builder.mul(pixel, O), o)
                rows.append(vectors.load(builder.gep(slopes, [at]), mask))
                added = builder.fadd(added, rows[-1])
                starts.append(begin_of(vectors.place_at(builder.gep(where, [at]), mask, short), pixel))
            vectors.store(added, builder.gep(total, [o]), among)
            return vectors.transposed(rows), vectors.transposed(starts)

        with cgutils.for_range_slice(builder, i64(0), O, i64(width), inc=True) as (o, _):
            among = vectors.below(builder.sub(O, o))
            lasting = [cgutils.alloca_once_value(builder, i64(0)) for _ in range(width)]
            with cgutils.for_range_slice(builder, i64(0), pixels, i64(width), inc=True) as (first, _):
                for f, (row, start) in enumerate(zip(*square(first, o, among), strict=True)):
                    length = builder.load(lasting[f])
                    at = builder.add(builder.mul(builder.add(o, i64(f)), room), length)
                    some = vectors.nonzero(row)
                    vectors.store(vectors.compressed(row, some), builder.gep(listed, [at]))
                    vectors.store(vectors.compressed(start, some), builder.gep(begins, [at]))
                    builder.store(builder.add(length, vectors.count(some)), lasting[f])
            for f, length in enumerate(lasting):
                builder.store(builder.load(length), builder.gep(lengths, [builder.add(o, i64(f))]))
        return context.get_dummy_value()

    @intrinsic
    def sort(typingctx, grad, indices, pixels, O, multiplier, shift, step, jump, places, values, room, counts,
             sums):  # fmt: skip
        return types.void(*[types.int64] * 13), emit

    @intrinsic
    def sort_short(typingctx, grad, indices, pixels, O, corners, step, row, places, values, room, counts,
                   sums):  # fmt: skip
        return types.void(*[types.int64] * 12), emit

    def kernel(grad, indices, pixels, O, multiplier, shift, step, jump, places, values, room, counts, sums):
        sort(grad, indices, pixels, O, multiplier, shift, step, jump, places, values, room, counts, sums)

    def short_kernel(grad, indices, pixels, O, corners, step, row, places, values, room, counts, sums):
        sort_short(grad, indices, pixels, O, corners, step, row, places, values, room, counts, sums)

    return short_kernel if short else kernel


@functools.cache
def compiled(size: int, short: bool) -> int:
    signature = types.void(*[types.int64] * (12 if short else 13))
    return native(signature, _make(size, short), variant=f"f{8 * size} short={short} lanes={lanes(size)}")
