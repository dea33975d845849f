"""e^x for x <= 0 in emitted code: by a table, where an instruction looks up all lanes of a vector in another.

``_math.py`` has e^x = 2^n e^r with |r| <= ln 2 / 2, and seven terms for e^r in float32. With a table of
2^(j/T) for j < T, as many as a vector has lanes, n counts T-ths, r is T times as small, and four terms do::

    e^x = 2^(n // T) 2^((n mod T) / T) e^r

The instruction sees no more of n than n mod T. Shifted to where an exponent stands, n adds n // T to it, and
to the fraction something that depends on n mod T alone: the numbers of the table are lowered by that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from . import _math
from ._vectors import Vectors
from .tile import lanes, wide_integers

_LOOKUPS = {
    (4, 16): "x86.avx512.permvar.si.512",
    (8, 8): "x86.avx512.permvar.di.512",
    (4, 8): "x86.avx2.permd",
}
# of e^x as in _math.py: what rounds x / ln 2 to n, ln 2 in two parts, the bits of a fraction
_CONSTANTS: dict[int, tuple[Any, ...]] = {
    4: (_math._log2e4, _math._round4, _math._high4, _math._low4, 23),
    8: (_math._log2e8, _math._round8, _math._high8, _math._low8, 52),
}
# (e^r - 1) / r, its last term first, by size and entries: for float32 minimax fits, to 2^-28 of e^r, of 8
# entries to 2^-25
_TERMS: dict[tuple[int, int], tuple[Any, ...]] = {
    (4, 1): (_math.a6, _math.a5, _math.a4, _math.a3, _math.a2, 1),
    (4, 8): (0.16666862, 0.50006574, 1),
    (4, 16): (0.1666672, 0.5000165, 1),
    (8, 1): (*reversed(_math._c8[2:]), 1),
    (8, 8): (*reversed(_math._c8[2:9]), 1),
}
# e^x of no x is less than this one's, and n + this is no less than the exponents of ordinary numbers
_LEAST, RAISED = {4: -118, 8: -746}, {4: 48, 8: 64}


def _entries(size: int) -> int:
    """How many numbers of `size` bytes the table has; 1 is no table."""
    return lanes(size) if (size, lanes(size)) in _LOOKUPS and wide_integers() else 1


def raised_powers(builder: ir.IRBuilder, vectors: Vectors, size: int, xs: list[Any]) -> list[Any]:
    """2^`RAISED` e^x for each x <= 0, or NaN: one step of all, then the next, as ``_each.py`` says."""
    entries = _entries(size)
    log2e, rounds, high, low, fraction = _CONSTANTS[size]
    raised = vectors.constant(rounds + entries * RAISED[size])
    least, one = vectors.constant(_LEAST[size]), vectors.constant(1)
    times, minus_high, minus_low = (
        vectors.constant(number) for number in (entries * log2e, -high / entries, -low / entries)
    )
    # false for NaN, which therefore stays
    xs = [builder.select(builder.fcmp_ordered("<", x, least), least, x) for x in xs]
    ts = [vectors.fmuladd(x, times, raised) for x in xs]
    ns = [builder.fsub(t, raised) for t in ts]
    rs = [vectors.fmuladd(n, minus_high, x) for n, x in zip(ns, xs, strict=True)]
    rs = [vectors.fmuladd(n, minus_low, r) for n, r in zip(ns, rs, strict=True)]
    last, *rest = map(vectors.constant, _TERMS[size, entries])
    terms = [last] * len(xs)
    for term in rest:
        terms = [vectors.fmuladd(sum_, r, term) for sum_, r in zip(terms, rs, strict=True)]

    number = ir.IntType(8 * size)
    bits = ir.VectorType(number, lanes(size))
    shift = fraction - entries.bit_length() + 1
    counts = [builder.bitcast(t, bits) for t in ts]
    exponents = [builder.shl(count, ir.Constant(bits, [number(shift)] * bits.count)) for count in counts]
    if entries == 1:
        powers = [vectors.fmuladd(sum_, r, one) for sum_, r in zip(terms, rs, strict=True)]
        numbers = [builder.add(builder.bitcast(p, bits), e) for p, e in zip(powers, exponents, strict=True)]
        return [builder.bitcast(value, vectors.vector) for value in numbers]
    table = ir.Constant(bits, [number(entry) for entry in _table(size, entries, shift)])
    look_up = vectors.function(_LOOKUPS[size, lanes(size)], bits, bits, bits)
    roots = [builder.call(look_up, [table, count]) for count in counts]
    scales = [builder.add(root, exponent) for root, exponent in zip(roots, exponents, strict=True)]
    scales = [builder.bitcast(scale, vectors.vector) for scale in scales]
    parts = [builder.fmul(sum_, r) for sum_, r in zip(terms, rs, strict=True)]
    return [vectors.fmuladd(part, scale, scale) for part, scale in zip(parts, scales, strict=True)]


def _table(size: int, entries: int, shift: int) -> list[int]:
    """The bits of 2^(j / `entries`), less what shifting j adds to them."""
    real, whole = (np.float32, np.int32) if size == 4 else (np.float64, np.int64)
    roots = np.exp2(np.arange(entries) / entries).astype(real).view(whole)
    return [int(root) - (j << shift) for j, root in enumerate(roots)]
