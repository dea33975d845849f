"""The losses of :mod:`fastnn.functional` as objects: ``loss = obj.forward(output, targets)``, then ``grad =
obj.backward()``.

A loss and its gradient come out of one kernel call; the object keeps the gradient until it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastnn import functional as F

REDUCTIONS = ("mean", "batchmean", "sum")


class Loss:
    """What the losses share: a reduction, checked here, and the gradient of the last forward."""

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}, got {reduction!r}"
            )
        self.reduction = reduction
        self._grad: Any = None

    def forward(self, output: Any, targets: Any) -> float:
        raise NotImplementedError

    def __call__(self, output: Any, targets: Any) -> float:
        return self.forward(output, targets)

    def backward(self) -> Any:
        """The gradient of the last :meth:`forward` with respect to its first argument.

        Raises
        ------
        RuntimeError
            There was none.
        """
        if self._grad is None:
            raise RuntimeError(f"{type(self).__name__}.backward() needs a forward(output, targets) before it")
        return self._grad

    def __repr__(self) -> str:
        return f"{type(self).__name__}(reduction={self.reduction!r})"


class SoftmaxCrossEntropy(Loss):
    """See :func:`fastnn.functional.softmax_cross_entropy`: logits (N, K), targets labels (N,) or
    probabilities (N, K).
    """

    def forward(self, output: Any, targets: Any) -> float:
        loss, self._grad = F.softmax_cross_entropy(output, targets, reduction=self.reduction)
        return loss


class SigmoidCrossEntropy(Loss):
    """See :func:`fastnn.functional.sigmoid_cross_entropy`: logits and targets of one shape."""

    def forward(self, output: Any, targets: Any) -> float:
        loss, self._grad = F.sigmoid_cross_entropy(output, targets, reduction=self.reduction)
        return loss


class MSE(Loss):
    """See :func:`fastnn.functional.mse`: ``factor`` times the squared error; prediction and target of one
    shape.
    """

    def __init__(self, reduction: str = "mean", factor: float = 1.0) -> None:
        super().__init__(reduction)
        self.factor = factor

    def forward(self, output: Any, targets: Any) -> float:
        loss, self._grad = F.mse(output, targets, reduction=self.reduction, factor=self.factor)
        return loss

    def __repr__(self) -> str:
        return f"MSE(reduction={self.reduction!r}, factor={self.factor!r})"


def l2_penalty(params: Iterable[Any], factor: float) -> float:
    """``factor · Σ W²`` over the parameters of two or more dimensions: weights, not biases.

    Its gradient is ``2 · factor · W``; weight decay of an optimiser at ``2 · factor`` adds just that.
    """
    return factor * sum(float((p.data * p.data).sum()) for p in params if p.data.ndim >= 2)


def as_function(loss: Any) -> Callable[[Any, Any], tuple[float, Any]]:
    """`loss`, an object with forward and backward or a function, as a function ``(output, targets) -> (loss,
    grad)``.

    Raises
    ------
    TypeError
        It is neither.
    """
    if hasattr(loss, "forward") and hasattr(loss, "backward") and not isinstance(loss, type):
        return lambda output, targets: (loss.forward(output, targets), loss.backward())
    if not callable(loss) or isinstance(loss, type):
        raise TypeError(f"a loss has forward and backward, or is a function, got {loss!r}")
    return loss
