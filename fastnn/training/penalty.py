"""The L2 penalty as an addition to the loss: its value each step, and its gradient."""

from __future__ import annotations

from typing import Any


class Penalty:
    """``factor * sum(W**2)`` over the parameters of two or more dimensions, read and added to gradients in
    place.
    """

    def __init__(self, parameters: list[Any], factor: float) -> None:
        self._factor = factor
        weights = [p for p in parameters if p.data.ndim >= 2]
        # Views in memory order: a sum of squares does not ask for rows and columns, and one dimension is
        # fastest.
        self._flat = [(p.data.ravel(order="K"), p.grad.ravel(order="K")) for p in weights]

    def value(self) -> float:
        return self._factor * sum(float(data.dot(data)) for data, _ in self._flat)

    def add_gradient(self) -> None:
        for data, grad in self._flat:
            grad += data * (2 * self._factor)
