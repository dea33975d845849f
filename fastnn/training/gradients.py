"""What a training step computes before its update: the output, the loss, and every parameter's gradient."""

from __future__ import annotations

from typing import Any

from fastnn import functional, losses, optim
from fastnn.backend import backend_of
from fastnn.training.evaluation import Criterion

_LOSSES = (losses.SoftmaxCrossEntropy, losses.SigmoidCrossEntropy, losses.MSE)
_FUNCTIONS = (functional.softmax_cross_entropy, functional.sigmoid_cross_entropy, functional.mse)
_OPTIMISERS = (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop)


def why_foreign(loss: Any, optimizer: Any) -> str | None:
    """Which of them is not this package's own, or None: what another class does in Python, no step that is
    repeated without Python would do again."""
    if type(loss) not in _LOSSES and not any(loss is function for function in _FUNCTIONS):
        return f"the loss, {getattr(loss, '__name__', type(loss).__name__)}, is none of fastnn's own"
    if type(optimizer) not in _OPTIMISERS:
        return f"{type(optimizer).__name__} is no optimiser of fastnn's own"
    return None


class Penalty:
    """``factor * sum(W**2)`` over the parameters of two or more dimensions."""

    def __init__(self, parameters: list[Any], factor: float) -> None:
        weights = [p for p in parameters if p.data.ndim >= 2]
        self._factor = factor
        self._update = backend_of(weights[0].data if weights else None).update
        self._table = self._update.bind([p.data for p in weights], [p.grad for p in weights])

    def add(self) -> Any:
        """Add the penalty's gradient to the parameters'; the penalty itself, as a loss is returned."""
        return self._update.l2_penalty(self._table, self._factor)


class Gradients:
    """The public step, spelled out, up to its ``optimizer.step()``.

    Parameters
    ----------
    model, criterion, l2
        See below.
    forward, backward : callable, optional
        In the place of the model's own.

    Attributes
    ----------
    model : Layer
    criterion : Criterion
    l2 : float
        The factor of the penalty.
    compute : callable
        ``compute(inputs, targets)`` fills the gradients and returns output, loss and penalty (None without
        one); on a GPU they stay there.
    """

    def __init__(
        self, model: Any, criterion: Criterion, l2: float, *, forward: Any = None, backward: Any = None
    ) -> None:
        self.model, self.criterion, self.l2 = model, criterion, l2
        forward, backward = forward or model.forward, backward or model.backward
        loss_and_grad = criterion.loss_and_grad
        add_penalty = Penalty(model.parameters(), l2).add if l2 else None

        def compute(inputs: Any, targets: Any) -> tuple[Any, Any, Any]:
            output = forward(inputs, training=True)
            loss, grad = loss_and_grad(output, targets)
            backward(grad, input_grad=False)
            return output, loss, None if add_penalty is None else add_penalty()

        self.compute = compute
