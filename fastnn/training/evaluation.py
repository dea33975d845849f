"""What a model makes of a data set in inference mode: its loss, its metric, its outputs, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastnn.training.feed import Rows

BATCH = 250  # enough to keep the kernels busy, few enough for a convolution's output to stay in the cache
_GPU_BATCH = 2000  # a GPU waits for the host at the end of each


class Criterion:
    """A loss, object or function, and a metric, as the trainer uses them.

    Attributes
    ----------
    loss : object or callable
        As it was given.
    loss_and_grad : callable
        ``(output, targets) -> (loss, grad)``.
    summed : bool
        The loss is a sum over the examples of a batch, not a mean.
    """

    def __init__(self, loss: Any, metric: Callable[[Any, Any], float]) -> None:
        self.loss, self.metric = loss, metric
        self.summed = getattr(loss, "reduction", "mean") == "sum"
        if hasattr(loss, "forward") and hasattr(loss, "backward"):
            forward, backward = loss.forward, loss.backward
            self.loss_and_grad = lambda output, targets: (forward(output, targets), backward())
        elif callable(loss):
            self.loss_and_grad = loss
        else:
            raise TypeError(
                f"loss must have forward and backward, or be a function, got {type(loss).__name__}"
            )

    def evaluate(self, model: Any, x: Rows, y: Rows, batch_size: int | None = None) -> tuple[float, float]:
        """Loss per example and metric; NaN for no examples."""
        batch_size = batch_size or default_batch(x)
        examples = len(x)
        if examples == 0:
            return math.nan, math.nan
        loss_sum = score_sum = 0.0
        for start in range(0, examples, batch_size):
            stop = min(start + batch_size, examples)
            targets = y.slice(start, stop)
            output = model.forward(x.slice(start, stop), training=False)
            loss, _ = self.loss_and_grad(output, targets)
            loss_sum += float(loss) if self.summed else float(loss) * (stop - start)
            score_sum += float(self.metric(output, targets)) * (stop - start)
        return loss_sum / examples, score_sum / examples


def default_batch(x: Rows) -> int:
    """How many rows to evaluate at a time."""
    return _GPU_BATCH if x.backend.room == "cuda" else BATCH


def outputs(model: Any, x: Rows, batch_size: int | None = None) -> Any:
    """The model's outputs for all rows, one array."""
    batch_size = batch_size or default_batch(x)
    starts = range(0, max(1, len(x)), batch_size)
    parts = [model.forward(x.slice(i, i + batch_size), training=False) for i in starts]
    return x.backend.xp.concatenate(parts)
