"""Softmax of short rows, some of them in registers from the first comparison to the last product.

What lies along a row is compared and added across a vector's lanes. For one row that takes as many steps as
lanes have bits, all waiting for each other; a group of rows does it together, in one shuffle and one blend
each. Vectors of two rows exchange halves and are combined to one that has both rows' halves, and so on::

    a0 a1 a2 a3   c0 c1 c2 c3      a0+a2 a1+a3 c0+c2 c1+c3
                                                               a0+..+a3  b0+..+b3  c0+..+c3  d0+..+d3
    b0 b1 b2 b3   d0 d1 d2 d3      b0+b2 b1+b3 d0+d2 d1+d3

A group has as many rows as a vector has lanes, but eight at most: few enough for a processor to see the next
group's instructions while this one's sums are waited for. If maxima were waited for as well it would not:
they are found a group ahead (:func:`make_peaks`).

A row is read and written in whole vectors, which reach into the row behind. What is read there is left out of
the row's maximum and sum; what is written there is written anew with that row. Who calls a group must be
compiled without reassociation (`EXACT`).

Columns need no folding: rows are added lane by lane (:func:`column_sums`).
"""

from __future__ import annotations

import functools
import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._each import SIDE_BY_SIDE
from ._jit import inline
from ._powers import RAISED, raised_powers
from ._turn import size_of
from ._vectors import LINE, Vectors, i32, i64, prefetch
from .tile import lanes

PEAKS, TOTALS, LABELS = KINDS = range(3)  # of numbers of each row
_MOST = 8  # rows of a group, and vectors of a row
_AHEAD = 32  # rows
_ROWS, _SUMS = 64, 4  # whose columns are added at a time, and in how many sums


def group_of(size: int) -> int:
    """How many rows of floats of `size` bytes are worked on together."""
    return min(lanes(size), _MOST)


def longest(size: int) -> int:
    """How many columns a short row has at most."""
    return _MOST * lanes(size)


