"""The one place where CUDA source is compiled and kernels are launched.

A ``.cu`` file is compiled by NVRTC when one of its kernels is first launched, once for float and once for
double (``-DREAL=...``); CuPy keeps the machine code on disk. A kernel takes addresses: what an array must be
for that (dense, of the right dtype, on a 16-byte boundary) is checked here, and every number gets the C type
that kernels have for it: index_t for ints, REAL for floats.

What is asked of CuPy goes through :data:`toolkit`. The tests put another there, which runs the same source on
the CPU on NumPy arrays: so this code and that of the modules beside it are tested without a GPU.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import device

_FOLDER = Path(__file__).parent
_REAL = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
# beside REAL: indices and addresses, words of any data, and the sums of losses
_OTHERS = tuple(np.dtype(t) for t in (np.uint8, np.int32, np.int64, np.float64))
_BLOCK = 256  # threads
_MOST_BLOCKS = 1 << 12  # some for every multiprocessor: more would wait, and each covers more instead
_ALIGNMENT = 16  # bytes: the widest access of a thread


class CuPy:
    """CuPy, as this room uses it."""

    @functools.cached_property
    def xp(self) -> Any:
        """The array module."""
        import cupy

        return device.Arrays(cupy)

    def compile(self, stem: str, source: str, options: tuple[str, ...]) -> Any:
        """The module of that source: its ``get_function(name)`` is called with (grid, block, arguments)."""
        module = self.xp.RawModule(code=source, options=options)
        try:
            module.compile()
        except Exception as error:
            raise device.not_built(stem, error) from error
        return module

    def address(self, array: Any) -> int:
        return array.data.ptr

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        """A function that makes the launches of `function` again, as one CUDA graph; none is made now.

        A replay is ordered with the work of the stream that is current when it is called. What `function`
        allocates comes from a memory pool of the graph's own, which lives as long as it: no other array gets
        an address that the graph goes on using. The pool gets its memory from the device, so what lies idle
        in CuPy's own is given back first.
        """
        cuda = self.xp.cuda
        self.xp.get_default_memory_pool().free_all_blocks()
        # A blocking stream would not let the legacy default stream, on which other threads may work, be used
        # during the capture.
        pool, stream = cuda.MemoryPool(), cuda.Stream(non_blocking=True)
        with cuda.using_allocator(pool.malloc), stream:
            stream.begin_capture()
            try:
                function()
            except BaseException:
                with contextlib.suppress(cuda.runtime.CUDARuntimeError):  # what broke it is the news
                    stream.end_capture()
                raise
            graph = stream.end_capture()
        return _Graph(graph, pool).launch


class _Graph:
    """A CUDA graph with the memory that its launches use."""

    def __init__(self, graph: Any, pool: Any) -> None:
        self._graph, self._pool = graph, pool

    def launch(self) -> None:
        self._graph.launch()


toolkit: Any = CuPy()


def xp() -> Any:
    """The array module of this room."""
    return toolkit.xp


def address(array: Any) -> int:
    """Where the numbers of `array` begin."""
    return toolkit.address(array)


def aligned(array: Any) -> bool:
    """Whether `array` begins where a thread can move 16 bytes at once."""
    return toolkit.address(array) % _ALIGNMENT == 0 or not array.size


def source(stem: str) -> str:
    """The text of a ``.cu`` file, with each file it includes once, in its place."""
    seen: set[str] = set()

    def text(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        own = (_FOLDER / name).read_text().replace("#pragma once\n", "")
        return re.sub(r'#include "(\w+\.cuh?)"', lambda match: text(match[1]), own)

    return text(f"{stem}.cu")


def options(real: np.dtype) -> tuple[str, ...]:
    """What NVRTC is told for kernels of that dtype."""
    return (f"-DREAL={_REAL[real]}", "--std=c++17")


@functools.cache
def _module(toolkit: Any, stem: str, real: np.dtype) -> Any:
    return toolkit.compile(stem, source(stem), options(real))


@functools.cache
def _function(toolkit: Any, stem: str, name: str, real: np.dtype) -> Any:
    return _module(toolkit, stem, real).get_function(name)


def grid_for(work: int) -> tuple[int]:
    """A grid for so many threads with something to do; past a limit each has to do more."""
    return (min(-(-work // _BLOCK), _MOST_BLOCKS),)


def lanes_for(length: int) -> int:
    """How many lanes of a warp share a row of that length: a power of two, with four numbers each or more."""
    return min(32, 1 << max(0, -(-length // 4) - 1).bit_length())


def launch(
    stem: str, name: str, real: np.dtype, work: int, *arguments: Any, grid: tuple[int, ...] | None = None
) -> None:
    """Launch kernel `name` of ``<stem>.cu`` for floats of dtype `real`.

    Parameters
    ----------
    work : int
        How many threads have something to do; the grid is made for them, up to a limit. 0 launches nothing.
    *arguments : arrays, ints, floats, None
        A uint64 of NumPy stays one; None is a null pointer.
    grid : tuple of int, optional
        Blocks, instead of a grid for `work`.
    """
    if work <= 0:
        return
    blocks = grid or grid_for(work)
    converted = tuple([_argument(value, real) for value in arguments])
    _function(toolkit, stem, name, real)(blocks, (_BLOCK,), converted)


def _argument(value: Any, real: np.dtype) -> Any:
    if isinstance(value, (float, np.floating)):
        return real.type(value)
    if isinstance(value, np.uint64):
        return value
    if isinstance(value, (int, np.integer)):
        return np.int64(value)
    if value is None:
        return np.int64(0)
    if not value.flags.c_contiguous:
        raise ValueError(f"a kernel was given an array with strides {value.strides}")
    if value.dtype != real and value.dtype not in _OTHERS:
        raise TypeError(f"a kernel for {real} was given an array of {value.dtype}")
    if not aligned(value):
        raise ValueError(f"a kernel was given an array that is not on a {_ALIGNMENT}-byte boundary")
    return value
