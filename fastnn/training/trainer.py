"""The training loop: epochs of shuffled mini-batches, validation after each, checkpoints, and a clean stop.

The step itself is the public one: its gradients are spelled out in ``gradients.py``, the steps of an epoch in
``epoch.py``. What happens once a step besides is kept to a few Python operations, since the step of a small
network takes well under 0.1 ms.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastnn import backend as _backend
from fastnn import metrics
from fastnn.losses import l2_penalty
from fastnn.training import diagnosis
from fastnn.training.epoch import Epoch
from fastnn.training.evaluation import Criterion, outputs
from fastnn.training.feed import Rows, examples_of
from fastnn.training.history import History
from fastnn.training.interrupt import CtrlC
from fastnn.training.progress import Silent, display_for
from fastnn.training.recorded import RecordedSteps, recorded_steps
from fastnn.training.run import Run
from fastnn.training.step import TrainingStep


class Trainer:
    """Train a model on arrays.

    Parameters
    ----------
    model : Layer
        Usually a :class:`fastnn.Sequential`.
    loss : object or callable
        An object with ``forward(output, targets) -> float`` and ``backward() -> grad`` (see
        :mod:`fastnn.losses`), or a function ``(output, targets) -> (loss, grad)`` that takes the mean over
        the batch, such as :func:`fastnn.functional.softmax_cross_entropy`.
    optimizer : Optimizer
        Over the model's parameters.
    schedule : callable, optional
        ``schedule(t) -> lr``; see :mod:`fastnn.schedules`. Without it the optimiser's own rate stays.
    schedule_per : {"epoch", "step"}
        What `t` counts, from 0.
    l2 : float
        Adds ``l2 * sum(W**2)`` to the loss and ``2 * l2 * W`` to the gradient of every parameter of two or
        more dimensions (weights, not biases).
    metric : callable
        ``metric(output, targets) -> float``, a mean over examples.
    progress : bool or callable
        True: a bar inside each epoch (on a terminal) and a line after it. A function: called with each
        epoch's record.
    early_stop : int, optional
        Stop after so many epochs in a row without a lower validation loss (training loss without validation
        data).
    restore_best : bool
        When training ends, however it ends, put back the weights of the epoch with the lowest such loss.
    checkpoint : path, optional
        Where to keep the state of the run; see :meth:`fit` for going on from it.
    checkpoint_every : float
        Seconds that must pass between two checkpoints written at the ends of epochs. One is always written at
        the end.
    seed : int, optional
        Of the shuffles; drawn from :func:`fastnn.backend.rng`, and so fixed by :func:`fastnn.seed`, if not
        given.
    train_accuracy : {"running", "full"}
        The training loss and accuracy of an epoch's record. "running": the mean over the epoch's batches
        while the weights change (and dropout drops), which costs next to nothing. "full": measured over the
        training set after the epoch, as validation is, for the price of one more forward pass.
    capture : bool, optional
        On a GPU, record a step as a CUDA graph and replay it, which costs one launch in place of dozens; the
        weights are the same, bit for bit. None: where the step is made of this package's own layers, losses
        and optimisers, since a replay repeats kernels and not Python. True: an error where it is not. False:
        never.
    """

    def __init__(
        self,
        model: Any,
        loss: Any,
        optimizer: Any,
        *,
        schedule: Callable[[int], float] | None = None,
        schedule_per: str = "epoch",
        l2: float = 0.0,
        metric: Callable[[Any, Any], float] = metrics.accuracy,
        progress: bool | Callable[[dict[str, Any]], Any] = True,
        early_stop: int | None = None,
        restore_best: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float = 0.0,
        seed: int | None = None,
        train_accuracy: str = "running",
        capture: bool | None = None,
    ) -> None:
        if schedule_per not in ("epoch", "step"):
            raise ValueError(f'schedule_per must be "epoch" or "step", got {schedule_per!r}')
        if train_accuracy not in ("running", "full"):
            raise ValueError(f'train_accuracy must be "running" or "full", got {train_accuracy!r}')
        if early_stop is not None and early_stop < 1:
            raise ValueError(f"early_stop must be at least 1 epoch, got {early_stop}")
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.schedule_per = schedule_per
        self.l2 = l2
        self.metric = metric
        self.progress = progress
        self.early_stop = early_stop
        self.restore_best = restore_best
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.checkpoint_every = checkpoint_every
        self.seed = seed
        self.train_accuracy = train_accuracy
        self.capture = capture
        self.criterion = Criterion(loss, metric)
        self._step: TrainingStep | None = None

    def fit(
        self,
        x: Any,
        y: Any,
        epochs: int,
        batch_size: int,
        validation: tuple[Any, Any] | None = None,
        shuffle: bool = True,
        resume: bool = False,
        draws: int | None = None,
    ) -> History:
        """Train for `epochs` passes over the data.

        Ctrl-C ends the run after the step in hand: fit returns as usual, with ``history.interrupted`` True
        and a checkpoint of that very step written. A second Ctrl-C does not wait for the step. On a GPU the
        host works ahead of the device, captured steps for a quarter of a second: so much later it sees a loss
        that is not finite, and the steps after that one have been taken.

        Parameters
        ----------
        x : array (N, ...), float32 or float64
        y : array (N,) of int labels, or (N, K)
        epochs : int
            Counted from the start of the run, not from where it is resumed.
        batch_size : int
            The last batch of an epoch is smaller where it does not divide N.
        validation : (x, y), optional
        shuffle : bool
            Visit the examples in a new order each epoch.
        resume : bool
            Go on from the checkpoint, to the same weights, bit for bit, as a run that was never stopped; from
            the start where there is no checkpoint yet.
        draws : int, optional
            An epoch is so many batches, each drawn from all examples with replacement, in place of one pass
            over them.

        Returns
        -------
        History
            Of the whole run, from its first epoch.

        Raises
        ------
        ValueError
            Lengths of `x` and `y` differ, there is nothing to train on, a number is out of range, or
            `capture` is True and the steps cannot be captured.
        CheckpointError
            The checkpoint is damaged or belongs to a run with other data, batch size or model.
        """
        if batch_size < 1 or epochs < 0:
            raise ValueError(f"batch_size must be >= 1 and epochs >= 0, got {batch_size} and {epochs}")
        if draws is not None and (draws < 1 or not shuffle):
            raise ValueError(f"draws must be >= 1 and go with shuffle=True, got {draws} and {shuffle}")
        if resume and self.checkpoint is None:
            raise ValueError("resume=True needs a Trainer with a checkpoint path")
        data = examples_of(x, y)
        examples = len(data[0])
        if examples == 0:
            raise ValueError("there are no examples to train on")
        shuffle_seed = None
        if shuffle:
            shuffle_seed = int(_backend.rng().integers(2**63)) if self.seed is None else self.seed
        validating = None if validation is None else examples_of(*validation)
        display = display_for(self.progress)
        run = Run(*data, validating, epochs, min(batch_size, examples), shuffle_seed, draws)
        if resume and self.checkpoint is not None and self.checkpoint.exists():
            run.resume(self.checkpoint, self.model, self.optimizer)
            display.say(f"resumed from {self.checkpoint} in epoch {run.position.epoch + 1}")
        history = run.history
        running = self.train_accuracy == "running"
        recorded = recorded_steps(
            self.capture, run, self.model, self.criterion.loss, self.optimizer, keep_outputs=running
        )
        with CtrlC() as ctrl_c:
            try:
                self._epochs(run, display, ctrl_c, recorded)
            except KeyboardInterrupt:  # it broke into a step: no state to go on from, so no checkpoint
                history.interrupted = True
            finally:
                display.close()
        if history.diagnosis is not None:
            display.say(history.diagnosis)
        if history.interrupted:
            at = run.position
            display.say(f"interrupted in epoch {at.epoch + 1} after step {at.step} of {run.steps}")
        if self.restore_best and run.best is not None:
            self.model.load_state_dict(run.best)
        return history

    def evaluate(self, x: Any, y: Any, batch_size: int | None = None) -> tuple[float, float]:
        """The loss per example (L2 penalty included) and the metric over a data set, in inference mode."""
        return self._evaluate(examples_of(x, y), batch_size)

    def outputs(self, x: Any, batch_size: int | None = None) -> Any:
        """What the model makes of each row of `x`, in inference mode: logits, for a classifier."""
        return outputs(self.model, Rows(_backend.backend_of(x), x), batch_size)

    def _epochs(self, run: Run, display: Silent, ctrl_c: CtrlC, recorded: RecordedSteps | None) -> None:
        history, at = run.history, run.position
        while at.epoch < run.epochs and not ctrl_c.pressed:
            if self.early_stop is not None and at.epochs_since_best >= self.early_stop:
                history.stopped_early = True
                break
            display.begin(at.epoch + 1, run.epochs, run.examples, at.step * run.batch_size)
            made_of = self.model, self.criterion.loss, self.optimizer, self.l2
            if self._step is None or not self._step.is_of(*made_of):
                self._step = TrainingStep(*made_of[:3], l2=self.l2)
            started = time.perf_counter() - at.seconds
            complete = Epoch(self, run, display, ctrl_c, self._step, recorded).train()
            at.seconds = time.perf_counter() - started
            if not complete:
                break
            record = self._record(run, started)
            display.end(record, run.epochs)
            at.epoch, at.step, at.loss_sum, at.score_sum, at.seconds = at.epoch + 1, 0, 0.0, 0.0, 0.0
            if history.diagnosis is not None:
                break
            if self.checkpoint is not None and time.monotonic() - run.saved_at >= self.checkpoint_every:
                run.save(self.checkpoint, self.model, self.optimizer)
        if history.diagnosis is not None:
            return  # a checkpoint of broken weights is of no use; the last good one stays
        if at.epoch < run.epochs and not history.stopped_early:
            history.interrupted = True
        elif self.metric is metrics.accuracy and history.epochs:
            history.diagnosis = diagnosis.stuck_at_chance(
                history.epochs[-1]["accuracy"],
                run.y.backend.to_numpy(run.y.array),
                history.step_loss,
                history.epochs[0]["lr"],
            )
        if self.checkpoint is not None:
            run.save(self.checkpoint, self.model, self.optimizer)

    def _record(self, run: Run, started: float) -> dict[str, Any]:
        """Evaluate after the epoch just trained, note it in the history and keep the best weights."""
        at, examples, history = run.position, run.examples, run.history
        trained = time.perf_counter() - started
        if self.train_accuracy == "full":
            loss, accuracy = self._evaluate((run.x, run.y))
        else:
            loss, accuracy = at.loss_sum / examples, at.score_sum / examples
        val_loss, val_accuracy = (None, None) if run.validation is None else self._evaluate(run.validation)
        watched = loss if val_loss is None else val_loss
        if watched < at.best_loss:
            at.best_loss, at.epochs_since_best, history.best_epoch = watched, 0, at.epoch + 1
            if self.restore_best:
                run.best = self.model.state_dict()
        else:
            at.epochs_since_best += 1
        if not math.isfinite(watched):
            history.diagnosis = diagnosis.not_finite(
                watched, at.epoch + 1, run.steps, self.optimizer.lr, run.x.array, history.step_loss[0]
            )
        record = {
            "epoch": at.epoch + 1,
            "steps": (at.epoch + 1) * run.steps,
            "loss": loss,
            "accuracy": accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "lr": self.optimizer.lr,
            "seconds": time.perf_counter() - started,
            "examples_per_second": examples / trained,
        }
        history.epochs.append(record)
        return record

    def _evaluate(self, data: tuple[Rows, Rows], batch_size: int | None = None) -> tuple[float, float]:
        loss, score = self.criterion.evaluate(self.model, *data, batch_size)
        return (loss + l2_penalty(self.model.parameters(), self.l2) if self.l2 else loss), score
