"""What a recorded training step finds anew at each replay.

A CUDA graph repeats launches with the arguments they were recorded with. What changes from one step to the
next, kernels therefore read from device memory: the number of the step, the random streams given so far, and
the numbers of an update that follow a schedule or count steps.

:func:`current` is the recording that this thread makes, if any: the launch code of ``random.py`` and
``update.py`` asks for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import _launch

_this_thread = threading.local()


class Recording:
    """One step, recorded.

    Parameters
    ----------
    steps : int
        Most steps that are replayed from one :meth:`start` to the next.

    Attributes
    ----------
    position : int64 array (2,)
        Number of the step at hand; how many random streams were given between the recording and this step.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self.position = _launch.xp().zeros(2, np.int64)
        self._rates: list[Any] = []  # of each update in the step: (steps, numbers of one step)
        self._listed: list[tuple[float, ...]] | None = None
        self._replay: Callable[[], None] | None = None

    def record(self, step: Callable[[], None]) -> None:
        """Note the launches that `step` makes; nothing is computed."""
        with self._in_force():
            self._replay = _launch.toolkit.record(step)

    def replay(self) -> None:
        """Make the launches again."""
        assert self._replay is not None
        self._replay()

    def start(self, step: int, streams: int) -> None:
        """The next replay is step number `step`, `streams` random streams after the recording."""
        self.position[...] = _launch.xp().asarray(np.array([step, streams], np.int64))

    def numbers_of(self, update: Callable[[], None]) -> list[tuple[float, ...]]:
        """What the updates that `update` makes would read at a replay: it makes none now."""
        self._listed = []
        try:
            with self._in_force():
                update()
            return self._listed
        finally:
            self._listed = None

    def set_numbers(self, first: int, listed: Sequence[list[tuple[float, ...]]]) -> None:
        """Let step ``first + i`` read what :meth:`numbers_of` gave as ``listed[i]``."""
        for k, rates in enumerate(self._rates):
            numbers = np.array([step[k] for step in listed], rates.dtype)
            rates[first : first + len(listed)] = _launch.xp().asarray(numbers)

    def rates(self, numbers: tuple[float, ...], dtype: Any) -> Any:
        """Where the update being recorded reads `numbers`; None if they are only listed."""
        if self._listed is not None:
            self._listed.append(numbers)
            return None
        self._rates.append(_launch.xp().empty((self._steps, len(numbers)), dtype))
        return self._rates[-1]

    @contextmanager
    def _in_force(self) -> Iterator[None]:
        _this_thread.recording = self
        try:
            yield
        finally:
            _this_thread.recording = None


def current() -> Recording | None:
    """The recording that this thread makes, or None."""
    return getattr(_this_thread, "recording", None)
