"""How arrays lie in memory: what a kernel may be handed, and how it gets there.

Compiled kernels take C-contiguous, aligned, writeable arrays only, so that each is compiled once per dtype;
everything else is brought into that form here, at the price of one copy. Images travel as NHWC arrays: the
channels-last memory of a logical NCHW array.
"""

from __future__ import annotations

import functools
import math
import os
import sys
import threading

import numpy as np
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from ._jit import inline, jit
from ._math import like
from ._tape import moved_by_python
from ._turn import turn_part
from ._vectors import LINE
from .threads import parallel_for, pool


def plain(x: np.ndarray) -> np.ndarray:
    """`x` itself if it is C-contiguous, aligned and writeable, else a copy that is."""
    if x.flags.carray:
        return x
    moved_by_python()
    return np.array(x, order="C")


def address_of(array: np.ndarray) -> int:
    """Where its first number lies."""
    return array.__array_interface__["data"][0]


def nhwc(x: np.ndarray) -> np.ndarray:
    """The channels-last array of logical NCHW `x`: its own memory where that already is channels-last, else
    a copy."""
    view = x.transpose(0, 2, 3, 1)
    if view.flags.carray:
        return view
    if not x.flags.carray:
        return plain(view)
    out = empty(view.shape, x.dtype)
    turn_images(pool(), x, out)
    return out


def hwio(weight: np.ndarray) -> np.ndarray:
    """The (KH, KW, I, O) array of OIHW filters: their own memory where they lie so, else a copy."""
    return plain(weight.transpose(2, 3, 1, 0))


def in_channels_last(x: np.ndarray) -> bool:
    """Whether `x` is logical NCHW in channels-last memory, and not C-contiguous as well."""
    return x.ndim == 4 and not x.flags.carray and x.transpose(0, 2, 3, 1).flags.carray


def channels_last(x: np.ndarray) -> np.ndarray:
    """Logical NCHW `x` in channels-last memory: itself where it is, else a copy."""
    memory = nhwc(x)
    return x if np.may_share_memory(memory, x) else memory.transpose(0, 3, 1, 2)


@jit
def _clear(out):
    out[:] = 0


def bias_or_zeros(bias: np.ndarray, count: int) -> np.ndarray:
    """`bias`, or where it is empty, `count` zeros. A kernel makes them, so that a program that is repeated
    (``_tape.py``) makes them again."""
    if bias.size:
        return bias
    zeros = np.empty(count, bias.dtype)
    _clear(zeros)
    return zeros


_REUSED_FROM = 1 << 16  # bytes: smaller blocks the C library keeps by itself
_KEPT = 1 << 28  # bytes of free blocks at most
_SQUARES = 5  # channels from which on an image is turned by squares in registers
_PAGE, _AWAY = 4096, 2048  # bytes of a page, and where in one a reused block begins
_blocks: dict[int, list[tuple[np.ndarray, int]]] = {}
_kept = 0
_guard = threading.Lock()


