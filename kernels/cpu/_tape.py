"""What is written down of the kernel calls that Python makes, for ``_program.py`` to make them again."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

#: Of the address, shape and itemsize of an array: whether its numbers would decide as they did.
Likewise = Callable[[int, tuple[int, ...], int], bool]


class Tape:
    """The kernel calls of one thread, in their order, and what else a repetition has to know."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, tuple]] = []  #: (compiled function, arguments)
        #: Of each random stream that a kernel reads from memory: (the memory, seed, offset).
        self.streams: list[tuple[np.ndarray, int, int]] = []
        #: Flags that kernels set for results which must be computed in another way.
        self.doubts: list[np.ndarray] = []
        #: Arrays whose numbers decided about the calls to come, and how to look again.
        self.looks: list[tuple[np.ndarray, Likewise]] = []
        #: Where kernels left the numbers that Python then returned: a loss, a penalty; each an array of one.
        self.numbers: list[np.ndarray] = []
        #: Whether Python itself moved numbers between two kernels: then the calls alone are not enough.
        self.gaps = False
        self.thread = threading.get_ident()


_tape: Tape | None = None
_recording = threading.Lock()


def current() -> Tape | None:
    """The tape that this thread is recording, if it is."""
    tape = _tape
    return tape if tape is not None and tape.thread == threading.get_ident() else None


@contextlib.contextmanager
def recording() -> Iterator[Tape | None]:
    """A tape of the calls that this thread makes inside; None while another is being recorded."""
    global _tape
    if not _recording.acquire(blocking=False):
        yield None
        return
    _tape = Tape()
    try:
        yield _tape
    finally:
        _tape = None
        _recording.release()


def doubts(count: int) -> np.ndarray:
    """Flags for kernels to set, all down; a tape hears of them."""
    flags, tape = np.zeros(count, np.bool_), current()
    if tape is not None:
        tape.doubts.append(flags)
    return flags


def looked(array: np.ndarray, likewise: Likewise) -> None:
    """To be said where numbers decided about the calls to come: see :attr:`Tape.looks`."""
    tape = current()
    if tape is not None:
        tape.looks.append((array, likewise))


def moved_by_python() -> None:
    """To be said wherever numbers are copied without a kernel."""
    tape = current()
    if tape is not None:
        tape.gaps = True
