"""Products A B where A is mostly zeros: pixels of digits, four in five of which are blank.

Four rows of A at a time. Where at least one of them is not zero becomes a list of terms (``_nonzeros.py``),
and only along this list are rows of B multiplied and added up, in registers:

    A[i]       0 0 3 0 0 7 0 0 0 1 ...
    A[i + 1]   0 0 2 4 0 0 0 0 0 5 ...        terms 2 3 5 9 ...
      ...              ...

    C[i]     [ sum 0,0 ][ sum 0,1 ] ...   +=   A[i, k]     * B[k]
    C[i + 1] [ sum 1,0 ][ sum 1,1 ] ...   +=   A[i + 1, k] * B[k]       for these k alone
      ...              ...

Of digits four rows share 39 % of the terms, two 29, twelve (a tile of ``tile.py``) 51. Two would do with less
arithmetic, but each vector of B then serves two multiply-adds, and comes from the L2 cache, where B lies, in
no less time; four run at 96 % of the arithmetic.

Terms are added up in the order of ``linear.py``, in the same parts, and what is left out would change no sum
(but the sign of a zero): both ways give the same bits. So the way may depend on the numbers: some rows of A
decide, in each call. Zero times Inf or NaN is NaN, so all of B must be finite.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._jit import call_code, call_code_for, inline, jit, native
from ._math import like
from ._nonzeros import FOUR, code_of_rows, codes, rows_at
from ._parts import FLOPS, add_up_parts, parts_of
from ._tape import looked
from ._vectors import LINE, Vectors, i32, i64
from .activation import apply
from .threads import parallel_for, pool, share_out
from .tile import lanes, registers

_FEWEST_ROWS, _FEWEST_COLUMNS = 48, 512  # of X, from which on looking pays
_FEWEST_OUTPUTS = 16
_SAMPLES = 8  # groups of four rows that are looked at
_SHARE = 0.75  # of their terms in the list at most: there this way is hardly faster
_BLOCK, _TERMS = 1 << 18, 1024  # bytes of B, and terms, at a time: they stay in the L2 cache
_CHECKED = 1 << 14  # numbers of B in a task that looks for Inf and NaN at least
_VECTORS = {16: 3, 32: 6}  # of columns at a time, by the number of vector registers
NEVER = np.zeros(1, np.int64)  # has been computed this way


def possible(shape: tuple[int, ...], outputs: int) -> bool:
    """Whether looking for zeros takes little beside a product with X of that shape, or with X'."""
    return shape[0] >= _FEWEST_ROWS and shape[1] >= _FEWEST_COLUMNS and outputs >= _FEWEST_OUTPUTS


def _make_four(size: int, nv: int, masked: bool) -> Any:
    """The code for four rows of C (the last ones are the same if there are fewer `rows`) of `nv` vectors, the
    last of `last` columns if it is `masked`:

        C[r*c_i + j] (+)= bias[j] + sum over the k in places of A[r*apart + k*step] B[k*b_k + j]
    """
    width = lanes(size)

    def emit(context, builder: ir.IRBuilder, signature, args):
        C, c_i, A, apart, rows, step, places, count, B, b_k, bias, last, add = args
        vectors = Vectors(builder, size, width)
        pointer = vectors.real.as_pointer()
        c, a = ([builder.inttoptr(row, pointer) for row in rows_at(builder, first, far, rows, size)]
                for first, far in ((C, c_i), (A, apart)))  # fmt: skip
        b, start = builder.inttoptr(B, pointer), builder.inttoptr(bias, pointer)
        listed = builder.inttoptr(places, i32.as_pointer())
        masks = [None] * (nv - 1) + [vectors.below(last) if masked else None]

        def at(row, v):
            return builder.gep(row, [i64(v * width)])

        def load(row):
            return [vectors.load(at(row, v), mask) for v, mask in enumerate(masks)]

        sums = [[cgutils.alloca_once_value(builder, vectors.constant(0)) for _ in masks] for _ in c]
        begins = builder.icmp_signed("==", add, i64(0))
        with builder.if_then(builder.and_(begins, builder.icmp_signed("!=", bias, i64(0)))):
            for v, value in enumerate(load(start)):
                for held in sums:
                    builder.store(value, held[v])
        with builder.if_then(builder.not_(begins)):
            for row, held in zip(c, sums, strict=True):
                for v, value in enumerate(load(row)):
                    builder.store(value, held[v])
        with cgutils.for_range(builder, count) as loop:
            k = builder.zext(builder.load(builder.gep(listed, [loop.index])), i64)
            right, term = load(builder.gep(b, [builder.mul(k, b_k)])), builder.mul(k, step)
            for row, held in zip(a, sums, strict=True):
                left = vectors.splat(builder.load(builder.gep(row, [term])))
                for v, value in enumerate(right):
                    builder.store(vectors.fmuladd(left, value, builder.load(held[v])), held[v])
        for row, held in zip(c, sums, strict=True):
            for v, mask in enumerate(masks):
                vectors.store(builder.load(held[v]), at(row, v), mask)
        return context.get_dummy_value()

    @intrinsic
    def four(typingctx, C, c_i, A, apart, rows, step, places, count, B, b_k, bias, last, add):
        return types.void(*[types.int64] * 13), emit

    def code(C, c_i, A, apart, rows, step, places, count, B, b_k, bias, last, add):
        four(C, c_i, A, apart, rows, step, places, count, B, b_k, bias, last, add)

    return code


@functools.cache
def _compiled(size: int, nv: int, masked: bool) -> int:
    variant = f"f{8 * size} nv={nv} masked={masked} lanes={lanes(size)}"
    return native(types.void(*[types.int64] * 13), _make_four(size, nv, masked), variant=variant)


