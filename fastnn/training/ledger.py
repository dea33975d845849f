"""The losses of an epoch's steps on their way into the history."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.backend import is_device_array
from fastnn.training.feed import Score
from fastnn.training.run import Run


class Ledger:
    """Enters losses into a run, in the order of the steps, up to the first that is not finite.

    A loss on a GPU can be read only once the device has come to it. To read each would leave the device idle
    while the host prepares the next step; so they are read some dozens at a time.

    Parameters
    ----------
    run : Run
        Its history and position are kept up to date: ``position.step`` counts the steps that are entered.
    summed : bool
        The loss is a sum over a batch's examples; the history speaks of loss per example.
    show : callable
        ``show(examples, loss)`` after each entry.
    blame : callable
        ``blame(loss, number)``: the diagnosis of a loss that is not finite at that step of the epoch.
    """

    def __init__(
        self,
        run: Run,
        summed: bool,
        show: Callable[[int, float], None],
        blame: Callable[[float, int], str],
    ) -> None:
        self._history, self._at = run.history, run.position
        self._record = run.history.step_loss.append
        self._summed, self._show, self._blame = summed, show, blame
        self._stack = run.x.backend.xp.stack
        self._to_numpy = run.x.backend.to_numpy
        self._waiting: list[tuple[Any, Any, int]] = []

    def note(self, loss: Any, penalty: Any, count: int) -> bool:
        """Take in the loss of one step over `count` examples; False if one was not finite."""
        if type(loss) is not float and is_device_array(loss):
            self._waiting.append((loss, penalty, count))
            return len(self._waiting) < Score.STEPS or self.settle()
        if self._summed:
            loss /= count
        if penalty is not None:
            loss += float(penalty)
        at = self._at
        self._record(loss)
        if not math.isfinite(loss):
            self._history.diagnosis = self._blame(loss, at.step)
            return False
        at.step += 1
        at.loss_sum += loss * count
        self._show(count, loss)
        return True

    def settle(self) -> bool:
        """Enter what still waits; False if a loss was not finite."""
        if not self._waiting:
            return True
        losses, penalties, counts = zip(*self._waiting, strict=True)
        self._waiting = []
        values = [self._to_numpy(self._stack(part)) for part in (losses, penalties) if part[0] is not None]
        return self.enter(np.stack(values, axis=1), np.array(counts))

    def enter(self, parts: np.ndarray, counts: np.ndarray) -> bool:
        """Enter a row (loss, penalty) or (loss,) for each of some steps; False if one was not finite."""
        losses = parts[:, 0] / counts if self._summed else parts[:, 0]
        if parts.shape[1] > 1:
            losses = losses + parts[:, 1]
        wrong = np.flatnonzero(~np.isfinite(losses))
        values, good = losses.tolist(), int(wrong[0]) if wrong.size else len(losses)
        self._history.step_loss += values[: good + 1]
        for loss, count in zip(values[:good], counts.tolist(), strict=False):
            self._at.loss_sum += loss * count
        self._at.step += good
        if good < len(values):
            self._history.diagnosis = self._blame(values[good], self._at.step)
            return False
        self._show(int(counts.sum()), values[-1])
        return True
