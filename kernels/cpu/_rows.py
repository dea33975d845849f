"""Rows of a few columns, in vectors: a number of each row (its maximum, its sum), and rows combined with one.

What lies along a row is added (compared) across a vector's lanes. For one row that takes as many steps as
lanes have bits, all waiting for each other; as many rows as there are lanes do it together, in one shuffle
and one blend each. Vectors of two rows exchange halves and are combined to one that has both rows' halves,
and so on::

    a0 a1 a2 a3   c0 c1 c2 c3      a0+a2 a1+a3 c0+c2 c1+c3
                                                               a0+..+a3  b0+..+b3  c0+..+c3  d0+..+d3
    b0 b1 b2 b3   d0 d1 d2 d3      b0+b2 b1+b3 d0+d2 d1+d3

Columns need none of that: rows are added lane by lane.

Addresses are of floats of the type of `real`; a row begins `row` floats after the one before.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._turn import size_of
from ._vectors import Vectors, i64
from .tile import lanes

_ROWS, _SUMS = 64, 4  # whose columns are added at a time, and in how many sums


def _make_fold(neutral: float, combine: Any) -> Any:
    """The intrinsic that combines what lies along rows, of which there are as many as a vector has lanes;
    with `neutral` nothing changes."""

    @intrinsic
    def fold(typingctx, real, source, row, columns, target):
        size = size_of(real)
        width = lanes(size)

        def emit(context, builder: ir.IRBuilder, signature, args):
            _, source, row, columns, target = args
            vectors = Vectors(builder, size, width)
            floats = vectors.real.as_pointer()
            source, target = (builder.inttoptr(address, floats) for address in (source, target))
            begins = [builder.gep(source, [builder.mul(row, i64(i))]) for i in range(width)]
            held = [cgutils.alloca_once(builder, vectors.vector) for _ in begins]
            none = vectors.constant(neutral)
            mask = vectors.below(columns)
            for begin, whole in zip(begins, held, strict=True):
                builder.store(vectors.load(begin, mask, none), whole)
            with cgutils.for_range_slice(builder, i64(width), columns, i64(width), i64) as (column, _):
                mask = vectors.below(builder.sub(columns, column))
                for begin, whole in zip(begins, held, strict=True):
                    value = vectors.load(builder.gep(begin, [column]), mask, none)
                    builder.store(combine(builder, builder.load(whole), value), whole)
            folded = vectors.folded([builder.load(whole) for whole in held], combine)
            vectors.store(folded, target)
            return context.get_dummy_value()

        return types.void(real, *[types.int64] * 4), emit

    return fold


def _make_pass(combine: Any, *, apart: bool) -> Any:
    """The intrinsic that combines each row with a number of its own.

    Either rows of so many `columns` go to rows of whole vectors, in which behind a row's last number its
    first is repeated; or, with `apart`, the reverse.
    """

    @intrinsic
    def each(typingctx, real, source, source_row, rows, columns, numbers, target, target_row):
        size = size_of(real)
        width = lanes(size)

        def emit(context, builder: ir.IRBuilder, signature, args):
            _, source, source_row, rows, columns, numbers, target, target_row = args
            vectors = Vectors(builder, size, width)
            floats = vectors.real.as_pointer()
            source, numbers, target = (
                builder.inttoptr(address, floats) for address in (source, numbers, target)
            )
            with cgutils.for_range_slice(builder, i64(0), columns, i64(width), i64) as (column, _):
                mask = vectors.below(builder.sub(columns, column))
                with cgutils.for_range(builder, rows) as row:
                    begin = builder.gep(source, [builder.mul(source_row, row.index)])
                    place = builder.gep(begin, [column])
                    goal = builder.gep(target, [builder.add(builder.mul(target_row, row.index), column)])
                    number = vectors.splat(builder.load(builder.gep(numbers, [row.index])))
                    if apart:
                        vectors.store(combine(builder, vectors.load(place), number), goal, mask)
                    else:
                        value = vectors.load(place, mask, vectors.splat(builder.load(begin)))
                        vectors.store(combine(builder, value, number), goal)
            return context.get_dummy_value()

        return types.void(real, *[types.int64] * 7), emit

    return each


@intrinsic
def add_columns(typingctx, real, source, row, rows, columns, target):
    """``target[j] += source[0 * row + j] + source[1 * row + j] + ...`` for j < `columns`: the gradient of a
    bias.

    Some rows at a time, which are in the L1 cache for all columns; of these, each of four sums takes every
    fourth, as each addition waits for the last.
    """
    size = size_of(real)
    width = lanes(size)

    def emit(context, builder: ir.IRBuilder, signature, args):
        _, source, row, rows, columns, target = args
        vectors = Vectors(builder, size, width)
        source, target = (
            builder.inttoptr(address, vectors.real.as_pointer()) for address in (source, target)
        )
        sums = [cgutils.alloca_once(builder, vectors.vector) for _ in range(_SUMS)]

        def add(sum_, number, column, mask):
            value = vectors.load(builder.gep(source, [builder.add(builder.mul(row, number), column)]), mask)
            builder.store(builder.fadd(builder.load(sum_), value), sum_)

        with cgutils.for_range_slice(builder, i64(0), rows, i64(_ROWS), inc=True) as (first, _):
            left = builder.sub(rows, first)
            count = builder.select(builder.icmp_signed("<", left, i64(_ROWS)), left, i64(_ROWS))
            whole = builder.udiv(count, i64(_SUMS))
            with cgutils.for_range_slice(builder, i64(0), columns, i64(width), inc=True) as (column, _):
                mask = vectors.below(builder.sub(columns, column))
                for sum_ in sums:
                    builder.store(vectors.constant(0), sum_)
                with cgutils.for_range(builder, whole) as some:
                    number = builder.add(first, builder.mul(some.index, i64(_SUMS)))
                    for i, sum_ in enumerate(sums):
                        add(sum_, builder.add(number, i64(i)), column, mask)
                done = builder.mul(whole, i64(_SUMS))
                with cgutils.for_range(builder, builder.sub(count, done)) as rest:
                    add(sums[0], builder.add(first, builder.add(done, rest.index)), column, mask)
                begin = builder.gep(target, [column])
                total = functools.reduce(builder.fadd, map(builder.load, sums), vectors.load(begin, mask))
                vectors.store(total, begin, mask)
        return context.get_dummy_value()

    return types.void(real, *[types.int64] * 5), emit


def _larger(builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


largest_of_rows = _make_fold(-math.inf, _larger)
sums_of_rows = _make_fold(0.0, ir.IRBuilder.fadd)
copy_rows = _make_pass(lambda builder, value, number: value, apart=False)
rows_minus = _make_pass(ir.IRBuilder.fsub, apart=False)
out_minus = _make_pass(ir.IRBuilder.fsub, apart=True)
out_times = _make_pass(ir.IRBuilder.fmul, apart=True)
