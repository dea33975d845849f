"""Activations on a GPU: ``activation.cu``."""

from __future__ import annotations

from typing import Any

from ._launch import lanes_for, launch, xp
from ._memory import arranged, dense, flat, plain


def _forward(name: str, x: Any, s: float = 0.0) -> Any:
    x = dense(x)
    out = xp().empty_like(x)  # in the memory order of x
    launch("activation", name, x.dtype, x.size, flat(x), flat(out), x.size, float(s))
    return out


def _backward(name: str, grad: Any, saved: Any, s: float = 0.0) -> Any:
    saved = dense(saved)
    grad, out = arranged(grad, saved), xp().empty_like(saved)
    arrays = flat(grad), flat(saved), flat(out)
    launch("activation", name, saved.dtype, saved.size, *arrays, saved.size, float(s))
    return out


def _by_rows(name: str, axis: int, *arrays: Any) -> Any:
    """The kernel on rows along `axis`, brought to the end for it."""
    rows = [plain(xp().moveaxis(array, axis, -1)) for array in arrays]
    out = xp().empty_like(rows[0])
    length = out.shape[-1]
    if out.size:
        count, lanes = out.size // length, lanes_for(length)
        launch("activation", name, out.dtype, lanes * count, *rows, out, count, length, lanes)
    return xp().moveaxis(out, -1, axis)


def relu(x):
    return _forward("relu", x)


def leaky_relu(x, negative_slope):
    return _forward("leaky_relu", x, negative_slope)


def sigmoid(x):
    return _forward("sigmoid", x)


def tanh(x):
    return _forward("tanh_", x)


def gelu(x, approximate):
    return _forward("gelu_tanh" if approximate == "tanh" else "gelu", x)


def relu_backward(grad, out):
    return _backward("relu_backward", grad, out)


def leaky_relu_backward(grad, x, negative_slope):
    return _backward("leaky_relu_backward", grad, x, negative_slope)


def sigmoid_backward(grad, out):
    return _backward("sigmoid_backward", grad, out)


def tanh_backward(grad, out):
    return _backward("tanh_backward", grad, out)


def gelu_backward(grad, x, approximate):
    return _backward("gelu_tanh_backward" if approximate == "tanh" else "gelu_backward", grad, x)


def softmax(x, axis):
    return _by_rows("softmax", axis, x)


def softmax_backward(grad, out, axis):
    return _by_rows("softmax_backward", axis, grad, out)


def log_softmax(x, axis):
    return _by_rows("log_softmax", axis, x)


def log_softmax_backward(grad, out, axis):
    return _by_rows("log_softmax_backward", axis, grad, out)


#: The gradients of activations whose derivative follows from the output alone, by name.
SLOPES = {"relu": relu_backward, "sigmoid": sigmoid_backward, "tanh": tanh_backward}
