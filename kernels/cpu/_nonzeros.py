"""Lists of the places where at least one of four rows of a matrix, or of four columns, is not zero: what
``_mostly_zeros.py`` runs along.

The numbers of the lanes that pass a test are moved together and appended to the list, whose end moves on by
as many as there are. What is written beyond it the next ones overwrite: a list has room for a vector more.

    rows      A[i, k : k + 16] or A[i + 1, k : k + 16] or ...            ->   2 3 5 9 ...

Columns are read a cache line of them at a time. Of these each row becomes the bits of those that are not
zero; four columns then look at their own four bits of sixteen rows:

    columns   A[k, j : j + 16]   ->   bits[k];      bits[k : k + 16] & 0b11110000   ->   0 4 5 7 ...

Where the CPU cannot compress vectors, a table says which lanes have the bits of a mask.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._jit import native
from ._vectors import LINE, Vectors, i32, i64
from .tile import lanes, widest

FOUR = 4
_WORD = types.int64


def rows_at(builder: ir.IRBuilder, address: Any, apart: Any, rows: Any, size: int) -> list[Any]:
    """The addresses of four rows that lie `apart` numbers of `size` bytes from each other. There are so many
    `rows`, one at least: beyond the last it is the last."""
    last, step = builder.sub(rows, i64(1)), builder.mul(apart, i64(size))
    addresses = []
    for r in range(FOUR):
        here = builder.select(builder.icmp_signed("<", i64(r), last), i64(r), last)
        addresses.append(builder.add(address, builder.mul(here, step)))
    return addresses


def _passing(builder: ir.IRBuilder, vectors: Vectors, mask: Any) -> Any:
    """The numbers of the lanes for which `mask` stands, as int32, moved together."""
    width = vectors.width
    if widest():
        return vectors.compressed(ir.Constant(vectors.places, [i32(lane) for lane in range(width)]), mask)
    tiny = ir.IntType(8)
    rows = [[lane for lane in range(width) if word >> lane & 1] for word in range(1 << width)]
    numbers = [tiny(lane) for row in rows for lane in (*row, *[0] * (width - len(row)))]
    kind = ir.ArrayType(tiny, len(numbers))
    table = cgutils.global_constant(builder, f"lanes_of_{width}_bits", ir.Constant(kind, numbers))
    row = builder.mul(vectors.bits(mask), i64(width))
    start = builder.gep(table, [i64(0), row])
    found = builder.load(builder.bitcast(start, ir.VectorType(tiny, width).as_pointer()))
    found.align = 1
    return builder.zext(found, vectors.places)


def _listing(
    builder: ir.IRBuilder, vectors: Vectors, terms: Any, places: Any, passing: Callable[[Any, Any], Any]
) -> Any:
    """List at `places` which of the numbers below `terms` pass; how many these are. ``passing(k, mask)`` is
    the mask of those among k, k + 1, ..., of which only the lanes of the other mask (None: all) are there."""
    listed = builder.inttoptr(places, i32.as_pointer())
    count = cgutils.alloca_once_value(builder, i64(0))
    width = vectors.width

    def append(k: Any, there: Any) -> None:
        length, mask = builder.load(count), passing(k, there)
        here = builder.add(_passing(builder, vectors, mask), vectors.splat(builder.trunc(k, i32)))
        vectors.store(here, builder.gep(listed, [length]))
        builder.store(builder.add(length, vectors.count(mask)), count)

    whole = builder.and_(terms, i64(-width))
    with cgutils.for_range_slice(builder, i64(0), whole, i64(width), inc=True) as (k, _):
        append(k, None)
    with builder.if_then(builder.icmp_signed("<", whole, terms)):
        append(whole, vectors.below(builder.sub(terms, whole)))
    return builder.load(count)


def _make_of_rows(size: int) -> Any:
    """The code for so many `rows` of `terms` numbers, four at most, which lie `apart` numbers from each
    other: the list's length."""

    def emit(context, builder: ir.IRBuilder, signature, args):
        A, apart, rows, terms, places = args
        vectors = Vectors(builder, size, lanes(size))
        starts = [
            builder.inttoptr(a, vectors.real.as_pointer()) for a in rows_at(builder, A, apart, rows, size)
        ]

        def passing(k, there):
            some = [vectors.nonzero(vectors.load(builder.gep(row, [k]), there)) for row in starts]
            return functools.reduce(builder.or_, some)

        return _listing(builder, vectors, terms, places, passing)

    @intrinsic
    def of_rows(typingctx, A, apart, rows, terms, places):
        return _WORD(*[_WORD] * 5), emit

    def code(A, apart, rows, terms, places):
        return of_rows(A, apart, rows, terms, places)

    return code


