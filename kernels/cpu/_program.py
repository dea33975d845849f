"""A sequence of kernel calls that Python made once, made again by a single native call.

A small network's kernels run for a few microseconds each, and Python takes as long to reach the next one: it
checks arguments, makes arrays, hands them to compiled code. A program spares all that. Every argument of the
calls on a tape becomes a row of 64-bit words: a number is one, an array its address and shape. For each
*type* of call, a small C function makes arguments of such words and calls the kernel at its address. Memory
between two kernels keeps its place from run to run. Arrays that are others each time, what goes in and what
comes out, are *moving*: words that point into them are written anew before a run.

What Python itself does to the numbers between two kernels is not on the tape. So a program is trusted only
once :meth:`Program.repeats` has shown that it brings about everything by itself: with every number in the
memory between overwritten by NaN beforehand.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from ._jit import call_at, call_code, inline, jit, native
from ._memory import empty_like, floats_at, memory_order
from ._tape import Tape
from .threads import get_num_threads, pool

_MOST = 1 << 26  # bytes of memory that one program may keep
_DATA = object.__basicsize__  # where a NumPy array, as an object in memory, holds the address of its numbers
_REST = {count: (0,) * (4 - count) for count in range(5)}
_i64 = ir.IntType(64)


class CannotRepeat(Exception):
    """There is something in these calls that no program can hold; the message says what."""


def _kind_of(value: Any) -> types.Type:
    kind = numba.typeof(value)
    simple = (types.Integer, types.Boolean, types.Float)
    for leaf in _leaves(kind):
        if not (isinstance(leaf, simple) or (isinstance(leaf, types.Array) and leaf.layout == "C")):
            raise CannotRepeat(f"an argument of type {leaf}")
    return kind


def _leaves(kind: types.Type) -> Iterator[types.Type]:
    if isinstance(kind, (types.UniTuple, types.Tuple)):
        for inner in kind.types:
            yield from _leaves(inner)
    else:
        yield kind


def _values(value: Any) -> Iterator[Any]:
    """The numbers and arrays in nested tuples."""
    if isinstance(value, tuple):
        for inner in value:
            yield from _values(inner)
    else:
        yield value


def _words(value: Any, kind: types.Type) -> list[int]:
    if isinstance(kind, types.Array):
        return [_address(value), *value.shape]
    if isinstance(kind, types.Float):
        return [int(np.float64(value).view(np.int64))]
    return [int(np.uint64(int(value) & (1 << 64) - 1).view(np.int64))]


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _data_of(array: int) -> int:
    """The same, read as :func:`_replay` does, of the array that is the Python object at that address."""
    return ctypes.c_int64.from_address(array + _DATA).value


def _caller(kinds: tuple[types.Type, ...]) -> int:
    """The address of a C function (address of a kernel, address of words) that calls the kernel with
    arguments of those Numba types, made of the words from the second on. The first becomes whether it failed.
    """

    @intrinsic
    def enter(typingctx: Any, kernel: Any, words: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            start = builder.inttoptr(args[1], _i64.as_pointer())
            places = iter(range(1, 1 << 30))

            def word() -> ir.Value:
                return builder.load(builder.gep(start, [_i64(next(places))]))

            def build(kind: types.Type) -> ir.Value:
                target = context.get_value_type(kind)
                if isinstance(kind, (types.UniTuple, types.Tuple)):
                    return context.make_tuple(builder, kind, [build(inner) for inner in kind.types])
                if isinstance(kind, types.Array):
                    return _array(context, builder, kind, word)
                if isinstance(kind, types.Float):
                    exact = builder.bitcast(word(), ir.DoubleType())
                    return exact if kind.bitwidth == 64 else builder.fptrunc(exact, target)
                narrow = target.width < 64
                return builder.trunc(word(), target) if narrow else word()

            values = [build(kind) for kind in kinds]
            status, _ = call_at(context, builder, args[0], types.none, kinds, values)
            builder.store(builder.zext(status.is_error, _i64), start)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), emit

    def caller(kernel: Any, words: Any) -> None:
        enter(kernel, words)  # type: ignore[call-arg]

    return native(types.void(types.int64, types.int64), caller, variant=str(kinds))


def _array(context: Any, builder: ir.IRBuilder, kind: types.Array, word: Any) -> ir.Value:
    """A C-contiguous array that owns nothing, of an address and its shape."""
    array = make_array(kind)(context, builder)
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    data = builder.inttoptr(word(), array.data.type)
    shape = [word() for _ in range(kind.ndim)]
    strides: list[ir.Value] = []
    stride = _i64(size)
    for length in reversed(shape):
        strides.insert(0, stride)
        stride = builder.mul(stride, length)
    populate_array(array, data, shape, strides, itemsize=_i64(size), meminfo=None)
    return array._getvalue()


_callers: dict[tuple[types.Type, ...], int] = {}


def _caller_of(kinds: tuple[types.Type, ...]) -> int:
    if kinds not in _callers:
        _callers[kinds] = _caller(kinds)
    return _callers[kinds]


@inline
def _integers(address, count):
    return floats_at(address, count, np.int64(0))


@inline
def _three(address):
    found = _integers(address, 3)
    return found[0], found[1], found[2]


@inline
def _make(place, calls):
    """Make the calls that begin at `place`; where they end, or 0 if one failed."""
    for _ in range(calls):
        caller, kernel, words = _three(place)
        call_code(caller, (kernel, words))
        if _integers(words, 1)[0] != 0:
            return 0
        place += 24
    return place


@jit
def _replay(control, a, b, c, d):
    """Let the words that point into moving arrays do so, these being the Python objects at a, b, c and d;
    then make the calls, the last of them only where no doubt is set by the others. Whether all were made.

    At address `control`: how many patches, calls and doubts there are, and how many last calls; then these,
    three integers each.
    """
    objects = (a, b, c, d)
    patches, calls, doubts = _three(control)
    last, _, _ = _three(control + 24)
    place = control + 48
    for _ in range(patches):
        word, which, offset = _three(place)
        _integers(word, 1)[0] = _integers(objects[which] + _DATA, 1)[0] + offset
        place += 24
    place = _make(place, calls)
    for _ in range(doubts if place != 0 else 0):
        flags, count, _ = _three(place)
        for flag in floats_at(flags, count, np.uint8(0)):
            if flag != 0:
                return False
        place += 24
    return place != 0 and _make(place, last) != 0


class Program:
    """The calls of a tape, ready to be made again on other arrays.

    Parameters
    ----------
    tape : Tape
    inputs, outputs : sequences of arrays, four at most together
        Those that are others in each run: of the same shape, dtype and strides.
    sure : int, optional
        How many of the calls may be made whatever comes of them; those after them, which overwrite what they
        start from, only where no doubt is set. Default: all.

    Attributes
    ----------
    moves : set of int
        Which of `inputs` and `outputs`, by number, the calls read or write at all.

    Raises
    ------
    CannotRepeat
        The tape holds what no program can.
    """

    def __init__(
        self,
        tape: Tape,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        sure: int | None = None,
    ) -> None:
        if tape.gaps:
            raise CannotRepeat("numbers were moved by Python")
        self.lock = threading.Lock()  # for whoever runs it: two runs at once would share the memory between
        self.streams = tape.streams
        self._outputs = tuple(outputs)
        self._threads = pool(), get_num_threads()
        self._held: list[np.ndarray] = []
        self._flags = tape.doubts
        self._ends: list[list[int]] = []  # of each call: where the words of each of its arguments end
        moving = [_extent(array) for array in (*inputs, *outputs)]
        _refuse_overlaps(moving)
        if any(_data_of(id(array)) != _address(array) for array in (*inputs, *outputs)):
            raise CannotRepeat("NumPy's arrays are not laid out as expected")
        calls: list[tuple[int, int, int]] = []
        words: list[int] = []
        patches: list[tuple[int, int, int]] = []
        for compiled, arguments in tape.calls:
            kinds = tuple([_kind_of(argument) for argument in arguments])
            found = compiled.overloads.get(kinds) if hasattr(compiled, "overloads") else None
            if found is None or found.signature.return_type != types.none:
                raise CannotRepeat(f"no compiled kernel for {kinds}")
            code = found.library.get_pointer_to_function(found.fndesc.llvm_func_name)
            calls.append((_caller_of(kinds), code, len(words)))
            words.append(0)
            self._ends.append([])
            for argument, kind in zip(_values(arguments), _leaves(types.Tuple(kinds)), strict=True):
                if isinstance(argument, np.ndarray) and argument.size:
                    patch = _patch(argument, moving)
                    if patch is None:
                        self._held.append(argument)
                    else:
                        patches.append((len(words), *patch))
                words += _words(argument, kind)
                self._ends[-1].append(len(words))
        if not calls or sum({_extent(held): held.nbytes for held in self._held}.values()) > _MOST:
            raise CannotRepeat("no calls, or too much memory to keep")
        self.moves = {which for _, which, _ in patches}
        self._words = np.array(words, np.int64)
        here = _address(self._words)
        made = [(caller, kernel, here + 8 * first) for caller, kernel, first in calls]
        sure = len(made) if sure is None else sure
        rows = [
            (len(patches), sure, len(self._flags)),
            (len(made) - sure, 0, 0),
            *((here + 8 * word, which, offset) for word, which, offset in patches),
            *made[:sure],
            *((_address(flags), flags.size, 0) for flags in self._flags),
            *made[sure:],
        ]
        self._control = np.array(rows, np.int64)
        self._at = _address(self._control)

    def current(self) -> bool:
        """Whether the threads are those of the recording: not in a forked child, or with another number."""
        return self._threads == (pool(), get_num_threads())

    def floats(self, call: int, first: int, count: int) -> np.ndarray:
        """The place of `count` arguments of a call that are floats, from number `first` on: what is written
        there is what the call takes in the next run."""
        ends = self._ends[call]
        if ends[first + count - 1] - ends[first - 1] != count:
            raise CannotRepeat("arguments that are no single numbers")
        return self._words[ends[first - 1] : ends[first - 1] + count].view(np.float64)

    def run(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...] | None:
        """The outputs for those inputs, while :meth:`current`; None where the calls must be made one by one:
        a result is in doubt, or memory has run out."""
        outputs = tuple([empty_like(like) for like in self._outputs])
        objects = [id(array) for array in (*inputs, *outputs)]
        if _replay.compiled(self._at, *objects, *_REST[len(objects)]):
            return outputs
        for flags in self._flags:
            flags[:] = False
        return None

    def repeats(
        self,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        sources: Sequence[np.ndarray],
        results: Sequence[np.ndarray],
        earlier: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    ) -> bool:
        """Whether a run on `inputs` brings about `outputs` and what is in `results` now, all by itself.

        It starts from the `sources` alone, arrays that keep their place and that the calls only read, and
        from what is in arrays that they overwrite: `earlier` holds these, each with the values that it had
        when the calls were recorded. All other numbers are overwritten with NaN before it.
        """
        updated = [array for array, _ in earlier]
        extents = [_extent(array) for array in (*sources, *updated)]
        between = [a for a in self._held if a.dtype.kind == "f" and not _overlap(_extent(a), extents)]
        results = [*results, *updated]
        erased, expected = [*between, *results], [array.copy() for array in (*outputs, *results)]
        if not all(np.isfinite(array).all() for array in expected):
            return False  # no NaN could be told from those
        before = [array.copy() for array in erased]
        for array in erased:
            array.fill(np.nan if array.dtype.kind == "f" else 0)
        for array, values in earlier:
            array[...] = values
        try:
            again = self.run(*inputs)
            return again is not None and all(map(np.array_equal, (*again, *results), expected))
        finally:
            for array, values in zip(erased, before, strict=True):
                array[...] = values


def _extent(array: np.ndarray) -> tuple[int, int]:
    """From where to where `array` lies in memory, without gaps."""
    if not array.transpose(memory_order(array)).flags.c_contiguous:
        raise CannotRepeat("an array with gaps")
    start = _address(array)
    return start, start + array.nbytes


def _overlap(extent: tuple[int, int], others: Sequence[tuple[int, int]]) -> bool:
    return any(extent[0] < end and start < extent[1] for start, end in others)


def _refuse_overlaps(extents: list[tuple[int, int]]) -> None:
    for i, extent in enumerate(extents):
        if extent[0] == extent[1] or _overlap(extent, extents[:i]):
            raise CannotRepeat("moving arrays that are empty, or share memory")


def _patch(array: np.ndarray, moving: list[tuple[int, int]]) -> tuple[int, int] | None:
    """In which moving array `array` begins, and how far into it; None where it is in none."""
    address = _address(array)
    for which, (start, end) in enumerate(moving):
        if start <= address < end:
            return which, address - start
    return None