def _larger(builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


class _Group:
    """The instructions for a group of rows of `count` vectors, `columns` floats long."""

    def __init__(self, builder: ir.IRBuilder, size: int, count: int, columns: Any) -> None:
        width, self._builder, self._size, self._columns = lanes(size), builder, size, columns
        self._rows, self._starts = range(group_of(size)), range(0, count * width, width)
        self._vectors, self.numbers = Vectors(builder, size, width), Vectors(builder, size, len(self._rows))
        self._mask = self._vectors.below(builder.sub(columns, i64(self._starts[-1])))

    def address(self, x: Any) -> Any:
        return self._builder.inttoptr(x, self._vectors.real.as_pointer())

    def _place(self, x: Any, row: int, column: Any) -> Any:
        begin = self._builder.mul(self._columns, i64(row))
        return self._builder.gep(x, [self._builder.add(begin, column)])

    def kinds(self, numbers: Any, apart: Any) -> list[Any]:
        """The addresses of the rows' peaks, totals and labels, which are so many bytes `apart`."""
        places = (self._builder.mul(apart, i64(kind)) for kind in KINDS)
        return [self.address(self._builder.add(numbers, place)) for place in places]

    def load(self, x: Any) -> list[list[Any]]:
        """The vectors of each row."""
        return [
            [self._vectors.load(self._place(x, row, i64(start))) for start in self._starts]
            for row in self._rows
        ]

    def ask(self, x: Any) -> None:
        """Ask for what will be loaded some groups later."""
        for row in self._rows:
            for start in self._starts:
                if start * self._size % LINE == 0:
                    prefetch(self._builder, self._place(x, row + _AHEAD, i64(start)), level=2)

    def store(self, rows: list[list[Any]], x: Any) -> None:
        for row, parts in enumerate(rows):
            for start, part in zip(self._starts, parts, strict=True):
                self._vectors.store(part, self._place(x, row, i64(start)))

    def folded(self, rows: list[list[Any]], combine: Any, neutral: float) -> Any:
        """A number of each row, in lanes: all of the row combined; `neutral` changes nothing."""
        none = self._vectors.constant(neutral)
        ends = [self._builder.select(self._mask, parts[-1], none) for parts in rows]
        join = functools.partial(combine, self._builder)
        return self._vectors.folded(
            [functools.reduce(join, parts[:-1], end) for parts, end in zip(rows, ends, strict=True)], combine
        )

    def spread(self, numbers: Any) -> list[Any]:
        """The number of each row in all lanes."""
        return [self._vectors.lane(numbers, row) for row in self._rows]

    def spread_from(self, memory: Any) -> list[Any]:
        """The same out of memory, which takes no shuffles."""
        return [self._vectors.splat(number) for number in self._one_by_one(memory)]

    def labels(self, memory: Any) -> list[Any]:
        """The label of each row, from integers as wide as the floats."""
        integers = self._builder.bitcast(memory, ir.IntType(8 * self._size).as_pointer())
        return [self._builder.sext(number, i64) for number in self._one_by_one(integers)]

    def _one_by_one(self, memory: Any) -> list[Any]:
        return [self._builder.load(self._builder.gep(memory, [i64(row)])) for row in self._rows]

    def picked(self, x: Any, labels: list[Any]) -> Any:
        """The number of each row at its label, in lanes."""
        vector = ir.Constant(self.numbers.vector, ir.Undefined)
        for row, label in enumerate(labels):
            number = self._builder.load(self._place(x, row, label))
            vector = self._builder.insert_element(vector, number, i32(row))
        return vector

    def shifted(self, x: Any, labels: list[Any]) -> list[list[Any]]:
        """Rows whose number at the label is at `x`, and the others before and behind."""
        return [
            [
                self._vectors.load(self._builder.gep(x, [self._builder.sub(i64(start), label)]))
                for start in self._starts
            ]
            for label in labels
        ]

    def products(self, rows: list[list[Any]], factors: list[Any], more: list[list[Any]]) -> list[list[Any]]:
        """Each row times its factor, and `more` added to that."""
        return [
            [self._vectors.fmuladd(part, factor, other) for part, other in zip(parts, others, strict=True)]
            for parts, factor, others in zip(rows, factors, more, strict=True)
        ]

    def powers(self, rows: list[list[Any]]) -> list[list[Any]]:
        parts, powers, count = [part for row in rows for part in row], [], len(self._starts)
        for i in range(0, len(parts), SIDE_BY_SIDE):
            some = parts[i : i + SIDE_BY_SIDE]
            powers += raised_powers(self._builder, self._vectors, self._size, some)
        return [powers[i : i + count] for i in range(0, len(powers), count)]


def _with(rows: list[list[Any]], numbers: list[Any], combine: Any) -> list[list[Any]]:
    """Each row combined with its number."""
    return [[combine(part, n) for part in parts] for parts, n in zip(rows, numbers, strict=True)]


def make_peaks(size: int, count: int) -> Any:
    """The intrinsic (real, x, columns, peaks) for each row's maximum, of a group of rows of `count` vectors
    of floats of `size` bytes. `x` and `peaks` are addresses. A NaN does not win."""

    @intrinsic
    def peaks(typingctx, real, x, columns, peaks):
        def emit(context, builder: ir.IRBuilder, signature, args):
            _, x, columns, peaks = args
            group = _Group(builder, size, count, columns)
            x, peaks = map(group.address, (x, peaks))
            group.ask(x)
            group.numbers.store(group.folded(group.load(x), _larger, -math.inf), peaks)
            return context.get_dummy_value()

        return types.void(real, *[types.int64] * 3), emit

    return peaks


def make_softmax(size: int, count: int, result: str) -> Any:
    """The intrinsic (scale, x, columns, numbers, apart, taken, out) for the same group. `x`, `numbers`,
    `taken` and `out` are addresses; each of the `KINDS` of numbers is so many bytes `apart` from the last.

    Of each row, ``exp(x - maximum)`` is added up in TOTALS. If these "sums" are not all of the `result`,
    ``scale * softmax(x)`` goes to `out` ("shares"). For the "gradient" what is at `taken` is added to that at
    the row's label, and zeros elsewhere: those before and behind `taken`, less than a row's lanes on either
    side. Then ``x - maximum`` at the label takes the place of the maximum. With a NaN in a row its sum and
    results are NaN.
    """

    @intrinsic
    def softmax(typingctx, scale, x, columns, numbers, apart, taken, out):
        def emit(context, builder: ir.IRBuilder, signature, args):
            scale, x, columns, numbers, apart, taken, out = args
            group = _Group(builder, size, count, columns)
            (peaks, totals, labels), x = group.kinds(numbers, apart), group.address(x)
            rows = group.powers(_with(group.load(x), group.spread_from(peaks), builder.fsub))
            total = group.folded(rows, ir.IRBuilder.fadd, 0)
            lowered = group.numbers.constant(2.0 ** -RAISED[size])
            group.numbers.store(builder.fmul(total, lowered), totals)
            if result == "sums":
                return context.get_dummy_value()
            factors = group.spread(builder.fdiv(group.numbers.splat(scale), total))
            if result == "gradient":
                labels = group.labels(labels)
                below = builder.fsub(group.picked(x, labels), group.numbers.load(peaks))
                group.numbers.store(below, peaks)
                rows = group.products(rows, factors, group.shifted(group.address(taken), labels))
            else:
                rows = _with(rows, factors, builder.fmul)
            group.store(rows, group.address(out))
            return context.get_dummy_value()

        return types.void(scale, *[types.int64] * 6), emit

    return softmax


def make_minus(size: int, count: int) -> Any:
    """The intrinsic (real, x, columns, numbers, apart, taken, out) for ``out = (x - peak) - log``, with each
    row's logarithm in place of its total."""

    @intrinsic
    def minus(typingctx, real, x, columns, numbers, apart, taken, out):
        def emit(context, builder: ir.IRBuilder, signature, args):
            _, x, columns, numbers, apart, _, out = args
            group = _Group(builder, size, count, columns)
            peaks, logs, _ = group.kinds(numbers, apart)
            rows = group.load(group.address(x))
            for place in (peaks, logs):
                rows = _with(rows, group.spread(group.numbers.load(place)), builder.fsub)
            group.store(rows, group.address(out))
            return context.get_dummy_value()

        return types.void(real, *[types.int64] * 6), emit

    return minus


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


@inline
def column_sums(matrix, sums):
    """``sums[j] = matrix[0, j] + matrix[1, j] + ...``: the gradient of a bias."""
    rows, columns = matrix.shape
    sums[:] = 0
    real = sums.dtype.type(0)
    add_columns(real, matrix.ctypes.data, columns, rows, min(columns, sums.size), sums.ctypes.data)
