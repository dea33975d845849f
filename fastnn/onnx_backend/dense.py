"""Operators without a place: products, sums, activations, dropout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn.functional as F
from fastnn.backend import get_backend, next_stream
from fastnn.onnx_backend.node import Array, Node, operator


@operator("Gemm", 6, 7, 9, 11, 13)
def gemm(node: Node) -> Callable[..., Any]:
    node.attribute("broadcast", 0)  # of version 6: whether C may be smaller, which all later ones allow
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    turn_a, turn_b = node.attribute("transA", 0), node.attribute("transB", 0)

    def compute(a: Array, b: Array, c: Array | None = None) -> Array:
        a, b = a.T if turn_a else a, b.T if turn_b else b
        if c is not None and c.shape == b.shape[1:] and alpha == beta == 1:
            return F.linear(a, b, c)
        out = F.linear(a, b)
        out *= alpha
        if c is not None:
            _check_same_dtype(out, c)
            out += beta * c
        return out

    return compute


@operator("MatMul", 1, 9, 13)
def matmul(node: Node) -> Callable[..., Any]:
    return _product


def _product(a: Array, b: Array) -> Array:
    """``a @ b`` by the rules of NumPy, of which F.linear is the case of two matrices."""
    if b.ndim == 1:
        return _product(a, b[:, None])[..., 0]
    if a.ndim == 1:
        return _product(a[None], b)[..., 0, :]
    if b.ndim == 2:
        rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
        return F.linear(rows, b).reshape(*a.shape[:-1], b.shape[1])
    xp, stack = get_backend().xp, np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = xp.broadcast_to(a, stack + a.shape[-2:]), xp.broadcast_to(b, stack + b.shape[-2:])
    out = xp.empty((*stack, a.shape[-2], b.shape[-1]), a.dtype)
    for i in np.ndindex(*stack):
        out[i] = F.linear(a[i], b[i])
    return out


def _check_same_dtype(a: Array, b: Array) -> None:
    """TypeError where NumPy would convert one of them, which ONNX does not."""
    if a.dtype != b.dtype:
        raise TypeError(f"the operands must have one dtype, not {a.dtype} and {b.dtype}")


def _arithmetic(function: Callable[[Array, Array], Array]) -> Callable[[Node], Callable[..., Any]]:
    def build(node: Node) -> Callable[..., Any]:
        node.attribute("broadcast", 0)  # of version 6, as is axis
        axis = node.attribute("axis", None)  # where in a the axes of b are; not given, at the end

        def compute(a: Array, b: Array) -> Array:
            _check_same_dtype(a, b)
            if axis is not None:
                b = b.reshape(b.shape + (1,) * (a.ndim - axis % a.ndim - b.ndim))
            return function(a, b)

        return compute

    return build


operator("Add", 6, 7, 13, 14)(_arithmetic(lambda a, b: a + b))
operator("Sub", 6, 7, 13, 14)(_arithmetic(lambda a, b: a - b))
operator("Mul", 6, 7, 13, 14)(_arithmetic(lambda a, b: a * b))
operator("Div", 6, 7, 13, 14)(_arithmetic(lambda a, b: a / b))


@operator("Relu", 6, 13, 14)
def relu(node: Node) -> Callable[..., Any]:
    return F.relu


@operator("LeakyRelu", 6, 16)
def leaky_relu(node: Node) -> Callable[..., Any]:
    slope = node.attribute("alpha", 0.01)
    return lambda x: F.leaky_relu(x, slope)


@operator("Sigmoid", 6, 13)
def sigmoid(node: Node) -> Callable[..., Any]:
    return F.sigmoid


@operator("Tanh", 6, 13)
def tanh(node: Node) -> Callable[..., Any]:
    return F.tanh


@operator("Gelu", 20)
def gelu(node: Node) -> Callable[..., Any]:
    approximate = node.choice("approximate", "none", ("none", "tanh"))
    return lambda x: F.gelu(x, approximate)


@operator("Softmax", 1, 11, 13)
def softmax(node: Node) -> Callable[..., Any]:
    return _along(node, F.softmax)


@operator("LogSoftmax", 1, 11, 13)
def log_softmax(node: Node) -> Callable[..., Any]:
    return _along(node, F.log_softmax)


def _along(node: Node, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` along the node's axis; before opset 13, over that axis and all behind it as one."""
    axis = node.attribute("axis", -1 if node.version >= 13 else 1)
    if node.version >= 13:
        return lambda x: function(x, axis)
    return lambda x: function(as_matrix(x, axis)).reshape(x.shape)


def as_matrix(x: Array, axis: int) -> Array:
    """`x` with the axes before `axis` as one, and those from there on as one."""
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operator("Dropout", 7, 10, 12, 13, 22)
def dropout(node: Node) -> Callable[..., Any]:
    if node.version < 12:
        node.attribute("ratio", 0.5)  # of training, which these versions leave to other means
    seed = node.attribute("seed", None)
    kept = "bool" if node.version >= 10 else None  # None: the type of x

    def compute(x: Array, ratio: Array | None = None, training: Array | None = None) -> Any:
        ones = get_backend().xp.ones(x.shape, x.dtype)
        if training is None or not training:
            return x, ones.astype(kept or x.dtype)
        p = 0.5 if ratio is None else float(ratio)
        stream = next_stream() if seed is None else (seed % 2**64, 0)
        mask = F.dropout(ones, p, *stream) != 0
        return F.dropout(x, p, *stream), mask

    return compute
