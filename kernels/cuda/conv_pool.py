"""Convolution and max-pooling on a GPU: ``conv_pool.cu`` where windows of 2 x 2 lie side by side, else one
launch after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import activation as activations
from . import conv, pool
from ._launch import launch
from ._memory import empty_nchw, nhwc, plain
from ._products import CODES, plan
from .precision import stem_for

_FORWARD = {
    "relu": activations.relu,
    "leaky_relu": lambda x: activations.leaky_relu(x, 0.01),
    "sigmoid": activations.sigmoid,
    "tanh": activations.tanh,
    "gelu": lambda x: activations.gelu(x, "none"),
}


def _side_by_side(between: tuple[int, int], pooling: tuple) -> bool:
    """Whether windows are of 2 x 2, without gaps, and all inside the convolution's result."""
    *geometry, ceil_mode = pooling
    whole = not ceil_mode or all(size % 2 == 0 for size in between)
    return geometry == [(2, 2), (2, 2), (0, 0), (1, 1)] and whole


def _in_one(s: conv.Shapes, x: Any, weight: Any, bias: Any, code: int) -> tuple[Any, Any]:
    half = s.size[0] // 2, s.size[1] // 2
    memory, out = empty_nchw(s.N, s.O, *half, x.dtype)
    where, indices = empty_nchw(s.N, s.O, *half, np.int32)
    images, filters, bias = nhwc(x), conv.filters_of(weight), None if bias is None else plain(bias)
    stem, each = stem_for("conv_pool", x.dtype), 4 * half[0] * half[1]
    for piece in s.pieces:
        part, target = images[piece], memory[piece]
        by = plan(len(part) * each, s.O // s.groups, s.KH * s.KW * s.I, s.groups, False, x.itemsize)
        arguments = part, filters, target, where[piece], *s.of(len(part), half, s.I), bias, code
        launch(stem, f"forward_{by.name}", x.dtype, target.size, *arguments, grid=(by.blocks, s.groups))
    return out, indices


def conv2d_max_pool2d(x, weight, bias, convolution, pooling, activation, places="int32"):
    s = conv.Shapes(x.shape, weight, *convolution)
    if _side_by_side(s.size, pooling):
        return _in_one(s, x, weight, bias, CODES[activation])
    out, indices = pool.max_pool2d(conv.conv2d(x, weight, bias, *convolution, None), *pooling)
    return out if activation is None else _FORWARD[activation](out), indices


def conv2d_max_pool2d_backward(
    grad, indices, x, weight, convolution, input_grad, out=None, pooling=None, activated=None, short=False
):
    if activated is not None:
        name, output = activated
        grad = activations.SLOPES[name](grad, output)
    between = conv.count_windows(x.shape[2:], weight.shape[2:], *convolution[:3])
    slope = pool.max_pool2d_backward(grad, indices, (*grad.shape[:2], *between), pooling)
    return conv.conv2d_backward(slope, x, weight, *convolution, input_grad, out)
