"""Arrays in, arrays out: every operation as a function, forward and backward.

>>> import fastnn.functional as F
>>> hidden = F.linear(x, weight, bias, activation="relu")

The rules, for all of them:

* Arrays are float32 or float64, one dtype a call, and results have it; anything else is a ``TypeError`` that
  says what to cast. A shape that does not fit is a ``ValueError`` naming both shapes. Both come before any
  kernel runs.
* Any strides, read-only arrays and empty batches work. Inputs are never written to, results never share
  memory with them.
* A CuPy array goes to the ``cupy`` backend, and the host arrays beside it follow it to the GPU; host arrays
  alone go to the backend that :func:`fastnn.set_backend` chose.
* Images are logically (N, C, H, W) and may lie in memory as they like; image results lie channels-last.

Here arguments are checked and normalised, once; the work is done by ``fastnn.kernels``.
"""

from fastnn.functional.activation import (
    gelu,
    gelu_backward,
    leaky_relu,
    leaky_relu_backward,
    log_softmax,
    log_softmax_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from fastnn.functional.conv import col2im, conv2d, conv2d_backward, im2col
from fastnn.functional.conv_pool import conv2d_max_pool2d, conv2d_max_pool2d_backward
from fastnn.functional.linear import linear, linear_backward
from fastnn.functional.loss import mse, sigmoid_cross_entropy, softmax_cross_entropy
from fastnn.functional.norm import batch_norm, batch_norm_backward
from fastnn.functional.pool import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward
from fastnn.functional.random import dropout, dropout_backward

__all__ = [
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "col2im",
    "conv2d",
    "conv2d_backward",
    "conv2d_max_pool2d",
    "conv2d_max_pool2d_backward",
    "dropout",
    "dropout_backward",
    "gelu",
    "gelu_backward",
    "im2col",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "log_softmax",
    "log_softmax_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "mse",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "sigmoid_cross_entropy",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "tanh",
    "tanh_backward",
]
