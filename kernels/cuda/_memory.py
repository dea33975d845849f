"""How arrays lie in memory: what a kernel may be given, and how it gets there."""

from __future__ import annotations

from typing import Any

from ._launch import aligned, xp


def plain(x: Any) -> Any:
    """`x` itself if it is C-contiguous and begins where kernels can read it, else a copy that does."""
    if x.flags.c_contiguous and aligned(x):
        return x
    return _copied(x, xp().empty(x.shape, x.dtype))


def cast(x: Any, dtype: Any) -> Any:
    """`x` itself if it is of `dtype`, else a C-contiguous copy that is."""
    return x if x.dtype == dtype else _copied(x, xp().empty(x.shape, dtype))


def _copied(x: Any, target: Any) -> Any:
    target[...] = x
    return target


def memory_order(x: Any) -> tuple[int, ...]:
    """The axes of `x` from the slowest to the fastest in memory."""
    return tuple(sorted(range(x.ndim), key=lambda axis: (-abs(x.strides[axis]), axis)))


def dense(x: Any) -> Any:
    """`x` itself if it has no gaps in memory, whatever the order of its axes, else a C-contiguous copy."""
    inner = x.transpose(memory_order(x))
    return x if inner.flags.c_contiguous and aligned(x) else plain(x)


def flat(x: Any) -> Any:
    """The elements of a :func:`dense` array in memory order, as a view."""
    return x.transpose(memory_order(x)).reshape(-1)


def arranged(x: Any, like: Any) -> Any:
    """`x` in the memory order of `like`, a :func:`dense` array of its shape."""
    if x.strides == like.strides and aligned(x):
        return x
    return _copied(x, xp().empty_like(like))


def nhwc(x: Any) -> Any:
    """The channels-last array of logical NCHW `x`: its own memory where it lies so, else a copy."""
    return plain(x.transpose(0, 2, 3, 1))


def empty_nchw(n: int, c: int, h: int, w: int, dtype: Any) -> tuple[Any, Any]:
    """A new image batch as ``(its NHWC memory, the logical NCHW view of it)``."""
    memory = xp().empty((n, h, w, c), dtype)
    return memory, memory.transpose(0, 3, 1, 2)


def fillable(array: Any) -> Any:
    """`array` itself where a kernel can fill it, else a new one of its shape, to :func:`deliver` later."""
    return array if plain(array) is array else xp().empty(array.shape, array.dtype)


def deliver(*pairs: tuple[Any, Any]) -> None:
    """Copy each (filled, given) pair's first array to its second, unless they are one."""
    for filled, given in pairs:
        if filled is not given:
            given[...] = filled
