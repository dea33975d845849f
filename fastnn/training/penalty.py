"""The L2 penalty as an addition to the loss: its value each step, and its gradient."""

from __future__ import annotations

from typing import Any

from fastnn.backend import backend_of


class Penalty:
    """``factor * sum(W**2)`` over the parameters of two or more dimensions, its gradient added in place."""

    def __init__(self, parameters: list[Any], factor: float) -> None:
        self._factor = factor
        weights = [p for p in parameters if p.data.ndim >= 2]
        # Views in memory order: the sum of squares does not ask for rows and columns, and one dimension is
        # fastest.
        self._flat = [(p.data.ravel(order="K"), p.grad.ravel(order="K")) for p in weights]
        self._scratch: list[Any] = []
        self._xp = backend_of(weights[0].data if weights else None).xp

    def value(self) -> float:
        # Not dot(): its threads, awake for milliseconds after each call, would take the cores from the
        # kernels' own.
        return self._factor * sum(float(self._xp.einsum("i,i->", data, data)) for data, _ in self._flat)

    def add_gradient(self) -> None:
        if not self._scratch:
            self._scratch = [self._xp.empty_like(data) for data, _ in self._flat]
        for (data, grad), scratch in zip(self._flat, self._scratch, strict=True):
            self._xp.multiply(data, 2 * self._factor, out=scratch)
            self._xp.add(grad, scratch, out=grad)
