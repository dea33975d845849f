"""The transforms of ``_winograd.py``: their matrices, and the straight lines of vector code made of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._vectors import Vectors, byte, i32, i64
from .tile import lanes

Matrix = list[list[Fraction]]
M, N = 4, 6  # pixels a side of an output tile of 3 x 3 filters, and of the patch that it reads
# Of all tried, these points round least: their mean error is 1.8 times that of a direct convolution, 4 times
# with the usual 0, 1, -1, 2, -2. Two of opposite sign share half of their arithmetic.
_POINTS = (Fraction(0), Fraction(2, 3), Fraction(-2, 3), Fraction(3, 2), Fraction(-3, 2))


def _from_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """The coefficients of the product of (x - root), lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *coefficients], [-root * c for c in coefficients] + [Fraction(0)]
        coefficients = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


def matrices(taps: int = 3) -> tuple[Matrix, Matrix, Matrix]:
    """A (m, 6), B (6, 6) and G (6, taps) of F(m, taps), which has m = 7 - taps outputs.

    A convolution is the transpose of a product of polynomials, which is: evaluate both at five points and
    infinity, multiply, interpolate by Lagrange's formula (whose denominators go into G).
    """
    others = [[b for b in _POINTS if b != a] for a in _POINTS]
    denominators = [math.prod(a - b for b in rest) for a, rest in zip(_POINTS, others, strict=True)]
    outputs = N + 1 - taps
    A = [[a**j for a in _POINTS] + [Fraction(j == outputs - 1)] for j in range(outputs)]
    B = [[*_from_roots(rest), Fraction(0)] for rest in others]
    G = [[a**j / d for j in range(taps)] for a, d in zip(_POINTS, denominators, strict=True)]
    return A, [*B, _from_roots(_POINTS)], [*G, [Fraction(j == taps - 1) for j in range(taps)]]


def product(builder: ir.IRBuilder, vectors: Vectors, matrix: Matrix, numbers: Sequence[Any]) -> list[Any]:
    """`matrix` times the column of `numbers`, which are vectors. A row that differs from the one before in
    signs only is made of the same two halves."""

    def combined(weights):
        """The sum of weight times vector; None where all weights are zero."""
        total = None
        for weight, x in sorted(zip(weights, numbers, strict=True), key=lambda pair: pair[0] != 1):
            if weight and total is None:
                total = x if weight == 1 else builder.fmul(x, vectors.constant(weight))
            elif weight == 1:
                total = builder.fadd(total, x)
            elif weight:
                total = vectors.fmuladd(x, vectors.constant(weight), total)
        return total

    rows: list[Any] = []
    for before, row in zip([None, *matrix], matrix, strict=False):
        if before is None or list(map(abs, before)) != list(map(abs, row)):
            rows.append(combined(row))
            continue
        alike = [w if w == v else Fraction(0) for w, v in zip(before, row, strict=True)]
        unlike = [w if w != v else Fraction(0) for w, v in zip(before, row, strict=True)]
        same, opposite = combined(alike), combined(unlike)
        rows[-1:] = [builder.fadd(same, opposite), builder.fsub(same, opposite)]
    return rows


def make_transform(size: int, matrix: Matrix, ending: str) -> Any:
    """The intrinsic that computes T X T' for `matrix` T and a vector of channels.

    X is read at ``source + r * row + c * column``, and the result written likewise. With an `ending`, the
    vector at `bias` is added to all numbers, and the int32 at `doubt` become nonzero where one is not
    finite. With "pool", of each 2 x 2 numbers only the maximum is written, to `out`, and to `where` its
    place: `first` for the first number, one more for the next in its row, `across` more for the next row.
    With "pool, short" that is its place among the four, 0 to 3, in a byte.
    """
    width = lanes(size)
    outputs, inputs = len(matrix), len(matrix[0])
    short = ending == "pool, short"

    def emit(context, builder: ir.IRBuilder, signature, args):
        source, row, column, out, out_row, out_column, bias, doubt, where, first, across = args
        vectors = Vectors(builder, size, width)

        def at(base, i, row, j, column, item=vectors.real):
            index = builder.add(builder.mul(i64(i), row), builder.mul(i64(j), column))
            return builder.gep(builder.inttoptr(base, item.as_pointer()), [index])

        def transformed(numbers):
            return product(builder, vectors, matrix, numbers)

        def place(start, a, b):
            """The number (a, b) of a window whose first one is `start`."""
            if short:
                return vectors.splat(i32(2 * a + b))
            index = builder.add(start, builder.add(builder.mul(i64(a), across), i64(b)))
            return vectors.splat(builder.trunc(index, i32))

        x = [[vectors.load(at(source, r, row, c, column)) for c in range(inputs)] for r in range(inputs)]
        down = [transformed([x[r][c] for r in range(inputs)]) for c in range(inputs)]
        y = [transformed([down[c][i] for c in range(inputs)]) for i in range(outputs)]
        if ending != "":
            shift = vectors.load(builder.inttoptr(bias, vectors.real.as_pointer()))
            y = [[builder.fadd(value, shift) for value in line] for line in y]
            total = functools.reduce(builder.fadd, [value for line in y for value in line])
            bad = builder.fcmp_unordered(">=", vectors.magnitude(total), vectors.constant(math.inf))
            flags = builder.inttoptr(doubt, vectors.places.as_pointer())
            seen = builder.load(flags)
            seen.align = 4
            vectors.store(builder.or_(seen, builder.sext(bad, vectors.places)), flags)
        if ending in ("", "bias"):
            for i in range(outputs):
                for j in range(outputs):
                    vectors.store(y[i][j], at(out, i, out_row, j, out_column))
            return context.get_dummy_value()

        for i in range(0, outputs, 2):
            for j in range(0, outputs, 2):
                start = builder.add(first, builder.add(builder.mul(i64(i), across), i64(j)))
                held, here = y[i][j], place(start, 0, 0)
                for a, b in ((0, 1), (1, 0), (1, 1)):
                    held, here = vectors.larger(y[i + a][j + b], place(start, a, b), held, here)
                vectors.store(held, at(out, i // 2, out_row, j // 2, out_column))
                target = at(where, i // 2, out_row, j // 2, out_column, byte if short else i32)
                vectors.store_place(here, target, short)
        return context.get_dummy_value()

    @intrinsic
    def transform(
        typingctx, source, row, column, out, out_row, out_column, bias, doubt, where, first, across
    ):
        return types.void(*[types.int64] * 11), emit

    return transform
