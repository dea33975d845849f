"""Batch normalisation layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn.backend import get_backend
from fastnn.functional._check import bad_shapes
from fastnn.layers.base import Layer, misplaced
from fastnn.layers.parameter import new_parameter


class _BatchNorm(Layer):
    """Batch normalisation: see :func:`fastnn.functional.batch_norm`.

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float
        Added to the variance.
    momentum : float
        Weight of a batch in the running statistics, which serve at inference.
    dtype : float32 or float64

    Attributes
    ----------
    weight, bias : Parameter (num_features,)
        Start at 1 and 0.
    running_mean, running_var : array (num_features,)
    """

    buffers = ("running_mean", "running_var")
    _ndim: int

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, *, dtype: Any = np.float32
    ) -> None:
        if num_features < 1:
            raise ValueError(f"num_features must be at least 1, got {num_features}")
        shape = (num_features,)
        self.eps = eps
        self.momentum = momentum
        self.weight = new_parameter("weight", "zeros", shape, num_features, num_features, dtype)
        self.weight.data[...] = 1
        self.bias = new_parameter("bias", "zeros", shape, num_features, num_features, dtype)
        xp = get_backend().xp
        self.running_mean, self.running_var = xp.zeros(shape, dtype), xp.ones(shape, dtype)

    def forward(self, x: Any, training: bool = False) -> Any:
        weight = self.weight._data
        if type(x) is not type(weight):
            x = self._here(x, weight)
        if getattr(x, "ndim", self._ndim) != self._ndim:
            bad_shapes(type(self).__name__, "(N, C)" if self._ndim == 2 else "(N, C, H, W)", x=x)
        out, mean, inv_std = F.batch_norm(
            x,
            weight,
            self.bias._data,
            self.running_mean,
            self.running_var,
            training=training,
            momentum=self.momentum,
            eps=self.eps,
        )
        if type(out) is not type(weight):
            raise misplaced(self, weight)
        self._saved = (x, mean, inv_std) if training else None
        return out

    def backward(self, grad: Any, input_grad: bool = True) -> Any:
        if self._saved is None:
            raise self._no_forward()
        x, mean, inv_std = self._saved
        weight, out = self.weight._data, (self.weight._grad, self.bias._grad)
        return F.batch_norm_backward(
            grad, x, weight, mean, inv_std, training=True, input_grad=input_grad, out=out
        )[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.weight.data.shape[0]})"


class BatchNorm1d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__ + "\n    For (N, C)."  # type: ignore[operator]
    _ndim = 2


class BatchNorm2d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__ + "\n    For (N, C, H, W): statistics are over the batch and the pixels."  # type: ignore[operator]
    _ndim = 4
