"""Layers that only arrange."""

from __future__ import annotations

from math import prod
from typing import Any

from fastnn.functional._check import bad_shapes, place
from fastnn.layers.base import PassThrough


class Flatten(PassThrough):
    """(N, ...) to (N, features); of images the order is C, H, W, however they lie in memory."""

    def pass_on(self, x: Any, training: bool) -> Any:
        backend, (x,) = place(("x",), x)
        if x.ndim < 1:
            bad_shapes("Flatten", "(N, ...)", x=x)
        self._saved = x.shape if training else None
        return backend.linear.flatten(x)

    def pass_back(self, grad: Any) -> Any:
        shape = self._saved
        if shape is None:
            raise self._no_forward()
        _, (grad,) = place(("grad",), grad)
        if grad.shape != (shape[0], prod(shape[1:])):
            bad_shapes("Flatten.backward", f"grad {(shape[0], prod(shape[1:]))}", grad=grad)
        return grad.reshape(shape)
