"""A matrix transposed, square by square in registers: how what lies along short rows gets into the lanes of
vectors."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._jit import inline
from ._math import itemsize
from ._vectors import Vectors, i64
from .tile import lanes


def size_of(real: Any) -> int:
    return int(real.bitwidth // 8)


@intrinsic
def lanes_of(typingctx, real):
    """How many floats of the type of `real` a vector has: a constant to the compiler."""
    width = lanes(size_of(real))
    return types.int64(real), lambda context, builder, signature, args: i64(width)


@intrinsic
def _turn(typingctx, real, source, source_row, rows, columns, target, target_row):
    """``target[j * target_row + i] = source[i * source_row + j]`` for i < `rows` and j < `columns`, both
    at least 1 and at most a vector's lanes. `source` and `target` are addresses of floats of the type of
    `real`."""
    size = size_of(real)
    width = lanes(size)

    def emit(context, builder: ir.IRBuilder, signature, args):
        _, source, source_row, rows, columns, target, target_row = args
        vectors = Vectors(builder, size, width)
        read, written = vectors.below(columns), vectors.below(rows)

        def at(address, row, i, count):
            # Past the last row it is the last: what comes from there lies in lanes that are not written, and
            # what goes there is overwritten by what belongs there. (Masks of their own would cost as much as
            # all the rest.)
            last = builder.sub(count, i64(1))
            i = builder.select(builder.icmp_signed("<", i64(i), last), i64(i), last)
            start = builder.inttoptr(address, vectors.real.as_pointer())
            return builder.gep(start, [builder.mul(row, i)])

        square = [vectors.load(at(source, source_row, i, rows), read) for i in range(width)]
        for j, column in reversed(list(enumerate(vectors.transposed(square)))):
            vectors.store(column, at(target, target_row, j, columns), written)
        return context.get_dummy_value()

    return types.void(real, *[types.int64] * 6), emit


@inline
def turn_part(real, source, source_row, rows, columns, target, target_row):
    """The formula of :func:`_turn` for any number of rows and columns."""
    width, size = lanes_of(real), itemsize(real)
    for i in range(0, rows, width):
        for j in range(0, columns, width):
            _turn(real, source + (i * source_row + j) * size, source_row, min(width, rows - i),
                  min(width, columns - j), target + (j * target_row + i) * size, target_row)  # fmt: skip