def _make_bits(size: int) -> Any:
    """The code that writes to `bits` which of the first `columns` numbers, a cache line at most, of each of
    `terms` rows are not zero. The rows lie `apart` numbers from each other."""
    width, count = lanes(size), LINE // size

    def emit(context, builder: ir.IRBuilder, signature, args):
        A, apart, columns, terms, bits = args
        vectors = Vectors(builder, size, width)
        a, written = builder.inttoptr(A, vectors.real.as_pointer()), builder.inttoptr(bits, i32.as_pointer())

        def go(masks):
            with cgutils.for_range(builder, terms) as loop:
                row, word = builder.gep(a, [builder.mul(loop.index, apart)]), i64(0)
                for first, mask in zip(range(0, count, width), masks, strict=True):
                    value = vectors.load(builder.gep(row, [i64(first)]), mask)
                    own = builder.shl(vectors.bits(vectors.nonzero(value)), i64(first))
                    word = builder.or_(word, own)
                builder.store(builder.trunc(word, i32), builder.gep(written, [loop.index]))

        with builder.if_else(builder.icmp_signed("<", columns, i64(count))) as (edge, inside):
            with edge:
                go([vectors.below(builder.sub(columns, i64(first))) for first in range(0, count, width)])
            with inside:
                go([None] * (count // width))
        return context.get_dummy_value()

    @intrinsic
    def bits_of(typingctx, A, apart, columns, terms, bits):
        return types.void(*[_WORD] * 5), emit

    def code(A, apart, columns, terms, bits):
        bits_of(A, apart, columns, terms, bits)

    return code


def _make_of_bits(size: int) -> Any:
    """The code that lists which of `terms` rows of `bits` have one of `those`."""

    def emit(context, builder: ir.IRBuilder, signature, args):
        bits, those, terms, places = args
        vectors = Vectors(builder, size, lanes(size))
        words = builder.inttoptr(bits, i32.as_pointer())
        tested, zero = vectors.splat(builder.trunc(those, i32)), ir.Constant(vectors.places, None)

        def passing(k, there):
            word = vectors.load(builder.gep(words, [k]), there, kind=vectors.places)
            return builder.icmp_unsigned("!=", builder.and_(word, tested), zero)

        return _listing(builder, vectors, terms, places, passing)

    @intrinsic
    def of_bits(typingctx, bits, those, terms, places):
        return _WORD(*[_WORD] * 4), emit

    def code(bits, those, terms, places):
        return of_bits(bits, those, terms, places)

    return code


def _variant(size: int) -> str:
    return f"f{8 * size} lanes={lanes(size)}"


@functools.cache
def code_of_rows(size: int) -> int:
    """The address of the code for rows."""
    return native(_WORD(*[_WORD] * 5), _make_of_rows(size), variant=_variant(size))


@functools.cache
def codes(size: int) -> tuple[int, int, int]:
    """The same, and the addresses of the code for columns: for their bits, and for what these list."""
    variant = _variant(size)
    return (
        code_of_rows(size),
        native(types.void(*[_WORD] * 5), _make_bits(size), variant=variant),
        native(_WORD(*[_WORD] * 4), _make_of_bits(size), variant=variant),
    )
