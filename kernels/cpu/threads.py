"""The threads that kernels share: `parallel_for` inside a kernel, and the pool behind it.

A kernel cuts its work into tasks by the *shape* alone and calls ``parallel_for(pool, n, block, args)``,
which runs ``block(t, *args)`` once for each task t < n. Which thread runs which task is open, what a task
computes is not: results do not depend on the number of threads.

Why a pool of our own and not ``prange``: with a pool, kernels are plain functions (a ``parallel=True``
function takes a second or more to compile); a launch costs a few atomic operations under every threading
layer (workqueue: over 100 µs); tasks are claimed one by one, so a core taken away by another process delays
one task and not the whole call; and a forked child or a second Python thread finds the pool busy or empty
and simply works alone (GNU OpenMP aborts a forked child).

Each thread first runs its own contiguous share of the tasks, then what is left of the others'. So a core
meets again, in the next kernel, the part of an array that it has in its cache: with tasks handed out in the
order of asking, half the weights would travel from core to core between gradient, update and forward.

The workers are Python threads inside a function that has released the GIL. They wait for a job by spinning
for a short while (the gap between two kernels of a training step), then by yielding the core, then asleep
in the kernel on a futex.

The pool's state is one block of 64-bit words, each on a cache line of its own, in memory that is never
freed, since workers may look at it until the process ends. A launch: the caller takes LOCK (or works
alone), writes FUNCTION, ARGS, COUNT and PARTS, sets the shares' NEXT counters, then OPEN. A worker adds
itself to INSIDE *before* it looks at OPEN; the caller clears OPEN *before* it waits for INSIDE to be zero.
Both orders are sequentially consistent, so no worker can touch a job after its caller has left.
"""

from __future__ import annotations

import atexit
import ctypes
import mmap
import os
import platform
import sys
import threading
import time

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._jit import inline, jit

_WORD = 8  # int64 words a cache line
LOCK, OPEN, FUNCTION, ARGS, COUNT, PARTS, INSIDE, LIMIT, SLEEPERS, BELL, STOP, ALIVE = (
    _WORD * i for i in range(12)
)
NEXT = _WORD * 12  # and on: a counter for each share
MOST_THREADS = 256

_SPINS = 400  # of ~0.05-0.1 µs: the gap between two kernels of one step
_YIELDS = 2000  # of ~0.3-1 µs: the gap between two steps
_LINUX = sys.platform.startswith("linux") and platform.machine() in ("x86_64", "aarch64")
_FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine(), 0)  # the system call's number
_FUTEX_WAIT_PRIVATE, _FUTEX_WAKE_PRIVATE = 128, 129

_i64, _i32, _ptr = ir.IntType(64), ir.IntType(32), ir.IntType(8).as_pointer()


def _word(builder: ir.IRBuilder, pool: ir.Value, index: ir.Value) -> ir.Value:
    base = builder.inttoptr(pool, _i64.as_pointer())
    return builder.gep(base, [index])


