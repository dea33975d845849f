"""The L2 penalty as an addition to the loss: its value each step, and its gradient."""

from __future__ import annotations

from typing import Any

from fastnn.backend import backend_of


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
