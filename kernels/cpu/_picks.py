"""The gradient of filters with few taps behind a 2 x 2 max-pooling, by vectors that numbers are looked up in.

As in ``_few_taps.py`` the lanes are filters, and a pooled pixel's gradient came, for each filter, from one of
four pixels. What a tap sees from these are four numbers in two rows of the image, with two channels

    row 2y + f        [ a . ][ b . ][ . . ][ . . ]     for the first tap in row f of the filters
    row 2y + f + 1    [ c . ][ d . ][ . . ][ . . ]

Half a vector of the one row and half of the other are a table, and for each tap one instruction gives every
lane its own of the sixteen numbers:

    place[filters] = 8 * down + channels * right       where in its window each filter's maximum was
    w[tap, filters] += table[place + tap] * g

A shuffle and a multiply-add, where masks take four multiply-adds. Taps that half a vector does not reach have
another table. Only vectors of 512 bits have both enough lanes and the instruction.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from ._vectors import Vectors, byte, i32, i64
from .tile import lanes, registers, widest


def tables(length: int, C: int, half: int) -> list[int]:
    """Where in a row of `length` taps of `C` channels each table of `half` a vector begins. From one on,
    ``half - C`` taps are in it."""
    last = max(length + C - half, 0)
    return [min(first, last) for first in range(0, length, half - C)]


def runs_at_once(size: int, C: int, runs: int, length: int, nv: int) -> int:
    """Of how many of its `runs` runs (rows) of `length` taps the sums of `nv` vectors of filters fit the
    registers; 0 where there is no way."""
    half = lanes(size) // 2
    if not widest() or half <= C:
        return 0
    most = registers() - 2 * nv - len(tables(length, C, half)) - 3
    return max((h for h in range(1, runs + 1) if runs % h == 0 and h * length * nv <= most), default=0)


def emitter(size: int, C: int, runs: int, length: int, nv: int, short: bool) -> Any:
    """What emits the body of a kernel of ``_few_taps.py``, for `runs` rows of `length` taps of `C` channels
    and `nv` vectors of filters; `short` as there."""
    width = lanes(size)
    half = width // 2
    name = f"x86.avx512.permvar.{'sf' if size == 4 else 'df'}.512"

    def emit(context, builder: ir.IRBuilder, signature, args):
        sums, bias, apart, image, begins, row, column, grad, indices, PH, PW, across, last = args
        vectors, parts = Vectors(builder, size, width), Vectors(builder, size, half)
        floats = vectors.real.as_pointer()
        number = ir.IntType(8 * size)  # places are looked up with as many bits as there are in a float
        both = ir.Constant(vectors.places, [i32(lane) for lane in range(width)])
        masks = [vectors.below(builder.sub(last, i64(v * width))) for v in range(nv)]
        reach = parts.below(i64(length + C)) if length + C < half else None
        w, b, x, slopes = (builder.inttoptr(address, floats) for address in (sums, bias, image, grad))
        places = builder.inttoptr(indices, (byte if short else i32).as_pointer())
        begins = builder.inttoptr(begins, i64.as_pointer())
        starts = [builder.gep(x, [builder.load(builder.gep(begins, [i64(f)]))]) for f in range(runs)]

        def vector(v, tap):
            return builder.gep(w, [builder.add(builder.mul(apart, i64(tap)), i64(v * width))])

        def narrow(value):
            return vectors.splat(builder.trunc(value, i32))

        def add(sum_, value):
            builder.store(builder.fadd(value, builder.load(sum_)), sum_)

        def half_of(start, at):
            return parts.load(builder.gep(start, [i64(at)]), reach)

        def look_up(table, place):
            function = vectors.function(name, vectors.vector, vectors.vector, place.type)
            return builder.call(function, [table, place])

        held = [
            [cgutils.alloca_once_value(builder, vectors.load(vector(v, tap), masks[v])) for v in range(nv)]
            for tap in range(runs * length)
        ]
        totals = [cgutils.alloca_once_value(builder, vectors.constant(0)) for _ in range(nv)]
        in_a_row = i64(2) if short else across  # a pixel's number in its window is 0, 1, this or one more
        down = narrow(builder.sub(i64(half), builder.mul(in_a_row, i64(C))))
        in_a_row, channels = narrow(in_a_row), narrow(i64(C))
        begin = tables(length, C, half)
        with cgutils.for_range(builder, PH) as rows, cgutils.for_range(builder, PW) as columns:
            at = builder.mul(apart, builder.add(builder.mul(rows.index, PW), columns.index))
            corner = builder.add(builder.mul(rows.index, across), columns.index)
            corner = narrow(builder.mul(corner, i64(2)))
            window = builder.add(builder.mul(rows.index, row), builder.mul(columns.index, column))
            window = builder.mul(window, i64(2))
            slope, place = [], []
            for v, mask in enumerate(masks):
                here = builder.add(at, i64(v * width))
                slope.append(vectors.load(builder.gep(slopes, [here]), mask))
                add(totals[v], slope[v])
                pixel = vectors.place_at(builder.gep(places, [here]), mask, short)
                if not short:
                    pixel = builder.sub(pixel, corner)
                seen = builder.mul(pixel, channels)
                lower = builder.icmp_unsigned(">=", pixel, in_a_row)
                seen = builder.select(lower, builder.add(seen, down), seen)
                place.append(builder.zext(seen, ir.VectorType(number, width)) if size == 8 else seen)
            for f, start in enumerate(starts):
                upper = builder.gep(start, [window])
                lower = builder.gep(upper, [row])
                seen = [builder.shuffle_vector(half_of(upper, a), half_of(lower, a), both) for a in begin]
                for tap in range(length):
                    table = tap // (half - C)
                    shift = vectors.splat(number(tap - begin[table]))
                    for v, sum_ in enumerate(held[f * length + tap]):
                        factor = look_up(seen[table], builder.add(place[v], shift))
                        builder.store(vectors.fmuladd(factor, slope[v], builder.load(sum_)), sum_)
        for tap, sums_of in enumerate(held):
            for v, sum_ in enumerate(sums_of):
                vectors.store(builder.load(sum_), vector(v, tap), masks[v])
        with builder.if_then(builder.icmp_signed("!=", bias, i64(0))):
            for v, mask in enumerate(masks):
                own = builder.gep(b, [i64(v * width)])
                vectors.store(builder.fadd(vectors.load(own, mask), builder.load(totals[v])), own, mask)
        return context.get_dummy_value()

    return emit
