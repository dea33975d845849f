"""Dropout as a layer."""

from __future__ import annotations

from typing import Any

from fastnn import functional as F
from fastnn.backend import next_stream
from fastnn.layers.base import PassThrough


class Dropout(PassThrough):
    """In training zero each element with probability `p` and scale the others up; at inference nothing.

    See :func:`fastnn.functional.dropout`. Each training forward takes a stream of random numbers that
    :func:`fastnn.seed` fixes.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p must be a probability, 0 ... 1, got {p}")
        self.p = p

    def pass_on(self, x: Any, training: bool) -> Any:
        if not training:
            self._saved = None
            return x
        self._saved = stream = next_stream()
        return F.dropout(x, self.p, *stream)

    def pass_back(self, grad: Any) -> Any:
        stream = self._saved
        if stream is None:
            raise self._no_forward()
        return F.dropout_backward(grad, self.p, *stream)

    def __repr__(self) -> str:
        return f"Dropout({self.p})"
