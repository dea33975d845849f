"""A sequence of kernel calls that Python made once, made again by a single native call.

A small network's kernels run for a few microseconds each, and Python takes as long to reach the next one: it
checks arguments, makes arrays, hands them to compiled code. A program spares all that. The arguments of the
calls on a tape become 64-bit words (``_words.py``), of which code makes the kernels' arguments anew. Memory
between two kernels keeps its place from run to run. Arrays that are others each time, what goes in and what
comes out, are *moving*: words that point into them are written anew before a run.

What Python itself does to the numbers between two kernels is not on the tape. So a program is trusted only
once :meth:`Program.repeats` has shown that it brings about everything by itself: with every number in the
memory between overwritten by NaN beforehand.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence

import numpy as np
from numba import types

from ._jit import call_code, inline, jit
from ._memory import address_of, empty_like, floats_at, memory_order
from ._tape import Likewise, Tape
from ._words import CannotRepeat, caller_of, kind_of, leaves_of, values_of, words_of
from .threads import get_num_threads, pool

__all__ = ["CannotRepeat", "Program"]

_MOST = 1 << 26  # bytes of memory that one program may keep
_LOOK = 256  # runs from one look at their numbers to the next
_DATA = object.__basicsize__  # where a NumPy array, as an object in memory, holds the address of its numbers
_REST = {count: (0,) * (4 - count) for count in range(5)}


def _data_of(array: int) -> int:
    """Where the numbers lie of the array that is the Python object at that address, read as :func:`_replay`
    reads it."""
    return ctypes.c_int64.from_address(array + _DATA).value


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
        self._runs, self._otherwise = 0, False
        self._ends: list[list[int]] = []  # of each call: where the words of each of its arguments end
        moving = [_extent(array) for array in (*inputs, *outputs)]
        self._looks: list[tuple[int | None, int, tuple[int, ...], int, Likewise]] = []
        for array, likewise in tape.looks:
            which, start = _patch(array, moving) or (None, address_of(array))
            self._looks.append((which, start, array.shape, array.itemsize, likewise))
            if which is None:
                self._held.append(array)
        _refuse_overlaps(moving)
        if any(_data_of(id(array)) != address_of(array) for array in (*inputs, *outputs)):
            raise CannotRepeat("NumPy's arrays are not laid out as expected")
        calls: list[tuple[int, int, int]] = []
        words: list[int] = []
        patches: list[tuple[int, int, int]] = []
        for compiled, arguments in tape.calls:
            kinds = tuple([kind_of(argument) for argument in arguments])
            found = compiled.overloads.get(kinds) if hasattr(compiled, "overloads") else None
            if found is None or found.signature.return_type != types.none:
                raise CannotRepeat(f"no compiled kernel for {kinds}")
            code = found.library.get_pointer_to_function(found.fndesc.llvm_func_name)
            calls.append((caller_of(kinds), code, len(words)))
            words.append(0)
            self._ends.append([])
            for argument, kind in zip(values_of(arguments), leaves_of(types.Tuple(kinds)), strict=True):
                if isinstance(argument, np.ndarray) and argument.size:
                    patch = _patch(argument, moving)
                    if patch is None:
                        self._held.append(argument)
                    else:
                        patches.append((len(words), *patch))
                words += words_of(argument, kind)
                self._ends[-1].append(len(words))
        if not calls or sum({_extent(held): held.nbytes for held in self._held}.values()) > _MOST:
            raise CannotRepeat("no calls, or too much memory to keep")
        self.moves = {which for _, which, _ in patches}
        self._words = np.array(words, np.int64)
        here = address_of(self._words)
        made = [(caller, kernel, here + 8 * first) for caller, kernel, first in calls]
        sure = len(made) if sure is None else sure
        rows = [
            (len(patches), sure, len(self._flags)),
            (len(made) - sure, 0, 0),
            *((here + 8 * word, which, offset) for word, which, offset in patches),
            *made[:sure],
            *((address_of(flags), flags.size, 0) for flags in self._flags),
            *made[sure:],
        ]
        self._control = np.array(rows, np.int64)
        self._at = address_of(self._control)

    def current(self) -> bool:
        """Whether what was decided by looking at numbers still would be, and the threads are those of the
        recording: not in a forked child, or with another number."""
        return not self._otherwise and self._threads == (pool(), get_num_threads())

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
            self._runs += 1
            if self._looks and self._runs % _LOOK == 0:
                self._look_again(*inputs, *outputs)
            return outputs
        for flags in self._flags:
            flags[:] = False
        return None

    def _look_again(self, *moving: np.ndarray) -> None:
        for which, start, shape, size, likewise in self._looks:
            address = start if which is None else address_of(moving[which]) + start
            self._otherwise = self._otherwise or not likewise(address, shape, size)

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
    start = address_of(array)
    return start, start + array.nbytes


def _overlap(extent: tuple[int, int], others: Sequence[tuple[int, int]]) -> bool:
    return any(extent[0] < end and start < extent[1] for start, end in others)


def _refuse_overlaps(extents: list[tuple[int, int]]) -> None:
    for i, extent in enumerate(extents):
        if extent[0] == extent[1] or _overlap(extent, extents[:i]):
            raise CannotRepeat("moving arrays that are empty, or share memory")


def _patch(array: np.ndarray, moving: list[tuple[int, int]]) -> tuple[int, int] | None:
    """In which moving array `array` begins, and how far into it; None where it is in none."""
    address = address_of(array)
    for which, (start, end) in enumerate(moving):
        if start <= address < end:
            return which, address - start
    return None