@intrinsic
def _load(typingctx, pool, index):
    def codegen(context, builder, signature, args):
        return builder.load_atomic(_word(builder, *args), "seq_cst", 8)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def _store(typingctx, pool, index, value):
    def codegen(context, builder, signature, args):
        builder.store_atomic(args[2], _word(builder, *args[:2]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def _add(typingctx, pool, index, value):
    """Atomically add; the word's value before."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", _word(builder, *args[:2]), args[2], "seq_cst")

    return types.int64(types.int64, types.int64, types.int64), codegen


@intrinsic
def _take(typingctx, pool, index):
    """Atomically turn a 0 into a 1; whether it was a 0."""

    def codegen(context, builder, signature, args):
        result = builder.cmpxchg(_word(builder, *args), _i64(0), _i64(1), "seq_cst", "seq_cst")
        return builder.extract_value(result, 1)

    return types.boolean(types.int64, types.int64), codegen


@intrinsic
def _pause(typingctx):
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
def _yield_core(typingctx):
    """Let another runnable thread have this core."""

    def codegen(context, builder, signature, args):
        name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_i32, []), name)
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _sleep_on(typingctx, pool, index, expected):
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
def _ring(typingctx, pool, index):
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


@intrinsic
def _run_task(typingctx, function, task, arguments):
    """Call the C function at address `function` with (task, arguments)."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [_i64, _i64])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@inline
def _help(pool, me, function, arguments):
    """Run this thread's share of the tasks, then what is left of the others'."""
    count, parts = _load(pool, COUNT), _load(pool, PARTS)
    for turn in range(parts):
        share = (me + turn) % parts
        end = (share + 1) * count // parts
        task = _add(pool, NEXT + _WORD * share, 1)
        while task < end:
            _run_task(function, task, arguments)
            task = _add(pool, NEXT + _WORD * share, 1)


@jit
def _work(pool, me):
    """A worker's life: wait for a job with a share for it, help with that job, repeat until STOP."""
    idle = 0
    _add(pool, ALIVE, 1)
    while _load(pool, STOP) == 0:
        if _load(pool, OPEN) != 0 and me < _load(pool, PARTS):
            _add(pool, INSIDE, 1)
            if _load(pool, OPEN) != 0 and me < _load(pool, PARTS):
                _help(pool, me, _load(pool, FUNCTION), _load(pool, ARGS))
            _add(pool, INSIDE, -1)
            idle = 0
        idle += 1
        if idle < _SPINS:
            _pause()
        elif idle < _SPINS + _YIELDS:
            _yield_core()
        else:
            bell = _load(pool, BELL)
            _add(pool, SLEEPERS, 1)
            # whoever opens a job after this look sees the sleeper and rings; the futex refuses to sleep past
            # a rung bell
            if (_load(pool, OPEN) == 0 or me >= _load(pool, PARTS)) and _load(pool, STOP) == 0:
                _sleep_on(pool, BELL, bell)
            _add(pool, SLEEPERS, -1)
            idle = 0


@inline
def _launch(pool, function, count, arguments):
    parts = _load(pool, LIMIT)  # once: it may change meanwhile
    if count > 1 and parts > 1 and _take(pool, LOCK):
        _store(pool, FUNCTION, function)
        _store(pool, ARGS, arguments)
        _store(pool, COUNT, count)
        _store(pool, PARTS, parts)
        for share in range(parts):
            _store(pool, NEXT + _WORD * share, share * count // parts)
        _store(pool, OPEN, 1)
        if _load(pool, SLEEPERS) > 0:
            _add(pool, BELL, 1)
            _ring(pool, BELL)
        _help(pool, 0, function, arguments)
        _store(pool, OPEN, 0)
        waited = 0
        while _load(pool, INSIDE) != 0:
            waited += 1
            if waited < _SPINS:
                _pause()
            else:  # more runnable threads than cores: the worker that holds the last task needs this one
                _yield_core()
        _store(pool, LOCK, 0)
    else:
        for task in range(count):
            _run_task(function, task, arguments)


@intrinsic
def _task_function(typingctx, block, arguments):
    """The address of a C function (task, address of the tuple `arguments`) that calls ``block(task,
    *arguments)``."""
    signature = block.get_call_type(typingctx, (types.int64, *arguments.types), {})

    def codegen(context, builder, sig, args):
        compiled = block.dispatcher.get_compile_result(signature)
        context.active_code_library.add_linking_library(compiled.library)
        module = builder.module
        kind = ir.FunctionType(ir.VoidType(), [_i64, _i64])
        function = ir.Function(module, kind, module.get_unique_name("task"))
        function.linkage = "internal"
        inner = ir.IRBuilder(function.append_basic_block())
        tuple_type = context.get_data_type(arguments)
        packed = inner.load(inner.inttoptr(function.args[1], tuple_type.as_pointer()))
        values = [
            context.data_model_manager[t].from_data(inner, inner.extract_value(packed, i))
            for i, t in enumerate(arguments.types)
        ]
        # A block cannot raise (nothing in this room does, and error_model="numpy" has no arithmetic
        # errors): the status is dropped.
        context.call_internal_no_propagate(inner, compiled.fndesc, signature, [function.args[0], *values])
        inner.ret_void()
        return builder.ptrtoint(function, _i64)

    return types.int64(block, arguments), codegen


@intrinsic
def _spill(typingctx, arguments):
    """Put the tuple `arguments` on the stack of the calling kernel; its address."""

    def codegen(context, builder, sig, args):
        model = context.data_model_manager[arguments]
        slot = cgutils.alloca_once(builder, model.get_data_type())
        builder.store(model.as_data(builder, args[0]), slot)
        return builder.ptrtoint(slot, _i64)

    return types.int64(arguments), codegen


@numba.njit(inline="always")
def parallel_for(pool, count, block, arguments):
    """Run ``block(t, *arguments)`` for every t in ``range(count)``, on the pool's threads and this one.

    `block` returns nothing, raises nothing, and writes nothing that another task reads or writes. (Inlined
    by Numba itself: were `block` passed as a value, its kernel would hold an address of this process and
    could not be cached.)
    """
    _launch(pool, _task_function(block, arguments), count, _spill(arguments))


@inline
def share_out(pool, items, work, least):
    """How many tasks to cut `items` items with this much `work` into, for results that no cut changes.

    One where a second task would have less than `least` to do; else as many for each thread as leave it tasks
    to take over from a thread that fell behind, but no smaller than eight times `least`.
    """
    threads = max(1, _load(pool, LIMIT))  # 0 once the pool has stopped
    if work < 2 * least:
        return min(items, 1)
    return min(items, threads * max(1, min(8, int(work / (threads * 8 * least)))))


class _Pool:
    """The state and the workers of this process; `address` is what kernels take."""

    def __init__(self, threads: int) -> None:
        memory = mmap.mmap(-1, 8 * (NEXT + _WORD * MOST_THREADS))
        # Never freed: a worker may read it while the process ends
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))
        self.words = np.frombuffer(memory, np.int64)
        self.address = self.words.ctypes.data
        self.threads = threads
        self.workers: list[threading.Thread] = []
        self._guard = threading.Lock()
        self.resize(threads)

    def resize(self, threads: int) -> None:
        with self._guard:
            self.threads = threads
            _work.compile((types.int64, types.int64))  # here, not in each worker under Numba's lock
            while len(self.workers) < threads - 1:
                arguments = (self.address, len(self.workers) + 1)
                worker = threading.Thread(target=_work, args=arguments, name="fastnn-worker", daemon=True)
                worker.start()
                self.workers.append(worker)
            while self.words[ALIVE] < len(self.workers):
                # A process forked before they are all at work could find a lock held that nobody will release
                time.sleep(1e-5)
            self.words[LIMIT] = threads

    def stop(self) -> None:
        self.words[LIMIT] = 0
        self.words[STOP] = 1
        self.words[BELL] += 1
        _wake(self.address)
        for worker in self.workers:
            worker.join(timeout=1.0)


@jit
def _wake(pool):
    _ring(pool, BELL)


def _default_threads() -> int:
    """FASTNN_NUM_THREADS, else the CPUs that affinity and the cgroup's quota leave to this process."""
    text = os.environ.get("FASTNN_NUM_THREADS", "")
    if text:
        if not (text.isascii() and text.isdigit()) or int(text) < 1:
            raise ValueError(f"FASTNN_NUM_THREADS must be a positive integer, got {text!r}")
        return min(int(text), MOST_THREADS)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        if quota != "max":
            cpus = min(cpus, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return min(cpus, MOST_THREADS)


_pool: _Pool | None = None
_threads: int | None = None  # what was asked for; outlives a fork
_creating = threading.Lock()


def pool() -> int:
    """The address of the pool's state, with its workers running: what a kernel passes to `parallel_for`."""
    return _pool.address if _pool is not None else _create().address


def _create() -> _Pool:
    global _pool
    with _creating:
        if _pool is None:
            _pool = _Pool(_threads or _default_threads())
        return _pool


def set_num_threads(n: int) -> None:
    """Let `n` threads at most, the caller's included, work on one kernel call; no more than
    `MOST_THREADS`."""
    global _threads
    _threads = min(n, MOST_THREADS)
    _create().resize(_threads)


def get_num_threads() -> int:
    """How many threads at most work on one kernel call."""
    return _create().threads


def _stop() -> None:
    if _pool is not None:
        _pool.stop()


def _after_fork() -> None:
    """In a child no worker lives, and the parent's pool may have been in mid-job: the first call makes a
    new one."""
    global _pool, _creating
    _pool, _creating = None, threading.Lock()


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
