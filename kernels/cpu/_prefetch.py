"""Asking for memory before it is needed."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import _vectors


@intrinsic(prefer_literal=True)
def prefetch(typingctx, address, write):
    """Ask for the cache line at `address`, with the right to write to it if `write` (a literal) says so. No
    access: beyond the end of an array it is harmless.
    """

    def emit(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        _vectors.prefetch(builder, pointer, write.literal_value)
        return context.get_dummy_value()

    return types.void(types.int64, write), emit
