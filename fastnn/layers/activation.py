"""Activations as layers. Those with a name in `fused_as` can be computed in the same pass as the Linear or
Conv2d before them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn import functional as F
from fastnn.layers.base import Layer


class FromOutput(Layer):
    """An activation whose derivative can be had from its output alone, which is all it keeps."""

    #: The name under which F.linear and F.conv2d know it.
    fused_as: str
    _function: Callable[[Any], Any]
    _derivative: Callable[[Any, Any], Any]

    def forward(self, x: Any, training: bool = False) -> Any:
        out = self._function(x)
        self._saved = out if training else None
        return out

    def backward(self, grad: Any, input_grad: bool = True) -> Any:
        out = self._saved
        if out is None:
            raise self._no_forward()
        return self._derivative(grad, out) if input_grad else None


class ReLU(FromOutput):
    """``max(x, 0)``: see :func:`fastnn.functional.relu`."""

    fused_as = "relu"
    _function = staticmethod(F.relu)
    _derivative = staticmethod(F.relu_backward)


class Sigmoid(FromOutput):
    """``1 / (1 + exp(−x))``: see :func:`fastnn.functional.sigmoid`."""

    fused_as = "sigmoid"
    _function = staticmethod(F.sigmoid)
    _derivative = staticmethod(F.sigmoid_backward)


class Tanh(FromOutput):
    """Hyperbolic tangent: see :func:`fastnn.functional.tanh`."""

    fused_as = "tanh"
    _function = staticmethod(F.tanh)
    _derivative = staticmethod(F.tanh_backward)


class LeakyReLU(Layer):
    """``x`` where positive, else ``negative_slope · x``: see :func:`fastnn.functional.leaky_relu`."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Any, training: bool = False) -> Any:
        self._saved = x if training else None
        return F.leaky_relu(x, self.negative_slope)

    def backward(self, grad: Any, input_grad: bool = True) -> Any:
        x = self._saved
        if x is None:
            raise self._no_forward()
        return F.leaky_relu_backward(grad, x, self.negative_slope) if input_grad else None

    def __repr__(self) -> str:
        return f"LeakyReLU({self.negative_slope})"


class GELU(Layer):
    """``x · Φ(x)``, or with approximate="tanh" its tanh form: see :func:`fastnn.functional.gelu`."""

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f'approximate must be "none" or "tanh", got {approximate!r}')
        self.approximate = approximate

    def forward(self, x: Any, training: bool = False) -> Any:
        self._saved = x if training else None
        return F.gelu(x, self.approximate)

    def backward(self, grad: Any, input_grad: bool = True) -> Any:
        x = self._saved
        if x is None:
            raise self._no_forward()
        return F.gelu_backward(grad, x, self.approximate) if input_grad else None

    def __repr__(self) -> str:
        return f"GELU({self.approximate!r})"


class Softmax(Layer):
    """Probabilities along `axis`: see :func:`fastnn.functional.softmax`.

    Not before :class:`fastnn.losses.SoftmaxCrossEntropy`, which takes logits.
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any, training: bool = False) -> Any:
        out = F.softmax(x, self.axis)
        self._saved = out if training else None
        return out

    def backward(self, grad: Any, input_grad: bool = True) -> Any:
        out = self._saved
        if out is None:
            raise self._no_forward()
        return F.softmax_backward(grad, out, self.axis) if input_grad else None

    def __repr__(self) -> str:
        return f"Softmax(axis={self.axis})"
