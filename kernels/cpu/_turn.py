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


def _size(real: Any) -> int:
    return int(real.bitwidth // 8)


@intrinsic
def lanes_of(typingctx, real):
    """How many floats of the type of `real` a vector has: a constant to the compiler."""
    width = lanes(_size(real))
    return types.int64(real), lambda context, builder, signature, args: i64(width)


@intrinsic
def _turn(typingctx, real, source, source_row, rows, columns, target, target_row):
    """``target[j * target_row + i] = source[i * source_row + j]`` for i < `rows` and j < `columns`, neither
    more than a vector's lanes. `source` and `target` are addresses of floats of the type of `real`."""
    size = _size(real)
    width = lanes(size)

    def emit(context, builder: ir.IRBuilder, signature, args):
        _, source, source_row, rows, columns, target, target_row = args
        vectors = Vectors(builder, size, width)
        read, written, none = vectors.below(columns), vectors.below(rows), vectors.below(i64(0))

        def at(address, row, i):
            start = builder.inttoptr(address, vectors.real.as_pointer())
            return builder.gep(start, [builder.mul(row, i64(i))])

        def within(i, count, mask):
            return builder.select(builder.icmp_signed("<", i64(i), count), mask, none)

        square = [vectors.load(at(source, source_row, i), within(i, rows, read)) for i in range(width)]
        for j, column in enumerate(vectors.transposed(square)):
            vectors.store(column, at(target, target_row, j), within(j, columns, written))
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


@inline
def turn_all(x, out, real):
    """``out = x.T``, for C-contiguous arrays of floats of the type of `real`."""
    rows, columns = x.shape
    turn_part(real, x.ctypes.data, columns, rows, columns, out.ctypes.data, rows)