@functools.cache
def _codes(size: int, columns: int) -> np.ndarray:
    """What ``_nonzeros.codes`` says, and then for each panel of so many `columns` of C its code, where it
    begins and how many columns its last vector has."""
    width = lanes(size)
    vectors = -(-columns // width)
    count = -(-vectors // _VECTORS[registers()])
    found: list[tuple[int, int, int]] = [codes(size)]
    for p in range(count):
        first, end = p * vectors // count, (p + 1) * vectors // count
        last = min(columns - (end - 1) * width, width)
        found.append((_compiled(size, end - first, last < width), first * width, last))
    return np.array(found, np.int64)


@inline
def _few(of_rows, a, rows, terms, size):
    """Whether so many rows of so many numbers of `size` bytes, at address `a`, are mostly zeros, to judge by
    some of them."""
    places = np.empty(terms + LINE // 4, np.int32)
    for s in range(_SAMPLES):
        first = a + s * (rows - FOUR) // (_SAMPLES - 1) * terms * size
        words = (first, terms, FOUR, terms, places.ctypes.data)
        if call_code_for(of_rows, words) > _SHARE * terms:
            return False
    return True


@jit
def _look(of_rows, a, rows, terms, size):
    return _few(of_rows, a, rows, terms, size)


def _dense(address: int, shape: tuple[int, ...], size: int) -> bool:
    """Whether the matrix of that shape at an address, its numbers of `size` bytes, is not mostly zeros."""
    return not _look.unheard(code_of_rows(size), address, *shape, size)


@inline
def _check_task(t, tasks, b, finite):
    own = b.reshape(b.size)[t * b.size // tasks : (t + 1) * b.size // tasks]
    total = zero = like(own[0], 0)
    for i in range(own.size):
        total += own[i] * zero  # NaN of what is not finite
    finite[t] = total == 0


@inline
def _group(codes, A, apart, step, rows, depth, B, out, bias, add, scratch):
    """Fill `out`, or add to it, from `depth` terms of a few `rows` of A: a cache line of numbers at most."""
    places, bits = scratch
    N, size, list_at = out.shape[1], out.itemsize, places.ctypes.data
    of_rows, to_bits, of_bits = codes[0]
    if step != 1:
        call_code(to_bits, (A, step, rows, depth, bits.ctypes.data))
    for r in range(0, rows, FOUR):
        own, here = A + r * apart * size, min(FOUR, rows - r)
        if step != 1:
            count = call_code_for(of_bits, (bits.ctypes.data, 15 << r, depth, list_at))
        else:
            count = call_code_for(of_rows, (own, apart, here, depth, list_at))
        C = out[r].ctypes.data
        for p in range(1, len(codes)):
            code, j, last = codes[p]
            j *= size
            words = (C + j, N, own, apart, here, step, list_at, count, B + j, N, bias + j if bias else 0,
                     last, add)  # fmt: skip
            call_code(code, words)


@inline
def _task(t, tasks, codes, a, transposed, b, bias, c, sums, code):
    # sums: (parts, M, N), or nothing where the one part is C itself
    (M, N), K, size = c.shape, len(b), a.itemsize
    part, parts, t = t // tasks, max(len(sums), 1), t % tasks
    begin, stop = part * K // parts, (part + 1) * K // parts
    group = LINE // size
    groups = (M + group - 1) // group
    first, end = t * groups // tasks * group, min((t + 1) * groups // tasks * group, M)
    out = sums[part] if len(sums) else c
    apart, step = (1, M) if transposed else (K, 1)
    most = max(1, min(_TERMS, _BLOCK // (N * size)))
    scratch = np.empty(most + LINE // 4, np.int32), np.empty(most + LINE // 4, np.int32)
    for k in range(begin, stop, most):
        start = bias.ctypes.data if bias.size and k == 0 else 0
        B, depth, add = b.ctypes.data + k * N * size, min(most, stop - k), 1 if k > begin else 0
        for i in range(first, end, group):
            A, rows = a.ctypes.data + (i * apart + k * step) * size, min(group, end - i)
            _group(codes, A, apart, step, rows, depth, B, out[i:], start, add, scratch)
    if not len(sums):
        apply(c[first:end].reshape((end - first) * N), code)


@jit
def _product(pool, codes, a, transposed, b, bias, c, code, done):
    done[0] = 0
    if not _few(codes[0, 0], a.ctypes.data, *a.shape, a.itemsize):
        return
    pieces = share_out(pool, b.size, float(b.size), _CHECKED, 1)
    finite = np.empty(pieces, np.bool_)
    parallel_for(pool, pieces, _check_task, (pieces, b, finite))
    for piece in finite:
        if not piece:
            return
    (M, N), group = c.shape, LINE // c.itemsize
    parts = parts_of(M, len(b), b)
    sums = np.empty((parts if parts > 1 else 0, M, N), c.dtype)
    tasks = share_out(pool, (M + group - 1) // group, 2.0 * M * b.size * _SHARE, FLOPS)
    tasks = (tasks + parts - 1) // parts
    parallel_for(pool, parts * tasks, _task, (tasks, codes, a, transposed, b, bias, c, sums, code))
    if parts > 1:
        add_up_parts(pool, c, sums, code)
    done[0] = 1


def product(a, transposed, b, bias, c, code):
    """``c = A b + bias``, A being `a` or its transpose, and then the activation of that code, if A is mostly
    zeros. Returns one number in an array: whether it has been computed.

    Most batches never are, and for those nothing here is compiled, and no recorded step looks again: whoever
    repeats it does, once in a while."""
    if _dense(a.ctypes.data, a.shape, a.itemsize):
        looked(a, _dense)
        return NEVER
    done = np.empty(1, np.int64)
    _product(pool(), _codes(a.itemsize, c.shape[1]), a, transposed, b, bias, c, code, done)
    return done
