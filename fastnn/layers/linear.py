"""The fully connected layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn.init import Initializer
from fastnn.layers.base import Layer, misplaced
from fastnn.layers.parameter import new_parameter


class Linear(Layer):
    """``x W + b``.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    init : str or function
        How the weight is drawn: a name or a function of :mod:`fastnn.init`. With the default the bias is
        drawn likewise, as in torch; with any other it starts at 0.
    dtype : float32 or float64

    Attributes
    ----------
    in_features, out_features : int
    weight : Parameter (in_features, out_features)
    bias : Parameter (out_features,) or None
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        init: str | Initializer = "fan_in_uniform",
        dtype: Any = np.float32,
    ) -> None:
        if in_features < 1 or out_features < 1:
            raise ValueError(
                f"Linear needs at least one feature in and out, got {in_features} and {out_features}"
            )
        self.in_features, self.out_features = fans = in_features, out_features
        self.weight = new_parameter("weight", init, fans, *fans, dtype)
        bias_init = init if init == "fan_in_uniform" else "zeros"
        self.bias = new_parameter("bias", bias_init, (out_features,), *fans, dtype) if bias else None

    def forward(self, x: Any, training: bool = False) -> Any:
        """(N, in_features) to (N, out_features)."""
        return self.forward_with(x, training, None)

    def forward_with(self, x: Any, training: bool, activation: str | None) -> Any:
        """:meth:`forward` and the activation of that name in one pass; that layer's backward comes before
        this one's.
        """
        weight, bias = self.weight._data, self.bias
        if type(x) is not type(weight):
            x = self._here(x, weight)
        out = F.linear(x, weight, None if bias is None else bias._data, activation=activation)
        if type(out) is not type(weight):
            raise misplaced(self, weight)
        self._saved = x if training else None
        return out

    def backward(self, grad: Any, input_grad: bool = True) -> Any:
        x = self._saved
        if x is None:
            raise self._no_forward()
        weight, bias = self.weight, self.bias
        out = weight._grad, None if bias is None else bias._grad
        return F.linear_backward(grad, x, weight._data, input_grad=input_grad, out=out)[0]

    def __repr__(self) -> str:
        return f"Linear({self.in_features}, {self.out_features}{'' if self.bias else ', bias=False'})"
