"""A training step as one call: ``loss = step(x, y)``.

On the numba backend the whole of it (forward, loss, backward, update) becomes one native call, see
``repeated.py``: what Python does between the kernels of a small network takes as long as the kernels.
"""

from __future__ import annotations

import math
import operator
from typing import Any

from fastnn import metrics
from fastnn.backend import is_device_array
from fastnn.training.evaluation import Criterion
from fastnn.training.gradients import Gradients
from fastnn.training.repeated import Repeated


class TrainingStep:
    """Forward, loss, backward and update in one call, over and over.

    >>> step = TrainingStep(net, F.softmax_cross_entropy, optim.SGD(net.parameters(), lr=0.1))
    >>> for x, y in batches: loss = step(x, y)

    It is what these four lines do, to the last bit, and all of them may be mixed with it at will::

        loss, grad = F.softmax_cross_entropy(net.forward(x, training=True), y)
        net.backward(grad, input_grad=False)
        optimizer.step()

    Parameters
    ----------
    model : Layer
    loss : object or callable
        As :class:`~fastnn.training.Trainer` takes it.
    optimizer : Optimizer
    l2 : float
        ``l2 · Σ W²`` over weights (not biases) is added to the loss, its gradient to theirs.

    Attributes
    ----------
    output : array
        What the model made of the last batch. The next call may overwrite it.

    Notes
    -----
    The third time that it meets batches of some shape, on the numba backend, the calls of kernels are
    recorded; from then on one native call makes all of them. That holds for a ``Sequential`` of dense,
    convolutional, pooling, activation, flatten and dropout layers, the three losses of
    :mod:`fastnn.functional` (labels of int64, where there are labels) and the optimisers of
    :mod:`fastnn.optim`. Everything else is done step by step, as ever; so is a step after which somebody
    has changed options or replaced parameters, until it has been recorded anew.
    """

    def __init__(self, model: Any, loss: Any, optimizer: Any, *, l2: float = 0.0) -> None:
        self._made_of = model, loss, optimizer, l2
        self._optimizer = optimizer
        self.gradients = Gradients(model, Criterion(loss, metrics.accuracy), l2)
        self._repeated = Repeated.of(self.gradients, optimizer)
        self.output: Any = None

    def __call__(self, x: Any, y: Any) -> float:
        """Take a step on a batch.

        Parameters
        ----------
        x, y : array
            What `model` takes, and the targets that `loss` takes.

        Returns
        -------
        float
            The loss, the penalty of `l2` included, before the update. Where it is not finite nothing is
            updated (on a GPU, where looking at it would stop the device, the update has been made).
        """
        self.output, loss, penalty = self.take(x, y)
        return float(loss) if penalty is None else float(loss) + float(penalty)

    def take(self, x: Any, y: Any) -> tuple[Any, Any, Any]:
        """The same; output, loss and penalty (None without `l2`). On a GPU these stay there."""
        if self._repeated is not None:
            done = self._repeated.take(x, y)
            if done is not None:
                return done
        done = _, loss, penalty = self.gradients.compute(x, y)
        if is_device_array(loss) or math.isfinite(loss + (penalty or 0.0)):
            self._optimizer.step()
        return done

    def is_of(self, model: Any, loss: Any, optimizer: Any, l2: float) -> bool:
        """Whether these are what it was made of."""
        return all(map(operator.is_, self._made_of, (model, loss, optimizer, l2)))

    def __reduce__(self) -> Any:
        # What is recorded holds addresses, which mean other arrays in a copy.
        model, loss, optimizer, l2 = self._made_of
        return _restore, (model, loss, optimizer, l2)


def _restore(model: Any, loss: Any, optimizer: Any, l2: float) -> TrainingStep:
    return TrainingStep(model, loss, optimizer, l2=l2)
