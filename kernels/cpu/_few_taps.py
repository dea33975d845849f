"""The gradient of filters with few taps: a network's first convolution, with a 2 x 2 max-pooling or without.

The lanes are filters, and all taps stay in registers while the pixels stream past:

    for each pixel p:   w[tap, filters] += image[window of p, tap] * grad[p, filters]

A step is a load of the gradient, and a multiply-add for each tap whose factor comes from memory, at a
distance from the begin of its filter's row that is known beforehand: no address is computed, and none takes a
register. (The tile of ``tile.py`` reads rows of A wherever a table says, and of 27 taps three are left over.)

Behind a pooling, ``_windows.py`` has a window's taps in its lanes and takes the gradients of one filter after
the other. Few taps are little work for each of them, less than making its list. Here,

    for each pooled pixel p:   g = grad[p, filters],  i = indices[p, filters]
        for each of the four pixels q under p:
            w[tap, filters] += image[window of q, tap] * g    in the lanes where i is q

which multiplies four times where lists multiply once, but with nothing to look up: a step is one multiply-add
whose factor comes from memory and whose lanes are masked. (Masked, so that an infinity in the image meets no
zero.) More taps than there are registers for are taken in several passes. Where vectors allow it, each lane
picks the number that it needs instead (``_picks.py``): this file then says for whom, and in which order.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import _picks
from ._conv_rows import add_parts, whole
from ._jit import call_code, inline, jit, native
from ._memory import aligned
from ._vectors import IN_FLIGHT, Vectors, byte, i32, i64, prefetch
from ._windows import shares
from .threads import parallel_for, pool
from .tile import lanes, registers

_MOST_RUNS = 7  # whose begins are held in registers
_LIST = 12  # multiply-adds that a gradient takes by way of lists
_MASKS, _PICKS = 4, 2  # that a tap takes, for a vector of filters


@functools.lru_cache(maxsize=256)
def _picking(shape, strides, itemsize):
    """Of how many rows the taps of filters of an OIHW `shape` are picked at once, and for how many vectors of
    filters; no rows where masks are the way. `strides` and dilations in one."""
    O, C, KH, KW = shape
    pairs = -(-O // lanes(itemsize)) % 2 == 0
    for nv in (2, 1) if pairs else (1,):
        rows = _picks.runs_at_once(itemsize, C, KH, KW * C, nv) if set(strides) == {1} else 0
        if rows > 0:
            return rows, nv
    return 0, 1


def pays(shape, strides, runs, itemsize):
    """Whether this takes less time than lists do behind a pooling, for filters of an OIHW `shape`, taps in
    `runs` runs."""
    O, C, KH, KW = shape
    cost = _PICKS if _picking(shape, strides, itemsize)[0] > 0 else _MASKS
    return runs <= _MOST_RUNS and cost * C * KH * KW * -(-O // lanes(itemsize)) <= _LIST * O


def pays_everywhere(shape, runs, itemsize):
    """Whether this takes less time than the register tile where every pixel has a gradient of its own."""
    _, C, KH, KW = shape
    return runs <= _MOST_RUNS and IN_FLIGHT <= C * KH * KW <= registers() - 4


def _make(emit: Any) -> Any:
    """The kernel whose body is what `emit` emits, for one vector of filters or some.

    `sums` is where the first tap's sums lie, the others' `apart` elements on; `begins` where each run begins,
    `grad` and `indices` where the first pooled pixel's are, `apart` elements each. A step of a row of the
    convolution is `row` elements in the image, one of a column `column`.
    """

    @intrinsic
    def taps(typingctx, sums, bias, apart, image, begins, row, column, grad, indices, PH, PW, across, last):
        return types.void(*[types.int64] * 13), emit

    def kernel(sums, bias, apart, image, begins, row, column, grad, indices, PH, PW, across, last):
        taps(sums, bias, apart, image, begins, row, column, grad, indices, PH, PW, across, last)

    return kernel


def _emitter(size: int, runs: int, length: int, pooled: bool, short: bool = False) -> Any:
    """What emits the body for `runs` runs of `length` taps and a vector of filters: by masks where `pooled`.
    Else `PH` x `PW` are all pixels of the convolution, and `indices` and `across` are about nothing. Where
    `short`, `indices` are bytes and a pixel's number in its window."""
    width = lanes(size)

    def emit(context, builder: ir.IRBuilder, signature, args):
        sums, bias, apart, image, begins, row, column, grad, indices, PH, PW, across, last = args
        vectors = Vectors(builder, size, width)
        floats, mask, zero = vectors.real.as_pointer(), vectors.below(last), vectors.constant(0)
        w, b, x, slopes = (builder.inttoptr(address, floats) for address in (sums, bias, image, grad))
        places = builder.inttoptr(indices, (byte if short else i32).as_pointer())
        begins = builder.inttoptr(begins, i64.as_pointer())
        starts = [builder.gep(x, [builder.load(builder.gep(begins, [i64(f)]))]) for f in range(runs)]
        own = [builder.gep(w, [builder.mul(apart, i64(tap))]) for tap in range(runs * length)]
        held = [cgutils.alloca_once_value(builder, vectors.load(start, mask)) for start in own]
        total = cgutils.alloca_once_value(builder, zero)

        def pixels(r, c, at):
            """The pixels of the convolution that the gradients at `at` may be for, and in which lanes."""
            if not pooled:
                yield r, c, None
                return
            place = vectors.place_at(builder.gep(places, [at]), mask, short)
            for down, right in itertools.product(range(2), range(2)):
                y = builder.add(builder.mul(r, i64(2)), i64(down))
                z = builder.add(builder.mul(c, i64(2)), i64(right))
                pixel = builder.trunc(builder.add(builder.mul(y, across), z), i32)
                if short:
                    pixel = i32(2 * down + right)
                yield y, z, builder.icmp_signed("==", place, vectors.splat(pixel))

        next_image = builder.mul(apart, builder.mul(PH, PW))
        with cgutils.for_range(builder, PH) as rows, cgutils.for_range(builder, PW) as columns:
            at = builder.mul(apart, builder.add(builder.mul(rows.index, PW), columns.index))
            slope = vectors.load(builder.gep(slopes, [at]), mask)
            if not pooled:  # four times as much to come
                prefetch(builder, builder.gep(slopes, [builder.add(at, next_image)]), level=2)
            builder.store(builder.fadd(slope, builder.load(total)), total)
            for y, z, here in pixels(rows.index, columns.index, at):
                window = builder.add(builder.mul(y, row), builder.mul(z, column))
                for tap, sum_ in enumerate(held):
                    start = builder.gep(starts[tap // length], [window])
                    factor = vectors.splat(builder.load(builder.gep(start, [i64(tap % length)])))
                    before = builder.load(sum_)
                    after = vectors.fmuladd(factor, slope, before)
                    builder.store(after if here is None else builder.select(here, after, before), sum_)
        for start, sum_ in zip(own, held, strict=True):
            vectors.store(builder.load(sum_), start, mask)
        with builder.if_then(builder.icmp_signed("!=", bias, i64(0))):
            vectors.store(builder.fadd(vectors.load(b, mask), builder.load(total)), b, mask)
        return context.get_dummy_value()

    return emit


@functools.cache
def _compiled(emitter: Any, *shape: int) -> int:
    size, variant = shape[0], f"{emitter.__module__}.{emitter.__name__}{shape}"
    return native(types.void(*[types.int64] * 13), _make(emitter(*shape)), variant=f"{variant} {lanes(size)}")


@functools.lru_cache(maxsize=256)
def passes(
    shape: tuple, strides: tuple, runs: int, itemsize: int, pooled: bool, short: bool
) -> tuple[int, np.ndarray]:
    """How the taps of filters of an OIHW `shape` are taken: how many filters at a time; and a row ``[code
    address, first run, first tap of it]`` for each pass."""
    _, C, KH, KW = shape
    length = C * KH * KW // runs
    if not pooled:
        code = _compiled(_emitter, itemsize, runs, length, False)
        return lanes(itemsize), np.array([(code, 0, 0)], np.int64)
    rows, nv = _picking(shape, strides, itemsize)
    if rows > 0:
        code = _compiled(_picks.emitter, itemsize, C, rows, length, nv, short)
        return nv * lanes(itemsize), np.array([(code, f, 0) for f in range(0, runs, rows)], np.int64)
    parts = shares(runs, length, registers() - 5)
    by_masks = functools.partial(_compiled, _emitter, itemsize)
    table = [(by_masks(height, long, True, short), f, a) for f, height, a, long in parts]
    return lanes(itemsize), np.array(table, np.int64)


@inline
def _task(t, tasks, width, operands, partials, images, plan, geometry):
    x, grad, indices = operands
    sums, bias_sums = partials
    code, begins, row, column, across = plan
    N, PH, PW, O = grad.shape
    image = images[0 if geometry[-1] else t]
    size, length = x.itemsize, sums.shape[1] // begins.size
    sums[t] = 0
    bias_sums[t] = 0
    for n in range(t * N // tasks, (t + 1) * N // tasks):
        start = whole(x, n, image, geometry)
        slopes, places = grad[n].ctypes.data, indices[n].ctypes.data
        for o in range(0, O, width):
            for p in range(len(code)):
                address, run, tap = code[p]
                w = sums[t].ctypes.data + ((run * length + tap) * O + o) * size
                bias = bias_sums[t].ctypes.data + o * size if p == 0 else 0
                words = (w, bias, O, start + tap * size, begins[run:].ctypes.data, row, column,
                         slopes + o * size, places + o * indices.itemsize, PH, PW, across,
                         min(O - o, width))  # fmt: skip
                call_code(address, words)


@jit
def _backward(pool, tasks, width, operands, partials, images, plan, geometry, grad_weight, grad_bias):
    arguments = (tasks, width, operands, partials, images, plan, geometry)
    parallel_for(pool, tasks, _task, arguments)
    sums, bias_sums = partials
    add_parts(sums.reshape(tasks, grad_weight.size), grad_weight.reshape(grad_weight.size))
    add_parts(bias_sums, grad_bias)


def run(operands, shape, tasks, images, runs, across, geometry, grad_weight, grad_bias):
    """Fill `grad_weight` (taps, O) and `grad_bias` from `operands`: NHWC images, gradients and their places
    (int32 in a convolution `across` pixels wide, or uint8), or None if every pixel of it has one; for filters
    of an OIHW `shape`. `images` are the tasks' scratches, `runs` where each contiguous part of a window
    begins."""
    x, grad, indices = operands
    pooled = indices is not None
    if not pooled:
        operands = x, grad, np.empty((len(x), 0, 0, 0), np.int32)
    (taps, O), row = grad_weight.shape, x.shape[2] if geometry[-1] else images.shape[2]
    partials = (aligned((tasks, taps, O), x.dtype), np.empty((tasks, O), x.dtype))
    sh, sw = geometry[:2]
    short = pooled and indices.dtype == np.uint8
    width, code = passes(shape, geometry[:2] + geometry[6:8], runs.size, x.itemsize, pooled, short)
    plan = (code, runs, sh * row * x.shape[3], sw * x.shape[3], across)
    _backward(pool(), tasks, width, operands, partials, images, plan, geometry, grad_weight, grad_bias)
