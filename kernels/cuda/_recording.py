"""What a recorded training step finds anew at each replay.

A CUDA graph repeats launches with the arguments they were recorded with. What changes from one step to the
next, kernels therefore read from device memory: the number of the step, the random streams given so far, and
the numbers of an update that follow a schedule or count steps.

:func:`current` is the recording that this thread makes, if any: the launch code of ``random.py`` and
``update.py`` asks for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
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
    updates : sequence of (int, dtype)
        For each update of the step, how many numbers it reads anew in each step.

    Attributes
    ----------
    position : int64 array (1,)
        Number of the step at hand.
    streams : int64 array (1,)
        How many random streams were given between the recording and this step.
    rates : list of arrays (steps, numbers)
        What each update of the step reads, a row for each step. They are made before the step is recorded:
        what is allocated in the midst of it shares its memory with whatever the step had before and has no
        more, so that each replay would write over what the host left in it.
    """

    def __init__(self, steps: int, updates: Sequence[tuple[int, Any]]) -> None:
        xp = _launch.xp()
        self.position, self.streams = (xp.zeros(1, np.int64) for _ in range(2))
        self.rates = [xp.empty((steps, numbers), dtype) for numbers, dtype in updates]
        self._read = 0  # of `rates`, by updates recorded so far
        self._replay: Callable[[], None] | None = None

    def record(self, step: Callable[[], None]) -> None:
        """Note the launches that `step` makes; nothing is computed."""
        _this_thread.recording = self
        try:
            self._replay = _launch.toolkit.record(step)
        finally:
            _this_thread.recording = None

    def start(self, step: int, streams: int) -> None:
        """The next replay is step number `step`, `streams` random streams after the recording."""
        self.position.fill(step)
        self.streams.fill(streams)

    def replay(self) -> None:
        """Make the launches again."""
        assert self._replay is not None
        self._replay()

    def next_rates(self) -> Any:
        """Those of the update that is being recorded."""
        self._read += 1
        return self.rates[self._read - 1]


def current() -> Recording | None:
    """The recording that this thread makes, or None."""
    return getattr(_this_thread, "recording", None)
