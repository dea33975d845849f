"""How every CPU kernel is compiled: the one place for flags, caching and the cache's validity.

* ``fastmath`` without ``nnan`` and ``ninf``: NaN and Inf pass through a kernel as they do in NumPy.
  Functions whose rounding is the point (range reduction in ``_math.py``) use :data:`EXACT`, which also
  forbids reassociation.
* ``error_model="numpy"``: a division by zero gives Inf, not an exception, and so no branch.
* Nothing is compiled at import: a function compiles when it is first called with given dtypes.
* The on-disk cache is keyed by the source of the whole room. Numba stamps only the file of the function
  itself, but a kernel inlines helpers of other files: without this an edited helper would live on in its
  callers' cached code.
* Processes may fill the cache at once: an entry's file is named by its key.
* A cache that cannot be written or read is no cache: kernels are then compiled afresh, with one warning.
"""

from __future__ import annotations

import ctypes
import gc
import glob
import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.ccallback import CFunc
from numba.core.compiler import Compiler
from numba.core.sigutils import normalize_signature
from numba.extending import intrinsic

from ._tape import current

FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
EXACT = {"nsz", "contract"}


class _Uncollected(Compiler):
    """Numba's compiler, with Python's cyclic garbage collector waiting until a kernel is done.

    A compilation makes objects by the hundred thousand. The collector would set out some two thousand times
    in a first step, which is 5 to 10 % of its time. (A kernel's helpers are compiled while it is; 13 MiB more
    are in use at most.)
    """

    def compile_extra(self, func: Callable) -> Any:
        waits = gc.isenabled()
        gc.disable()
        try:
            return super().compile_extra(func)
        finally:
            if waits:
                gc.enable()


_BOTH: dict[str, Any] = {"error_model": "numpy", "nogil": True}
_KERNEL = {**_BOTH, "no_cfunc_wrapper": True, "pipeline_class": _Uncollected}
_HELPER = {**_BOTH, "forceinline": True}
if (0, 61) <= numba.version_info.short <= (0, 68):  # others compile helpers like all else: slowly, but right
    from ._inlined import Inlined

    _HELPER["pipeline_class"] = Inlined


def _hash_of_room() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


ROOM = _hash_of_room()
_warned = False


def _warn_once(reason: object) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"fastnn compiles its kernels anew in each process: the cache is unusable ({reason}); "
            "set NUMBA_CACHE_DIR to a writable folder",
            RuntimeWarning,
            stacklevel=3,
        )


class _NamedFiles(IndexDataCacheFile):
    """Numba's index of a function's compiled code, in which a file of code is named by what it is for.

    Numba numbers them. Of two processes that save at once each takes the next number for its own, and what
    the one's entry names may be the other's code: that of another variant, with the same signature.
    """

    def save(self, key: Any, data: Any) -> None:
        overloads = self._load_index()
        base = self._index_name.removesuffix(".nbi")
        if not overloads:  # the function is new, or was edited: what there is cannot be found again
            for stale in Path(self._cache_path).glob(f"{glob.escape(base)}.*.nbc"):
                stale.unlink(missing_ok=True)
        overloads[key] = name = f"{base}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.nbc"
        self._save_data(name, data)
        self._save_index(overloads)


