"""Batches at the price of one copy: rows gathered by a permutation into one buffer that every batch reuses.

An array that is channels-last in memory stays so: its batches are logical ``(N, C, H, W)`` views of such a
buffer. The permutation of an epoch depends on nothing but (seed, epoch), so a resumed run finds its place
without replaying draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend import Backend, backend_of

_NHWC, _NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
_SHARED = 1 << 19  # bytes of a batch, from which on it pays to gather it on all threads


class Rows:
    """The rows of an array on `backend`'s device, gathered by index into a reused buffer."""

    def __init__(self, backend: Backend, array: Any) -> None:
        self.backend = backend
        array = backend.asarray(array)
        self.channels_last = array.ndim == 4 and array.transpose(_NHWC).flags.c_contiguous
        # take() would copy the whole of an array that is not C-contiguous at every call, so it is done once
        # here.
        self.array = backend.xp.ascontiguousarray(array.transpose(_NHWC) if self.channels_last else array)
        self._buffer: Any = None
        # NumPy's default mode, "raise", copies through a second buffer; CuPy's take has no modes.
        self._mode = ("clip",) if backend.xp is np else ()

    def __len__(self) -> int:
        return len(self.array)

    def buffer(self, count: int) -> tuple[Any, Any]:
        """New memory for `count` rows, as :attr:`array` has them, and the batch that it is then."""
        memory = self.backend.xp.empty((count, *self.array.shape[1:]), self.array.dtype)
        return memory, memory.transpose(_NCHW) if self.channels_last else memory

    def take(self, rows: Any) -> Any:
        """The rows numbered `rows`, in the buffer: the next call overwrites them."""
        count, out = len(rows), self._buffer
        if out is None or len(out) < count:
            out, _ = self.buffer(count)
            self._buffer = out
        if len(out) > count:
            out = out[:count]
        if out.nbytes >= _SHARED and self.backend.room == "cpu":
            from fastnn.kernels.cpu.step import gather

            gather(self.array, rows, out)
        else:
            self.array.take(rows, 0, out, *self._mode)
        return out.transpose(_NCHW) if self.channels_last else out

    def slice(self, start: int, stop: int) -> Any:
        """Rows `start` to `stop` as they lie, without a copy."""
        out = self.array[start:stop]
        return out.transpose(_NCHW) if self.channels_last else out


def examples_of(x: Any, y: Any) -> tuple[Rows, Rows]:
    """Inputs and targets on the device where the inputs belong.

    Raises
    ------
    ValueError
        They are not equally many.
    """
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} examples and y has {len(y)}")
    device = backend_of(x)
    return Rows(device, x), Rows(device, y)


def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order of the examples in `epoch`: a function of its arguments alone."""
    return np.random.default_rng([seed, epoch]).permutation(size)


def drawn(seed: int, epoch: int, size: int, count: int) -> np.ndarray:
    """`count` of `size` examples, drawn with replacement for `epoch`: a function of its arguments alone."""
    return np.random.default_rng([seed, epoch]).integers(size, size=count)


class Score:
    """The metric over an epoch's batches, computed once for many of them.

    A metric is a handful of NumPy calls, as much as a layer of a small network costs; so the outputs of
    `STEPS` steps are kept (they are small) and scored together.
    """

    STEPS = 64

    def __init__(
        self, metric: Callable[[Any, Any], float], order: Any, targets: Rows, batch_size: int
    ) -> None:
        self._metric = metric
        self._order = order
        self._targets = targets
        self._capacity = min(self.STEPS * batch_size, len(targets if order is None else order))
        self._outputs: Any = None
        self._start = self._stop = 0

    def add(self, output: Any, start: int, stop: int) -> None:
        """Keep the output for examples `start` to `stop` of the epoch's order."""
        if self._outputs is None:
            self._outputs = self._targets.backend.xp.empty((self._capacity, *output.shape[1:]), output.dtype)
        if self._start == self._stop:
            self._start = start
        self._outputs[start - self._start : stop - self._start] = output
        self._stop = stop

    def take(self) -> float:
        """The sum of the metric over the examples added since the last call."""
        start, stop = self._start, self._stop
        self._start = stop
        return 0.0 if start == stop else self.total(self._outputs[: stop - start], start, stop)

    def total(self, outputs: Any, start: int, stop: int) -> float:
        """The sum of the metric over examples `start` to `stop` of the epoch's order, of these outputs."""
        rows = self._targets
        if self._order is None:
            targets = rows.slice(start, stop)
        else:  # a fresh array: the buffer of rows.take still holds the batch at hand
            targets = rows.array.take(self._order[start:stop], axis=0)
        total = float(self._metric(outputs, targets)) * (stop - start)
        # A count of right answers is whole: rounded, its sum does not depend on where a run was stopped and
        # resumed, nor on how many steps are scored at a time.
        whole = round(total)
        return float(whole) if abs(total - whole) < 1e-6 * (stop - start) else total
