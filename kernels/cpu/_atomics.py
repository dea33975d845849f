"""What the thread pool asks of the processor and of the system: atomic words, pausing, sleeping and waking.

Each is one or two instructions of LLVM IR, or a call of the C library. `pool` is the address of an array of
int64 words, `index` counts words. All memory orders are sequentially consistent: the pool's correctness rests
on it, and its cost vanishes beside a kernel's.
"""

from __future__ import annotations

import platform
import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_LINUX = sys.platform.startswith("linux") and platform.machine() in ("x86_64", "aarch64")
_FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine(), 0)  # the system call's number
_FUTEX_WAIT_PRIVATE, _FUTEX_WAKE_PRIVATE = 128, 129

APART = 8  # words from one to the next where different threads write to them: a cache line

_i64, _i32 = ir.IntType(64), ir.IntType(32)


def _word(builder: ir.IRBuilder, pool: ir.Value, index: ir.Value) -> ir.Value:
    base = builder.inttoptr(pool, _i64.as_pointer())
    return builder.gep(base, [index])


@intrinsic
def load(typingctx, pool, index):
    def codegen(context, builder, signature, args):
        return builder.load_atomic(_word(builder, *args), "seq_cst", 8)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def store(typingctx, pool, index, value):
    def codegen(context, builder, signature, args):
        builder.store_atomic(args[2], _word(builder, *args[:2]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def add(typingctx, pool, index, value):
    """Atomically add; the word's value before."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", _word(builder, *args[:2]), args[2], "seq_cst")

    return types.int64(types.int64, types.int64, types.int64), codegen


@intrinsic
def take(typingctx, pool, index):
    """Atomically turn a 0 into a 1; whether it was a 0."""

    def codegen(context, builder, signature, args):
        result = builder.cmpxchg(_word(builder, *args), _i64(0), _i64(1), "seq_cst", "seq_cst")
        return builder.extract_value(result, 1)

    return types.boolean(types.int64, types.int64), codegen


@intrinsic
def pause(typingctx):
    """Tell the core that this is a spinning loop."""

    def codegen(context, builder, signature, args):
        machine = platform.machine()
        if machine in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        elif machine in ("aarch64", "arm64"):
            kind = ir.FunctionType(ir.VoidType(), [_i32])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.hint"), [_i32(1)])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def yield_core(typingctx):
    """Let another runnable thread have this core."""

    def codegen(context, builder, signature, args):
        name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_i32, []), name)
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def sleep_on(typingctx, pool, index, expected):
    """Sleep until the word is rung; at once back if it is no longer `expected`. Elsewhere than on Linux:
    for a moment."""

    def codegen(context, builder, signature, args):
        if _LINUX:
            kind = ir.FunctionType(_i64, [_i64], var_arg=True)
            syscall = cgutils.get_or_insert_function(builder.module, kind, "syscall")
            word = builder.ptrtoint(_word(builder, *args[:2]), _i64)
            wait = [_i64(_FUTEX), word, _i64(_FUTEX_WAIT_PRIVATE), args[2], _i64(0), _i64(0), _i64(0)]
            builder.call(syscall, wait)
        elif sys.platform == "win32":
            sleep = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), [_i32]), "Sleep"
            )
            builder.call(sleep, [_i32(1)])
        else:
            sleep = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_i32, [_i32]), "usleep")
            builder.call(sleep, [_i32(200)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def ring(typingctx, pool, index):
    """Wake every thread that sleeps on the word."""

    def codegen(context, builder, signature, args):
        if _LINUX:
            kind = ir.FunctionType(_i64, [_i64], var_arg=True)
            syscall = cgutils.get_or_insert_function(builder.module, kind, "syscall")
            word = builder.ptrtoint(_word(builder, *args), _i64)
            everyone = _i64(2**31 - 1)
            builder.call(
                syscall, [_i64(_FUTEX), word, _i64(_FUTEX_WAKE_PRIVATE), everyone, _i64(0), _i64(0), _i64(0)]
            )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen
