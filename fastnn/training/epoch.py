"""One epoch: its order, its steps one after another, and what they leave in the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.training import diagnosis
from fastnn.training.feed import Score, drawn, permutation
from fastnn.training.interrupt import CtrlC
from fastnn.training.ledger import Ledger
from fastnn.training.progress import Silent
from fastnn.training.recorded import RecordedSteps
from fastnn.training.run import Run
from fastnn.training.step import TrainingStep

if TYPE_CHECKING:
    from fastnn.training.trainer import Trainer


class Epoch:
    """The epoch at which a run stands.

    Parameters
    ----------
    trainer : Trainer
        What it was made with.
    run : Run
    display : Silent
    ctrl_c : CtrlC
    step : TrainingStep
    recorded : RecordedSteps or None
    """

    def __init__(
        self,
        trainer: Trainer,
        run: Run,
        display: Silent,
        ctrl_c: CtrlC,
        step: TrainingStep,
        recorded: RecordedSteps | None,
    ) -> None:
        self._run, self._ctrl_c, self._recorded = run, ctrl_c, recorded
        self._optimizer = optimizer = trainer.optimizer
        self._step = step
        self._order = _order(run)
        self._score: Score | None = None
        if trainer.train_accuracy == "running":
            self._score = Score(trainer.metric, self._order, run.y, run.batch_size)
        self._ledger = Ledger(run, trainer.criterion.summed, display.step, self._blame)
        self._rate_of: Callable[[int], float] | None = None  # of a step, where it differs from step to step
        schedule, epoch = trainer.schedule, run.position.epoch
        if schedule is not None and trainer.schedule_per == "epoch":
            optimizer.lr = schedule(epoch)
        elif schedule is not None:
            self._rate_of = lambda number: schedule(epoch * run.steps + number)

    def train(self) -> bool:
        """Take the steps from where the run stands; False if it had to stop before the last."""
        run, at, recorded = self._run, self._run.position, self._recorded
        while at.step < run.steps and not self._ctrl_c.pressed:
            whole = recorded is not None and at.step < recorded.steps  # the next batch is
            if recorded is not None and whole and recorded.ready(self._step.gradients):
                good = self._replay(recorded)
            else:
                good = self._take(at.step + 1 if whole else run.steps)
            if not good:
                return False
            if self._score is not None:
                at.score_sum += self._score.take()
        return at.step == run.steps

    def _take(self, end: int) -> bool:
        """Ordinary steps up to number `end`; False if a loss was not finite."""
        run, optimizer, score, take = self._run, self._optimizer, self._score, self._step.take
        at, batch_size, examples, ctrl_c = run.position, run.batch_size, run.examples, self._ctrl_c
        note, rate_of = self._ledger.note, self._rate_of
        x, y, order, every = run.x, run.y, self._order, Score.STEPS
        for number in range(at.step, end):
            start = number * batch_size
            stop = min(start + batch_size, examples)
            if rate_of is not None:
                optimizer.lr = rate_of(number)
            if order is None:
                inputs, targets = x.slice(start, stop), y.slice(start, stop)
            else:
                rows = order[start:stop]
                inputs, targets = x.take(rows), y.take(rows)
            output, loss, penalty = take(inputs, targets)
            if not note(loss, penalty, stop - start):
                return False
            if score is not None:
                score.add(output, start, stop)
                if (number + 1) % every == 0:
                    at.score_sum += score.take()
            if ctrl_c.pressed:
                break
        return self._ledger.settle()

    def _replay(self, recorded: RecordedSteps) -> bool:
        """Recorded steps from where the run stands; False if a loss was not finite."""
        at, size = self._run.position, self._run.batch_size
        taken = recorded.take(
            self._step.gradients, self._order, at.step, self._rate_of, lambda: self._ctrl_c.pressed
        )
        for losses, outputs in taken:
            if not self._ledger.enter(losses, np.full(len(losses), size)):
                return False
            if self._score is not None and outputs is not None:
                stop = at.step * size
                at.score_sum += self._score.total(outputs, stop - len(outputs), stop)
        return True

    def _blame(self, loss: float, number: int) -> str:
        """The diagnosis of a loss that is not finite, at step `number`."""
        run, begin = self._run, number * self._run.batch_size
        end = min(begin + run.batch_size, run.examples)
        x, order = run.x, self._order
        inputs = x.slice(begin, end) if order is None else x.take(order[begin:end])
        rate = self._optimizer.lr if self._rate_of is None else self._rate_of(number)
        first_loss = run.history.step_loss[0]
        return diagnosis.not_finite(loss, run.position.epoch + 1, number + 1, rate, inputs, first_loss)


def _order(run: Run) -> Any:
    """Which examples the epoch visits, in their order, on their device; None: all, as they lie."""
    if run.shuffle_seed is None:
        return None
    epoch, examples = run.position.epoch, len(run.x)
    if run.draws is not None:
        return run.y.backend.asarray(drawn(run.shuffle_seed, epoch, examples, run.examples))
    if run.steps == 1:  # a full batch has no order to be copied into
        return None
    return run.y.backend.asarray(permutation(run.shuffle_seed, epoch, examples))
