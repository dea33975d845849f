"""Asking for memory before it is needed."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic(prefer_literal=True)
def prefetch(typingctx, address, write):
    """Ask for the cache line at `address`, with the right to write to it if `write` (a literal) says so. No
    access: beyond the end of an array it is harmless.
    """
    i32 = ir.IntType(32)

    def emit(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, i32(int(write.literal_value)), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(types.int64, write), emit
