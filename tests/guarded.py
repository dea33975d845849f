"""An allocator for NumPy that lays every array flush against memory no one may touch (NEP 49).

Each array gets pages of its own between two forbidden ones. It ends where they end or begins where they
begin, and once freed is forbidden too. New memory is full of NaN: a result that holds one was never written.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

import numpy as np


class Allocator:
    """malloc, calloc, realloc and free as NumPy calls them; `at_end`: where later arrays lie flush."""

    def __init__(self) -> None:
        self.at_end = True
        self._blocks: dict[
            int, tuple[int, int, int]
        ] = {}  # by address: the mapping, its length, the array's size
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self._libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    def malloc(self, _: Any, size: int) -> int:
        inside = -(-max(size, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        length = inside + 2 * mmap.PAGESIZE
        mapping = self._libc.mmap(None, length, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        first = mapping + mmap.PAGESIZE
        if self._libc.mprotect(first, inside, mmap.PROT_READ | mmap.PROT_WRITE):
            raise MemoryError(os.strerror(ctypes.get_errno()))
        address = first + inside - size if self.at_end else first
        ctypes.memset(address, 0xFF, size)
        self._blocks[address] = mapping, length, size
        return address

    def calloc(self, _: Any, count: int, size: int) -> int:
        return ctypes.memset(self.malloc(None, count * size), 0, count * size)

    def realloc(self, _: Any, old: int | None, size: int) -> int:
        new = self.malloc(None, size)
        if old:
            ctypes.memmove(new, old, min(size, self._blocks[old][2]))
            self.free(None, old, 0)
        return new

    def free(self, _: Any, address: int | None, size: int) -> None:
        if address:
            self._libc.munmap(*self._blocks.pop(address)[:2])

    def install(self) -> None:
        """Allocate every array that this thread makes from now on, until the process ends."""
        number, pointer = ctypes.c_size_t, ctypes.c_void_p
        kinds = [
            (pointer, number),
            (pointer, number, number),
            (pointer, pointer, number),
            (pointer, pointer, number),
        ]
        results = [pointer, pointer, pointer, None]
        methods = [self.malloc, self.calloc, self.realloc, self.free]
        functions = [ctypes.CFUNCTYPE(r, *k)(m) for r, k, m in zip(results, kinds, methods, strict=True)]

        class Handler(ctypes.Structure):  # PyDataMem_Handler
            _fields_ = [("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("context", pointer)] + [
                (name, pointer) for name in ("malloc", "calloc", "realloc", "free")
            ]

        handler = Handler(b"guarded", 1, None, *(ctypes.cast(f, pointer) for f in functions))
        api = ctypes.pythonapi
        api.PyCapsule_New.restype = ctypes.py_object
        api.PyCapsule_New.argtypes = [pointer, ctypes.c_char_p, pointer]
        api.PyCapsule_GetPointer.restype = ctypes.POINTER(pointer)
        api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
        core = getattr(np, "_core", None) or np.core
        table = api.PyCapsule_GetPointer(core.multiarray._ARRAY_API, None)
        set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(
            table[304]
        )  # PyDataMem_SetHandler
        capsule = api.PyCapsule_New(ctypes.addressof(handler), b"mem_handler", None)
        set_handler(capsule)
        self._alive = functions, handler, capsule
