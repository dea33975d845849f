"""A function applied to each element of arrays, some vectors of elements at a time.

An activation is one chain of some twenty operations, each waiting four cycles or more for the last. A CPU
looks a hundred operations ahead: it sees two chains or three where eight would keep it busy. With the
operations of four vectors side by side in the code, of the first step of all four, then of the second, it
need not look so far. LLVM, which turns the loop into vector code, does that if the loop asks for it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._vectors import i32, i64

SIDE_BY_SIDE = 4  # vectors


def _interleaved(builder: ir.IRBuilder, jump: Any) -> None:
    """Ask for the loop that `jump` leads back to the start of to be interleaved."""
    module = builder.module
    hint = module.add_metadata([ir.MetaDataString(module, "llvm.loop.interleave.count"), i32(SIDE_BY_SIDE)])
    loop = ir.MDValue(module, [hint], name=str(len(module.metadata)))
    loop.operands = (loop, hint)  # a loop is known by a node that names itself
    jump.set_metadata("llvm.loop", loop)


@intrinsic
def each(typingctx, function, out, arguments):
    """``out[i] = function(a[i], b[i], ..., s)`` for all i, for `arguments` (a, b, ..., s): those that are
    arrays, of no fewer elements than `out` has, give their elements, the others themselves. All arrays have
    one axis and are contiguous; `out` may be one of the arguments."""
    arrays = [isinstance(kind, types.Array) for kind in arguments.types]
    given = tuple(kind.dtype if array else kind for kind, array in zip(arguments.types, arrays, strict=True))
    wanted = function.get_call_type(typingctx, given, {})

    def emit(context, builder: ir.IRBuilder, signature, args):
        def array(kind, value):
            return context.make_array(kind)(context, builder, value)

        _, result, values = args
        result, values = array(out, result), [builder.extract_value(values, i) for i in range(len(arrays))]
        call = context.get_function(function, wanted)
        size, before = builder.extract_value(result.shape, 0), builder.block
        loop, done = builder.append_basic_block("each"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed(">", size, i64(0)), loop, done)

        builder.position_at_end(loop)
        i = builder.phi(i64)
        elements = [
            builder.load(builder.gep(array(kind, value).data, [i])) if is_array else value
            for kind, value, is_array in zip(arguments.types, values, arrays, strict=True)
        ]
        builder.store(call(builder, elements), builder.gep(result.data, [i]))
        following = builder.add(i, i64(1), flags=["nuw", "nsw"])
        i.add_incoming(i64(0), before)
        i.add_incoming(following, builder.block)
        _interleaved(builder, builder.cbranch(builder.icmp_signed("<", following, size), loop, done))

        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(function, out, arguments), emit
