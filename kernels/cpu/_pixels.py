"""The gradient of a convolution's input behind a max-pooling of 2 x 2, one pooled pixel at a time.

The maximum of a window came, for each filter, from one of four pixels of the convolution; there the filter,
times the pooled gradient, is added to the image. What the four can reach, of all filters, are a few pixels of
the image, 4 x 4 for filters of 3 x 3:

    [ w w w . ]   [ . w w w ]   [ . . . . ]   [ . . . . ]
    [ w w w . ]   [ . w w w ]   [ w w w . ]   [ . w w w ]
    [ w w w . ]   [ . w w w ]   [ w w w . ]   [ . w w w ]
    [ . . . . ]   [ . . . . ]   [ w w w . ]   [ . w w w ]

A vector of channels of each of them stays in a register until all filters have been there, one of the four
cases after the other; a filter costs a broadcast, and a multiply-add with an operand in memory for each tap.
Lists by filter (``_windows.py``) load and store the image for each, twice the time where stores take two
cycles. Which filters a case is about is a word of 64 bits for as many of them, found once for all channels;
those whose gradient is zero are in none. Half of the pixels reached go on to the next window of the row in
their registers, and what no window has reached before begins at zero: each pixel of the image is written by
the windows of two rows and read by those of one.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._jit import inline, jit, native
from ._math import like
from ._memory import aligned, hwio
from ._turn import turn_part
from ._vectors import Vectors, bit, byte, i32, i64
from .threads import parallel_for, pool
from .tile import lanes, registers

WORD = 64  # filters at a time
CASES = tuple(itertools.product(range(2), range(2)))  # (down, right), where in a window its maximum was
_PIECE = 16  # filters whose bits are found at a time, for any CPU


def pays(KH: int, KW: int) -> bool:
    """Whether what filters of this size reach fits the registers, beside a few for other things."""
    reached = (KH + 1) * (KW + 1)
    return reached <= registers() - 4


def _make_cases(size: int, short: bool) -> Any:
    """The kernel that fills `words`, one for each of `PH` x `PW` pooled pixels of `O` filters, 64 filters and
    case, with which of them it is about. The convolution is `across` pixels wide; where `short`, `indices`
    are bytes, each the number of its case.
    """

    def emit(context, builder: ir.IRBuilder, signature, args):
        grad, indices, words, PH, PW, O, across = args
        vectors, piece = Vectors(builder, size, _PIECE), ir.IntType(_PIECE)
        slopes = builder.inttoptr(grad, vectors.real.as_pointer())
        places = builder.inttoptr(indices, (byte if short else i32).as_pointer())
        bits = builder.inttoptr(words, piece.as_pointer())
        groups = builder.udiv(builder.add(O, i64(WORD - 1)), i64(WORD))
        with cgutils.for_range(builder, PH) as rows, cgutils.for_range(builder, PW) as columns:
            corner = builder.mul(i64(2), builder.add(builder.mul(rows.index, across), columns.index))
            cases = []
            for number, (down, right) in enumerate(CASES):
                place = builder.add(corner, builder.add(builder.mul(across, i64(down)), i64(right)))
                cases.append(vectors.splat(i32(number) if short else builder.trunc(place, i32)))
            pixel = builder.add(builder.mul(rows.index, PW), columns.index)
            at, words_of = builder.mul(O, pixel), builder.mul(groups, pixel)
            with cgutils.for_range(builder, groups) as group:
                first = builder.mul(group.index, i64(WORD))
                target = builder.mul(builder.add(words_of, group.index), i64(len(CASES) * WORD // _PIECE))
                for o in range(0, WORD, _PIECE):
                    here = builder.add(first, i64(o))
                    among = vectors.below(builder.sub(O, here))
                    here = builder.add(at, here)
                    slope = vectors.load(builder.gep(slopes, [here]), among)
                    place = vectors.place_at(builder.gep(places, [here]), among, short)
                    there = vectors.nonzero(slope)
                    for case, its in enumerate(cases):
                        those = builder.and_(builder.icmp_signed("==", place, its), there)
                        index = builder.add(target, i64((case * WORD + o) // _PIECE))
                        builder.store(builder.bitcast(those, piece), builder.gep(bits, [index]))
        return context.get_dummy_value()

    @intrinsic
    def cases(typingctx, grad, indices, words, PH, PW, O, across):
        return types.void(*[types.int64] * 7), emit

    def kernel(grad, indices, words, PH, PW, O, across):
        cases(grad, indices, words, PH, PW, O, across)

    return kernel


def _make(size: int, KH: int, KW: int, masked: bool) -> Any:
    """The kernel for filters of this size and one vector of channels.

    `image` is where these channels of the first of `H` x `W` pixels are, which lie `apart` elements from
    each other; around it are `top` and `left` pixels of padding, which are nowhere in memory. `grad` is where
    the first of `PH` x `PW` pooled pixels is, with `O` filters each, `words` what `_make_cases` made of them;
    `weights` has a vector for each filter and tap. `masked`: only the first `last` channels are touched.
    """
    width = lanes(size)

    def emit(context, builder: ir.IRBuilder, signature, args):
        image, apart, H, W, top, left, grad, words, weights, PH, PW, O, last = args
        vectors = Vectors(builder, size, width)
        floats, zero = vectors.real.as_pointer(), vectors.constant(0)
        mask = vectors.below(last) if masked else None
        x, slopes, w = (builder.inttoptr(address, floats) for address in (image, grad, weights))
        cases = builder.inttoptr(words, i64.as_pointer())
        groups = builder.udiv(builder.add(O, i64(WORD - 1)), i64(WORD))
        held = [[cgutils.alloca_once(builder, vectors.vector) for _ in range(KW + 1)] for _ in range(KH + 1)]
        word = cgutils.alloca_once(builder, i64)
        padding = cgutils.alloca_once_value(builder, zero)

        def pixel(window, r, c):
            """Where the pixel (r, c) of those that a window reaches is; one place for all of the padding."""
            y, z = (builder.add(builder.sub(builder.mul(i, i64(2)), before), i64(n))
                    for i, before, n in zip(window, (top, left), (r, c), strict=True))  # fmt: skip
            inside = builder.and_(builder.icmp_unsigned("<", y, H), builder.icmp_unsigned("<", z, W))
            row = builder.gep(x, [builder.mul(builder.mul(y, W), apart)])
            there = builder.gep(row, [builder.mul(z, apart)])
            return builder.select(inside, there, builder.bitcast(padding, floats))

        def load(window, columns):
            """Take over what the row of windows above has left."""
            for r, c in itertools.product(range(KH + 1), columns):
                builder.store(zero, held[r][c])
            with builder.if_then(builder.icmp_signed(">", window[0], i64(0))):
                for r, c in itertools.product(range(KH - 1), columns):
                    builder.store(vectors.load(pixel(window, r, c), mask), held[r][c])

        def store(window, columns):
            for r, c in itertools.product(range(KH + 1), columns):
                vectors.store(builder.load(held[r][c]), pixel(window, r, c), mask)

        def add_filters(its, down, right, first, at):
            """Add all filters of the word `its`, of which bit 0 is filter `first` and has its gradient at
            `at`."""
            builder.store(its, word)
            head, body, done = (builder.append_basic_block() for _ in range(3))
            builder.branch(head)
            builder.position_at_end(head)
            those = builder.load(word)
            builder.cbranch(builder.icmp_signed("!=", those, i64(0)), body, done)
            builder.position_at_end(body)
            o = builder.call(vectors.function("cttz.i64", i64, i64, bit), [those, bit(1)])
            builder.store(builder.and_(those, builder.sub(those, i64(1))), word)
            factor = vectors.splat(builder.load(builder.gep(slopes, [builder.add(at, o)])))
            own = builder.gep(w, [builder.mul(builder.add(first, o), i64(KH * KW * width))])
            for tap, (f, q) in enumerate(itertools.product(range(KH), range(KW))):
                sum_ = held[down + f][right + q]
                weight = vectors.load(builder.gep(own, [i64(tap * width)]))
                builder.store(vectors.fmuladd(factor, weight, builder.load(sum_)), sum_)
            builder.branch(head)
            builder.position_at_end(done)

        with cgutils.for_range(builder, PH) as rows:
            load((rows.index, i64(0)), range(KW - 1))
            with cgutils.for_range(builder, PW) as columns:
                window = rows.index, columns.index
                load(window, range(KW - 1, KW + 1))
                at = builder.add(builder.mul(rows.index, PW), columns.index)
                with cgutils.for_range(builder, groups) as group:
                    first = builder.mul(group.index, i64(WORD))
                    here = builder.add(builder.mul(O, at), first)
                    those = builder.add(builder.mul(groups, at), group.index)
                    those = builder.gep(cases, [builder.mul(those, i64(len(CASES)))])
                    for case, (down, right) in enumerate(CASES):
                        add_filters(builder.load(builder.gep(those, [i64(case)])), down, right, first, here)
                store(window, range(2))
                for r, c in itertools.product(range(KH + 1), range(KW - 1)):
                    builder.store(builder.load(held[r][c + 2]), held[r][c])
            store((rows.index, PW), range(KW - 1))
        return context.get_dummy_value()

    @intrinsic
    def pixels(typingctx, image, apart, H, W, top, left, grad, words, weights, PH, PW, O, last):
        return types.void(*[types.int64] * 13), emit

    def kernel(image, apart, H, W, top, left, grad, words, weights, PH, PW, O, last):
        pixels(image, apart, H, W, top, left, grad, words, weights, PH, PW, O, last)

    return kernel


@functools.cache
def _compiled(size: int, KH: int, KW: int, masked: bool) -> int:
    variant = f"f{8 * size} {KH} x {KW} masked={masked} lanes={lanes(size)}"
    return native(types.void(*[types.int64] * 13), _make(size, KH, KW, masked), variant=variant)


@functools.cache
def _compiled_cases(size: int, short: bool) -> int:
    variant = f"cases, f{8 * size} short={short}"
    return native(types.void(*[types.int64] * 7), _make_cases(size, short), variant=variant)


def codes(size: int, KH: int, KW: int, C: int, short: bool) -> tuple[int, int, int]:
    """The addresses of the kernels for the cases, for whole vectors of channels, and for what is left over of
    `C`; `short` as in `_make_cases`."""
    whole, rest = divmod(C, lanes(size))
    return (
        _compiled_cases(size, short),
        _compiled(size, KH, KW, False) if whole else 0,
        _compiled(size, KH, KW, True) if rest else 0,
    )


@inline
def _turn_task(t, filters, out):
    taps, C, O = filters.shape
    width = out.shape[3]
    block, tap = t // taps, t % taps
    first = block * width
    target = out[block].ctypes.data + tap * width * out.itemsize
    source = filters[tap, first:].ctypes.data
    channels = min(width, C - first)
    turn_part(like(filters[0, 0, 0], 0), source, O, channels, O, target, taps * width)
    for o in range(O):
        for lane in range(channels, width):
            out[block, o, tap, lane] = 0


@jit
def _turn(pool, filters, out):
    parallel_for(pool, out.shape[0] * filters.shape[0], _turn_task, (filters, out))


def by_channels(weight):
    """OIHW filters as an array (blocks of a vector of channels, O x taps x lanes)."""
    O, C, KH, KW = weight.shape
    width = lanes(weight.itemsize)
    turned = aligned((-(-C // width), O, KH * KW, width), weight.dtype)
    _turn(pool(), hwio(weight).reshape(KH * KW, C, O), turned)
    return turned.reshape(len(turned), -1)
