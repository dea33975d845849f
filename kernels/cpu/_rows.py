"""Rows of a few columns, in vectors: a number of each row (its maximum, its sum), and rows combined with one.

What lies along a row is added (compared) across a vector's lanes. For one row that takes as many steps as
lanes have bits, all waiting for each other; as many rows as there are lanes do it together, in one shuffle
and one blend each. Vectors of two rows exchange halves and are combined to one that has both rows' halves,
and so on::

    a0 a1 a2 a3   c0 c1 c2 c3      a0+a2 a1+a3 c0+c2 c1+c3
                                                               a0+..+a3  b0+..+b3  c0+..+c3  d0+..+d3
    b0 b1 b2 b3   d0 d1 d2 d3      b0+b2 b1+b3 d0+d2 d1+d3

Addresses are of floats of the type of `real`; a row begins `row` floats after the one before.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._turn import size_of
from ._vectors import Vectors, i64
from .tile import lanes


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


def _larger(builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


largest_of_rows = _make_fold(-math.inf, _larger)
sums_of_rows = _make_fold(0.0, ir.IRBuilder.fadd)
copy_rows = _make_pass(lambda builder, value, number: value, apart=False)
rows_minus = _make_pass(ir.IRBuilder.fsub, apart=False)
out_minus = _make_pass(ir.IRBuilder.fsub, apart=True)
out_times = _make_pass(ir.IRBuilder.fmul, apart=True)
