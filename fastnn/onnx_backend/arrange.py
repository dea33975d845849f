"""Operators that only arrange what they are given, of whatever type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from fastnn.backend import get_backend, is_device_array
from fastnn.layers import Flatten
from fastnn.onnx_backend.dense import as_matrix
from fastnn.onnx_backend.node import FLOATS, Array, Node, check_inside, operator


@operator("Identity", 1, 13, 14, 16, 19, 21, 23, 24, 25, floats=False)
def identity(node: Node) -> Callable[..., Any]:
    return lambda x: x


@operator("Constant", 1, 9, 11, 12, 13, 19, 21, 23, 24, 25, floats=False)
def constant(node: Node) -> Callable[..., Any]:
    tensor = node.attribute("value", None)
    if tensor is not None:
        check_inside(tensor, f"node {node.label!r}")
        array = onnx.numpy_helper.to_array(tensor)
        return lambda: array
    for name, dtype in (("float", np.float32), ("int", np.int64)):
        for form in (f"value_{name}", f"value_{name}s"):
            numbers = node.attribute(form, None)
            if numbers is not None:
                return lambda numbers=numbers, dtype=dtype: np.asarray(numbers, dtype)
    return lambda: None  # never called: what else it may hold is refused, being left unread


@operator("Flatten", 1, 9, 11, 13, 21, 23, 24, 25, floats=False)
def flatten(node: Node) -> Callable[..., Any]:
    axis = node.attribute("axis", 1)

    def compute(x: Array) -> Array:
        # The layer's kernel knows channels-last memory.
        return Flatten()(x) if axis == 1 and x.dtype in FLOATS else as_matrix(x, axis)

    return compute


@operator("Reshape", 5, 13, 14, 19, 21, 23, 24, 25, floats=False)
def reshape(node: Node) -> Callable[..., Any]:
    zero_is_zero = node.attribute("allowzero", 0)

    def compute(x: Array, shape: Array) -> Array:
        sizes = _numbers(shape)
        if not zero_is_zero:
            sizes = [size or x.shape[axis] for axis, size in enumerate(sizes)]
        if len(sizes) == 2 and sizes[1] == -1 and x.shape[:1] == (sizes[0],) and x.dtype in FLOATS:
            return Flatten()(x)
        return x.reshape(sizes)

    return compute


@operator("Transpose", 1, 13, 21, 23, 24, 25, floats=False)
def transpose(node: Node) -> Callable[..., Any]:
    order = node.attribute("perm", None)
    return lambda x: x.transpose(order)


@operator("Squeeze", 1, 11, 13, 21, 23, 24, 25, floats=False)
def squeeze(node: Node) -> Callable[..., Any]:
    fixed = node.attribute("axes", None)  # an input from version 13 on

    def compute(x: Array, axes: Array | None = None) -> Array:
        dropped = fixed if axes is None else _numbers(axes)
        return x.squeeze(None if dropped is None else tuple(dropped))

    return compute


@operator("Unsqueeze", 1, 11, 13, 21, 23, 24, 25, floats=False)
def unsqueeze(node: Node) -> Callable[..., Any]:
    fixed = node.attribute("axes", None)

    def compute(x: Array, axes: Array | None = None) -> Array:
        new = fixed if axes is None else _numbers(axes)
        ndim = x.ndim + len(new)
        new, lengths = {axis % ndim for axis in new}, iter(x.shape)
        return x.reshape([1 if axis in new else next(lengths) for axis in range(ndim)])

    return compute


@operator("Shape", 1, 13, 15, 19, 21, 23, 24, 25, floats=False)
def shape(node: Node) -> Callable[..., Any]:
    part = slice(node.attribute("start", 0), node.attribute("end", None))
    return lambda x: np.array(x.shape[part], np.int64)


@operator("Gather", 1, 11, 13, floats=False)
def gather(node: Node) -> Callable[..., Any]:
    axis = node.attribute("axis", 0)

    def compute(x: Array, indices: Array) -> Array:
        if is_device_array(x):
            indices = get_backend().asarray(indices)
        return x.take(indices, axis)

    return compute


@operator("Concat", 4, 11, 13, floats=False)
def concat(node: Node) -> Callable[..., Any]:
    axis = node.attribute("axis", None)

    def compute(*parts: Array) -> Array:
        xp = get_backend().xp if is_device_array(parts[0]) else np
        return xp.concatenate(parts, axis)

    return compute


def _numbers(values: Array) -> list[int]:
    """The lengths or axes in an input, wherever that is."""
    return [int(value) for value in get_backend().to_numpy(values)]
