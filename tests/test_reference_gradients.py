"""Every backward of the reference against central differences of its forward, along random directions.

One direction checks all entries at once: ``<grad, d>`` must be the slope of ``<g, f(x + h d)>`` in h.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn.functional as F
from fastnn import use_backend

Function = Callable[..., Any]


@pytest.fixture(autouse=True)
def _numpy_backend():
    with use_backend("numpy"):
        yield


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def distinct(*shape: int) -> np.ndarray:
    """Values at least 0.1 from each other and from zero, so that small steps change no maximum or sign."""
    size = int(np.prod(shape))
    return (np.random.default_rng(0).permutation(size) - size // 2 + 0.5).reshape(shape) / 5


def assert_gradient(
    f: Callable[[np.ndarray], float], x: np.ndarray, grad: np.ndarray, h: float = 1e-5
) -> None:
    assert grad.shape == x.shape
    assert grad.dtype == np.float64
    for seed in range(3):
        direction = normal(*x.shape, seed=10 + seed)
        slope = (f(x + h * direction) - f(x - h * direction)) / (2 * h)
        assert np.vdot(grad, direction) == pytest.approx(slope, rel=1e-6, abs=1e-8)


ELEMENTWISE: dict[str, tuple[Function, Function, str]] = {
    "relu": (F.relu, F.relu_backward, "output"),
    "leaky_relu": (F.leaky_relu, F.leaky_relu_backward, "input"),
    "leaky_relu, slope 2": (
        lambda x: F.leaky_relu(x, 2.0),
        lambda grad, x: F.leaky_relu_backward(grad, x, 2.0),
        "input",
    ),
    "sigmoid": (F.sigmoid, F.sigmoid_backward, "output"),
    "tanh": (F.tanh, F.tanh_backward, "output"),
    "gelu": (F.gelu, F.gelu_backward, "input"),
    "gelu, tanh": (
        lambda x: F.gelu(x, approximate="tanh"),
        lambda grad, x: F.gelu_backward(grad, x, approximate="tanh"),
        "input",
    ),
    "softmax": (F.softmax, F.softmax_backward, "output"),
    "softmax, axis 0": (
        lambda x: F.softmax(x, 0),
        lambda grad, out: F.softmax_backward(grad, out, 0),
        "output",
    ),
    "log_softmax": (F.log_softmax, F.log_softmax_backward, "output"),
    "dropout": (
        lambda x: F.dropout(x, 0.4, 5, 6),
        lambda grad, _: F.dropout_backward(grad, 0.4, 5, 6),
        "input",
    ),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activation_backward_is_the_derivative(name: str) -> None:
    forward, backward, saved = ELEMENTWISE[name]
    x, grad = distinct(4, 6), normal(4, 6)
    result = backward(grad, forward(x) if saved == "output" else x)
    assert_gradient(lambda x: np.vdot(grad, forward(x)), x, result)


def test_linear_backward_is_the_derivative() -> None:
    x, weight, bias, grad = normal(5, 4), normal(4, 3), normal(3), normal(5, 3)
    grad_x, grad_weight, grad_bias = F.linear_backward(grad, x, weight)
    assert_gradient(lambda x: np.vdot(grad, F.linear(x, weight, bias)), x, grad_x)
    assert_gradient(lambda weight: np.vdot(grad, F.linear(x, weight, bias)), weight, grad_weight)
    assert_gradient(lambda bias: np.vdot(grad, F.linear(x, weight, bias)), bias, grad_bias)


@pytest.mark.parametrize("channels", [4, 34])  # both of the memory orders that columns are built in
@pytest.mark.parametrize("groups", [1, 2])
def test_conv2d_backward_is_the_derivative(groups: int, channels: int) -> None:
    options: dict[str, Any] = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": groups}
    x, weight, bias = normal(2, channels, 7, 6), normal(6, channels // groups, 3, 2), normal(6)
    grad = normal(*F.conv2d(x, weight, bias, **options).shape)
    grad_x, grad_weight, grad_bias = F.conv2d_backward(grad, x, weight, **options)
    assert_gradient(lambda x: np.vdot(grad, F.conv2d(x, weight, bias, **options)), x, grad_x)
    assert_gradient(lambda weight: np.vdot(grad, F.conv2d(x, weight, bias, **options)), weight, grad_weight)
    assert_gradient(lambda bias: np.vdot(grad, F.conv2d(x, weight, bias, **options)), bias, grad_bias)


def test_pool_backwards_are_the_derivatives() -> None:
    x = distinct(2, 3, 7, 6)
    options: dict[str, Any] = {"stride": (2, 1), "padding": 1, "ceil_mode": True}
    out, indices = F.max_pool2d(x, 3, return_indices=True, **options)
    grad = normal(*out.shape)
    back = F.max_pool2d_backward(grad, indices, x.shape)
    assert_gradient(lambda x: np.vdot(grad, F.max_pool2d(x, 3, **options)), x, back)
    back = F.avg_pool2d_backward(grad, x.shape, 3, **options)
    assert_gradient(lambda x: np.vdot(grad, F.avg_pool2d(x, 3, **options)), x, back)


def test_conv2d_max_pool2d_backward_is_the_derivative() -> None:
    geometry: dict[str, Any] = {"stride": (1, 2), "padding": (2, 1), "dilation": (2, 1), "groups": 2}
    window: dict[str, Any] = {
        "pool_size": (3, 2),
        "pool_stride": (2, 1),
        "pool_padding": 1,
        "ceil_mode": True,
    }

    def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return F.conv2d_max_pool2d(x, weight, bias, **geometry, **window)

    x, weight, bias = normal(2, 4, 8, 9), normal(6, 2, 3, 2), normal(6)
    out, indices = forward(x, weight, bias)
    grad = normal(*out.shape)
    grad_x, grad_weight, grad_bias = F.conv2d_max_pool2d_backward(grad, indices, x, weight, **geometry)
    assert_gradient(lambda x: np.vdot(grad, forward(x, weight, bias)[0]), x, grad_x, h=1e-7)
    assert_gradient(lambda weight: np.vdot(grad, forward(x, weight, bias)[0]), weight, grad_weight, h=1e-7)
    assert_gradient(lambda bias: np.vdot(grad, forward(x, weight, bias)[0]), bias, grad_bias)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5, 2)])
def test_batch_norm_backward_is_the_derivative(shape: tuple[int, ...], training: bool) -> None:
    x, weight, bias, grad = normal(*shape), normal(3), normal(3, seed=1), normal(*shape, seed=2)

    def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, ...]:
        running = np.full(3, 0.5), np.full(3, 2.0)
        return F.batch_norm(x, weight, bias, *running, training=training)

    _, mean, inv_std = forward(x, weight, bias)
    grad_x, grad_weight, grad_bias = F.batch_norm_backward(grad, x, weight, mean, inv_std, training=training)
    assert_gradient(lambda x: np.vdot(grad, forward(x, weight, bias)[0]), x, grad_x)
    assert_gradient(lambda weight: np.vdot(grad, forward(x, weight, bias)[0]), weight, grad_weight)
    assert_gradient(lambda bias: np.vdot(grad, forward(x, weight, bias)[0]), bias, grad_bias)


@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum"])
def test_loss_gradients_are_the_derivatives(reduction: str) -> None:
    z, labels = 2 * normal(5, 4), np.array([0, 3, 1, 1, 2])
    weights = np.abs(normal(5, 4))  # rows that do not sum to one
    dense = np.random.default_rng(0).random((5, 4))
    losses: dict[str, Callable[[np.ndarray], tuple[float, np.ndarray]]] = {
        "labels": lambda z: F.softmax_cross_entropy(z, labels, reduction=reduction),
        "probabilities": lambda z: F.softmax_cross_entropy(z, weights, reduction=reduction),
        "sigmoid": lambda z: F.sigmoid_cross_entropy(z, dense, reduction=reduction),
        "mse": lambda z: F.mse(z, dense, reduction=reduction, factor=0.7),
    }
    for loss in losses.values():
        assert_gradient(lambda z, loss=loss: loss(z)[0], z, loss(z)[1])
