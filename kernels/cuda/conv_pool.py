"""Convolution and max-pooling on a GPU: for now one launch after the other."""

from __future__ import annotations

from . import activation as activations
from . import conv, pool

_FORWARD = {
    "relu": activations.relu,
    "leaky_relu": lambda x: activations.leaky_relu(x, 0.01),
    "sigmoid": activations.sigmoid,
    "tanh": activations.tanh,
    "gelu": lambda x: activations.gelu(x, "none"),
}


def conv2d_max_pool2d(x, weight, bias, convolution, pooling, activation):
    out, indices = pool.max_pool2d(conv.conv2d(x, weight, bias, *convolution, None), *pooling)
    return out if activation is None else _FORWARD[activation](out), indices


def conv2d_max_pool2d_backward(grad, indices, x, weight, convolution, input_grad, out=None):
    between = conv.count_windows(x.shape[2:], weight.shape[2:], *convolution[:3])
    slope = pool.max_pool2d_backward(grad, indices, (*grad.shape[:2], *between))
    return conv.conv2d_backward(slope, x, weight, *convolution, input_grad, out)