@inline
def on_a_line(count, like):
    """Inside a kernel, an array of so many numbers that begins on a cache line."""
    raw = np.empty(count + LINE // like.itemsize, like.dtype)
    start = -raw.ctypes.data % LINE // like.itemsize
    return raw[start : start + count]


@inline
def whole_vectors(count, lanes):
    """`count`, and as many more as fill the last vector of so many `lanes`."""
    return (count + lanes - 1) // lanes * lanes


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """``np.empty``, but for large arrays :func:`aligned`."""
    size = math.prod(shape) * dtype.itemsize
    return np.empty(shape, dtype) if size < _REUSED_FROM else _lent(size, shape, dtype)


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """``np.empty`` that begins on a cache line, out of memory that an earlier result has let go of.

    The C library gives large blocks back to the system and has every page of the next one zeroed: for a
    layer's output that can take longer than computing it. Here a block is lent again once nobody holds an
    array on it, which its reference count tells. NumPy's own blocks begin anywhere: of vectors as wide as a
    cache line, each would then lie on two. NumPy's large blocks begin 16 bytes into a page, ours in the
    middle of one: a processor takes a read for one of what it has just written if both are at the same place
    in their pages, and waits.
    """
    size = math.prod(shape) * dtype.itemsize
    return _lent(size, shape, dtype) if size else np.empty(shape, dtype)


def _lent(size: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    with _guard:
        for block, start in _blocks.setdefault(size, []):
            if sys.getrefcount(block) == _UNUSED:
                return np.ndarray(shape, dtype, block, start)
        room = LINE if size < _REUSED_FROM else _PAGE
        block = np.empty(size + room, np.uint8)
        start = (_AWAY - block.ctypes.data) % room
        _keep(size, block, start)
        return np.ndarray(shape, dtype, block, start)


def _count_of_unused() -> int:
    for block, _ in [(np.empty(0), 0)]:
        return sys.getrefcount(block)
    raise AssertionError


_UNUSED = _count_of_unused()  # references to a block that only its list and the loop over it hold


def _keep(size: int, block: np.ndarray, start: int) -> None:
    """Remember `block`; past the limit forget all blocks (those in use live on with their arrays)."""
    global _kept
    if _kept + size > _KEPT:
        _blocks.clear()
        _kept = 0
    _blocks.setdefault(size, []).append((block, start))
    _kept += size


def _after_fork() -> None:
    """In a child the lock may be held for ever, by a thread that exists no more, in the middle of a
    change."""
    global _guard, _kept
    _guard, _kept = threading.Lock(), 0
    _blocks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def empty_like(x: np.ndarray) -> np.ndarray:
    """A new array of the shape, dtype and memory order of `x`."""
    if x.flags.c_contiguous:
        return empty(x.shape, x.dtype)
    order = memory_order(x)
    dense = empty(tuple([x.shape[axis] for axis in order]), x.dtype)
    return dense.transpose(_inverse(order))


def arranged(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    """`x` copied to the memory order of `like`, an array of its shape."""
    if x.ndim == 4 and like.transpose(0, 2, 3, 1).flags.carray:
        return nhwc(x).transpose(0, 3, 1, 2)
    moved_by_python()
    copied = empty_like(like)
    copied[...] = x
    return copied


def empty_nchw(n: int, c: int, h: int, w: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """A new image batch as ``(its NHWC memory, the logical NCHW view of it)``."""
    memory = empty((n, h, w, c), dtype)
    return memory, memory.transpose(0, 3, 1, 2)


def flat(x: np.ndarray) -> np.ndarray:
    """The elements of `x` in memory order as a 1-D array: a view where `x` is dense in any axis order, else
    of a copy."""
    if x.flags.carray:
        return x.reshape(-1)
    dense = x.transpose(memory_order(x))
    if not dense.flags.carray:
        moved_by_python()
        dense = np.array(x, order="K", copy=True).transpose(memory_order(x))
    return dense.reshape(-1)


def memory_order(x: np.ndarray) -> tuple[int, ...]:
    """The axes of `x` from the slowest to the fastest in memory."""
    return _order(x.strides)


@functools.lru_cache(maxsize=1024)  # a network's arrays have few strides, and every step asks for the same
def _order(strides: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(strides)), key=lambda axis: (-abs(strides[axis]), axis)))


@functools.lru_cache(maxsize=256)
def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


@intrinsic
def _pointer(typingctx, address, like):
    """`address` as a pointer to floats of the type of `like`."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(types.int64, like), codegen


@inline
def floats_at(address, count, like):
    """The `count` floats of the type of `like` from `address` on, inside a kernel."""
    return carray(_pointer(address, like), (count,))


@intrinsic
def move(typingctx, target, source, count):
    """Copy `count` bytes from one address to another, as the C library does: several times as fast as a loop
    where they begin anywhere in a cache line."""

    def codegen(context, builder, signature, args):
        to, of = (builder.inttoptr(address, cgutils.voidptr_t) for address in args[:2])
        cgutils.raw_memcpy(builder, to, of, args[2], 1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen


@intrinsic
def clear(typingctx, target, count):
    """Fill `count` bytes at an address with zeros."""

    def codegen(context, builder, signature, args):
        cgutils.memset(builder, builder.inttoptr(args[0], cgutils.voidptr_t), args[1], 0)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 2), codegen


@inline
def copy(x, out):
    """Copy a row to one of its length. (For ``out[:] = x`` Numba compiles a message about shapes that do not
    fit, which takes seconds.)"""
    for i in range(out.size):
        out[i] = x[i]


@inline
def _turn_image(t, x, out):
    _, C, H, W = x.shape
    if C >= _SQUARES:
        turn_part(like(x[t, 0, 0, 0], 0), x[t].ctypes.data, H * W, C, H * W, out[t].ctypes.data, C)
        return
    for c in range(C):
        for h in range(H):
            for w in range(W):
                out[t, h, w, c] = x[t, c, h, w]


@jit
def turn_images(pool, x, out):
    """(N, C, H, W) to (N, H, W, C)."""
    parallel_for(pool, x.shape[0], _turn_image, (x, out))