class _RoomCache(FunctionCache):
    """Numba's function cache with a key of our own, where no failure of the disk is fatal.

    The key is the source of the room and, for functions made by a factory, the name of the variant. (Numba
    would hash the closure instead, and a pickled intrinsic differs from process to process.)
    """

    def __init__(self, function: Callable, variant: str) -> None:
        super().__init__(function)
        self._variant = variant
        files = self._cache_file
        self._cache_file = _NamedFiles(
            files._cache_path, files._index_name.removesuffix(".nbi"), files._source_stamp
        )

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (sig, codegen.magic_tuple(), (ROOM, self._variant))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except (
            Exception
        ) as error:  # an unreadable or damaged entry, whatever it makes the unpickler raise, is a miss
            _warn_once(error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if (
            _hash_of_room() != ROOM
        ):  # edited since this process began: what it compiled is not what its key says
            return
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn_once(error)


def _enable_cache(compiled: Any, function: Callable, variant: str) -> None:
    try:
        compiled._cache = _RoomCache(function, variant)
    except (RuntimeError, OSError) as error:  # no folder that a cache could lie in
        _warn_once(error)


class Kernel:
    """A compiled function, to be called from Python; a tape hears of every call."""

    __slots__ = ("compiled",)

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled

    def __call__(self, *arguments: Any) -> Any:
        tape = current()
        if tape is not None:
            tape.calls.append((self.compiled, arguments))
        return self.compiled(*arguments)

    def unheard(self, *arguments: Any) -> Any:
        """A call that no tape hears of: it only finds something out."""
        return self.compiled(*arguments)


def jit(function: Callable | None = None, *, fastmath: set[str] = FAST, variant: str = "") -> Any:
    """``numba.njit`` with this room's policy, as a :class:`Kernel`; the GIL is released while it runs."""
    if function is None:
        return lambda f: jit(f, fastmath=fastmath, variant=variant)
    compiled = numba.njit(fastmath=fastmath, **_KERNEL)(function)
    _enable_cache(compiled, function, variant)
    return Kernel(compiled)


def inline(function: Callable | None = None, *, fastmath: set[str] = FAST) -> Any:
    """A helper that only other kernels call: compiled into each of them, so it needs no cache of its own.

    Always inlined. Left to the compiler, some kernels would call a helper, each bringing its own copy,
    optimised by what it knew; which of the copies a process then uses would depend on which kernel it
    loaded first, and with it the last bits of a sum.
    """
    if function is None:
        return lambda f: inline(f, fastmath=fastmath)
    helper: Any = numba.njit(fastmath=fastmath, **_HELPER)(function)
    template = helper.get_call_template
    # Numba would compile it anew for each constant that a caller passes
    helper.get_call_template = lambda args, kws: template(tuple(map(types.unliteral, args)), kws)
    return helper


@intrinsic
def wide_vectors(typingctx: Any) -> Any:
    """Let the loops of the function that says this use the CPU's widest vectors.

    For CPUs with 512 bits LLVM prefers 256, fearing a lower clock. Where a loop computes more than it loads
    that halves its speed. (A function's loops are turned into vector code before it is inlined: each must say
    it itself.)
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # llvmlite's own add() refuses it
        return context.get_dummy_value()

    return types.void(), emit


def native(signature: Any, function: Callable, *, variant: str) -> int:
    """Compile `function` of `signature` by itself, cached like a kernel, and return the address of its code.

    Kernels call it through that address, see :data:`call_code`. Compiled into each kernel instead, the
    micro-kernel would cost every one of them a second of compilation. The address is not that of Numba's C
    function around it: that one copies words from the stack in pairs, each of which has to wait until all
    that was stored before it, tiles of results among them, has left the core (some hundred cycles a call).
    """
    options = {"fastmath": FAST, "error_model": "numpy", "nopython": True}
    compiled: Any = CFunc(function, normalize_signature(signature), {}, options, _Uncollected)
    _enable_cache(compiled, function, variant)
    compiled.compile()
    _keep_alive.append(compiled)
    address = compiled._library.get_pointer_to_function(compiled.native_name.removeprefix("cfunc."))
    assert address
    return address


def call_at(
    context: Any, builder: ir.IRBuilder, address: Any, result: types.Type, kinds: Any, values: Any
) -> Any:
    """Emit a call of a compiled function of these Numba types at `address`: ``(status, value)``."""
    kind = context.call_conv.get_function_type(result, kinds)
    callee = builder.inttoptr(address, kind.as_pointer())
    return context.call_conv.call_function(builder, callee, result, kinds, values)


def _call_of(result: types.Type) -> Any:
    @intrinsic
    def call(typingctx: Any, address: Any, words: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            given = [
                context.cast(builder, builder.extract_value(args[1], i), kind, types.int64)
                for i, kind in enumerate(words.types)
            ]
            _, value = call_at(context, builder, args[0], result, [types.int64] * len(given), given)
            return context.get_dummy_value() if result is types.void else value

        return result(types.int64, words), emit

    return call


call_code = _call_of(types.void)  # (address, words): `native` code, which takes these 64-bit words
call_code_for = _call_of(types.int64)  # the same of one that returns a word


def from_python(address: int, count: int) -> Callable[..., int]:
    """`native` code as a Python function of `count` words; a word is returned. It runs without the GIL."""
    place, word = ctypes.c_void_p, ctypes.c_int64
    code = ctypes.CFUNCTYPE(ctypes.c_int32, place, place, *[word] * count)(address)

    def call(*words: int) -> int:
        result, failure = word(), word()
        code(ctypes.addressof(result), ctypes.addressof(failure), *words)
        return result.value

    return call


_keep_alive: list[Any] = []  # machine code must outlive every kernel that holds its address
