"""Products with a gradient that is zero almost everywhere: a list of what is not, times windows of an image.

A max-pooling sends back one gradient a window, where a convolution has four or more outputs; the rest are
zeros. For one filter, `values` are its gradients and `places` where the windows they belong to begin:

    gather    w[v] (+)= sum over k of values[k] * image[places[k] + v]      the gradient of the filter
    scatter   image[places[k] + v] += values[k] * w[v]    for every k       the gradient of the input

where v runs over a window: `runs` runs of contiguous floats (rows of a filter, times the channels), each of
`nv` vectors. All vectors of w stay in registers while the list streams past. An entry costs a broadcast, and
for each vector a multiply-add with an operand in memory: loads are the limit, and in a scatter stores. What
the registers cannot hold is cut into several passes over the list, see `passes`.

    values[k] bcast  [ w 0,0 ][ w 0,1 ] ...      run 0: image + places[k] + begins[0]
                     [ w 1,0 ][ w 1,1 ] ...      run 1: image + places[k] + begins[1]
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

from ._jit import native
from ._vectors import IN_FLIGHT, Vectors, i32, i64
from .tile import _target, lanes

_SIGNATURE = types.void(*[types.int64] * 10)


def _make(size: int, runs: int, nv: int, masked: bool, scatter: bool) -> Any:
    width = lanes(size)
    # With few sums each would wait for its last addition: take several entries at a time, each to sums of
    # its own.
    ways = 1 if scatter else max(1, -(-IN_FLIGHT // (runs * nv)))

    def emit(context, builder: ir.IRBuilder, signature, args):
        W, row, image, begins, places, values, count, step, last, add = args
        vectors = Vectors(builder, size, width)
        mask, zero = vectors.below(last), vectors.constant(0)

        def masks(v):  # only the last vector's
            return mask if masked and v == nv - 1 else None

        def load(start, v):
            return vectors.load(builder.gep(start, [i64(v * width)]), masks(v))

        def store(value, start, v):
            vectors.store(value, builder.gep(start, [i64(v * width)]), masks(v))

        w, x, g = (builder.inttoptr(a, vectors.real.as_pointer()) for a in (W, image, values))
        places = builder.inttoptr(places, i32.as_pointer())
        begins = builder.inttoptr(begins, i64.as_pointer())
        own = [builder.gep(w, [builder.mul(row, i64(f))]) for f in range(runs)]
        starts = [builder.gep(x, [builder.load(builder.gep(begins, [i64(f)]))]) for f in range(runs)]
        held = [[[cgutils.alloca_once_value(builder, zero) for _ in range(nv)] for _ in range(runs)]
                for _ in range(ways)]  # fmt: skip
        with builder.if_then(builder.icmp_signed("!=", add, i64(0))):
            for f in range(runs):
                for v in range(nv):
                    builder.store(load(own[f], v), held[0][f][v])

        def entry(k, way):
            at = builder.mul(k, step)
            place = builder.sext(builder.load(builder.gep(places, [at])), i64)
            factor = vectors.splat(builder.load(builder.gep(g, [at])))
            for f in range(runs):
                start = builder.gep(starts[f], [place])
                for v in range(nv):
                    mine = builder.load(held[way][f][v])
                    if scatter:
                        store(vectors.fmuladd(factor, mine, load(start, v)), start, v)
                    else:
                        builder.store(vectors.fmuladd(factor, load(start, v), mine), held[way][f][v])

        whole = builder.udiv(count, i64(ways))
        with cgutils.for_range(builder, whole) as loop:
            first = builder.mul(loop.index, i64(ways))
            for way in range(ways):
                entry(builder.add(first, i64(way)), way)
        if ways > 1:
            done = builder.mul(whole, i64(ways))
            with cgutils.for_range(builder, builder.sub(count, done)) as loop:
                entry(builder.add(done, loop.index), 0)
        if not scatter:
            for f in range(runs):
                for v in range(nv):
                    total = builder.load(held[0][f][v])
                    for way in range(1, ways):
                        total = builder.fadd(total, builder.load(held[way][f][v]))
                    store(total, own[f], v)
        return context.get_dummy_value()

    @intrinsic
    def window(typingctx, W, row, image, begins, places, values, count, step, last, add):
        return _SIGNATURE, emit

    def kernel(W, row, image, begins, places, values, count, step, last, add):
        window(W, row, image, begins, places, values, count, step, last, add)

    return kernel


@functools.cache
def _compiled(size: int, runs: int, nv: int, masked: bool, scatter: bool) -> int:
    variant = f"f{8 * size} {runs} runs of {nv} masked={masked} scatter={scatter} lanes={lanes(size)}"
    return native(_SIGNATURE, _make(size, runs, nv, masked, scatter), variant=variant)


def shares(runs: int, length: int, most: int) -> list[tuple[int, int, int, int]]:
    """`runs` runs of `length` each in shares of at most `most`: of each share the first run, how many there
    are, where in them the share begins, and for how long it goes on. Where runs are cut, it has one."""
    if length <= most:
        height = min(runs, most // length)
        return [(f, min(height, runs - f), 0, length) for f in range(0, runs, height)]
    count = -(-length // most)
    cuts = [i * length // count for i in range(count + 1)]
    return [(f, 1, a, b - a) for f in range(runs) for a, b in itertools.pairwise(cuts)]


@functools.cache
def passes(itemsize: int, runs: int, length: int, scatter: bool) -> np.ndarray:
    """How windows of `runs` runs of `length` floats are taken: a row ``[code address, first run, first float
    of it, floats in the last vector]`` for each pass over the list."""
    width = lanes(itemsize)
    registers = _target()["registers"]
    most = registers - 6 if registers == 32 else registers - 5
    table = []
    for run, height, first, nv in shares(runs, -(-length // width), most):
        last = min(width, length - (first + nv - 1) * width)
        code = _compiled(itemsize, height, nv, last < width, scatter)
        table.append((code, run, first * width, last))
    return np.array(table, np.int64)
