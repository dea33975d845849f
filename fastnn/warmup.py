"""Every kernel called once in each precision, so that Numba compiles it now and finds it on disk later.

A kernel is compiled for the types it is called with: arrays as the layers hand them over, images both as they
come from a file (C, H, W in memory) and as the convolutions return them (channels-last).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn import layers, optim
from fastnn.backend import get_backend
from fastnn.layers import Parameter
from fastnn.training import TrainingStep
from fastnn.training.feed import Rows


def calls() -> list[tuple[str, Callable[[], Any]]]:
    """The calls, each under a title; run them under the backend to be warmed."""
    return [
        (f"{title} {np.dtype(dtype).name}", call)
        for dtype in (np.float32, np.float64)
        for title, call in _calls(dtype)
    ]


def _calls(dtype: Any) -> list[tuple[str, Callable[[], Any]]]:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    def nhwc(x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    x, weight, bias = draw(9, 20), draw(20, 10), draw(10)
    scores, labels, shares = draw(9, 10), np.arange(9), np.full((9, 10), 0.1, dtype)
    images, pooled = nhwc(draw(2, 4, 8, 8)), nhwc(draw(2, 4, 4, 4))
    kernels = {groups: draw(6, 4 // groups, 3, 3) for groups in (1, 2)}
    columns = draw(2, 4 * 9, 36)
    ones, zeros = np.ones(4, dtype), np.zeros(4, dtype)
    listed: list[tuple[str, Callable[[], Any]]] = []

    def add(title: str, function: Callable[..., Any], *args: Any, **options: Any) -> None:
        listed.append((title, lambda: function(*args, **options)))

    for activation in (None, "relu", "leaky_relu", "sigmoid", "tanh", "gelu"):
        add(f"linear {activation or ''}", F.linear, x, weight, bias, activation=activation)
        add(f"conv2d {activation or ''}", F.conv2d, images, kernels[1], draw(6), activation=activation)
    add("linear_backward", F.linear_backward, scores, x, weight)
    blank, first_weight = np.zeros((48, 784), dtype), draw(784, 64)
    add("linear of mostly zeros", F.linear, blank, first_weight, draw(64))
    add("linear_backward of mostly zeros", F.linear_backward, draw(48, 64), blank, first_weight)
    for groups, kernel in kernels.items():
        add("conv2d from NCHW", F.conv2d, draw(2, 4, 8, 8), kernel, groups=groups)
        add("conv2d_backward", F.conv2d_backward, nhwc(draw(2, 6, 6, 6)), images, kernel, groups=groups)
    for channels, size in _POOLED:
        batch, filters, half = nhwc(draw(2, channels, 8, 8)), draw(6, channels, size, size), (9 - size) // 2
        add("conv2d_max_pool2d", F.conv2d_max_pool2d, batch, filters, draw(6), pool_size=2)
        operands = nhwc(draw(2, 6, half, half)), np.zeros((2, 6, half, half), np.int32), batch, filters
        add("conv2d_max_pool2d_backward", F.conv2d_max_pool2d_backward, *operands)
    for behind in (layers.ReLU, layers.Sigmoid, layers.Tanh):
        network = layers.Sequential(layers.Conv2d(4, 6, 3, dtype=dtype), layers.MaxPool2d(2), behind())
        add("an activation behind a pooled convolution", _there_and_back, network, images)
    add("im2col", F.im2col, images, 3)
    add("col2im", F.col2im, columns, 8, 3)
    for name in ("relu", "leaky_relu", "sigmoid", "tanh", "gelu", "softmax", "log_softmax"):
        add(name, getattr(F, name), scores)
        add(f"{name}_backward", getattr(F, f"{name}_backward"), scores, scores)
    add("gelu tanh", F.gelu, scores, approximate="tanh")
    add("gelu_backward tanh", F.gelu_backward, scores, scores, approximate="tanh")
    add("max_pool2d", F.max_pool2d, images, 2)
    add("max_pool2d_backward", F.max_pool2d_backward, pooled, np.zeros(pooled.shape, np.int32), images.shape)
    add("avg_pool2d", F.avg_pool2d, images, 2)
    add("avg_pool2d_backward", F.avg_pool2d_backward, pooled, images.shape, 2)
    for data in (images, draw(9, 4)):
        for training in (True, False):
            add("batch_norm", F.batch_norm, data, ones, zeros, zeros.copy(), ones.copy(), training=training)
            add(
                "batch_norm_backward", F.batch_norm_backward, data, data, ones, zeros, ones, training=training
            )
    add("dropout", F.dropout, scores, 0.5, 1, 1)
    add("dropout_backward", F.dropout_backward, scores, 0.5, 1, 1)
    add("softmax_cross_entropy", F.softmax_cross_entropy, scores, labels)
    add("softmax_cross_entropy of shares", F.softmax_cross_entropy, scores, shares)
    add("sigmoid_cross_entropy", F.sigmoid_cross_entropy, scores, shares)
    add("mse", F.mse, scores, shares)
    for size in (3, 5):
        add("programs of a Sequential", _record, _network(size, dtype), draw(2, 1, 12, 12), draw(2, 3))
    add("gather", _gather, dtype)
    for loss, targets in _losses(labels, shares):
        add("steps as one call", _step, x, targets, loss, optim.SGD, l2=0.1)
    for optimizer in (optim.Adam, optim.RMSprop):
        add("steps as one call", _step, x, shares, F.mse, optimizer)
    for title, make in _OPTIMISERS.items():
        add(title, make([Parameter("weight", weight), Parameter("filters", kernels[1])]).step)
    return listed


def _network(size: int, dtype: Any) -> layers.Sequential:
    """A layer of each kind that Sequential joins with others, filters of that size in front."""
    side = (12 - size + 1) // 2
    return layers.Sequential(
        *(layers.Conv2d(1, 4, size, dtype=dtype), layers.ReLU(), layers.MaxPool2d(2), layers.Sigmoid()),
        *(layers.Conv2d(4, 16, 3, padding=1, dtype=dtype), layers.Tanh(), layers.MaxPool2d(2, stride=1)),
        *(layers.Conv2d(16, 16, 3, padding=1, dtype=dtype), layers.MaxPool2d(2, stride=1), layers.Flatten()),
        *(layers.Linear(16 * (side - 2) ** 2, 8, dtype=dtype), layers.ReLU(), layers.Dropout()),
        layers.Linear(8, 3, dtype=dtype),
    )


def _there_and_back(network: layers.Sequential, x: np.ndarray) -> None:
    network.backward(network(x, training=True))


def _record(network: layers.Sequential, x: np.ndarray, grad: np.ndarray) -> None:
    """Let it see the input until it records its kernel calls, at inference and in training."""
    for training in (False, True):
        for _ in range(5):
            network(x, training)
            if training:
                network.backward(grad, input_grad=False)


def _gather(dtype: Any) -> None:
    """A batch that is large enough to be gathered on all threads."""
    rows = np.zeros((2, 1 << 18), dtype)
    Rows(get_backend(), rows).take(np.array([1, 0]))


def _losses(labels: np.ndarray, shares: np.ndarray) -> list[tuple[Callable[..., Any], np.ndarray]]:
    by_shares = (F.softmax_cross_entropy, F.sigmoid_cross_entropy, F.mse)
    return [(F.softmax_cross_entropy, labels), *((loss, shares) for loss in by_shares)]


def _step(x: np.ndarray, y: np.ndarray, loss: Any, optimizer: Any, l2: float = 0.0) -> None:
    """Let a training step see a batch until it is one call."""
    net = layers.Sequential(layers.Linear(x.shape[1], 10, dtype=x.dtype))
    step = TrainingStep(net, loss, optimizer(net.parameters()), l2=l2)
    for _ in range(4):
        step(x, y)


# Input channels and kernel size of filters, those of the experiments and the demo, in front of a max-pooling:
# the gradients have code of their own for each size of a filter's row.
_POOLED = ((1, 5), (6, 5), (3, 3), (32, 3), (64, 3), (1, 3), (16, 3))

_OPTIMISERS: dict[str, Callable[[list[Parameter]], optim.Optimizer]] = {
    "SGD": lambda params: optim.SGD(params, 0.1),
    "SGD with momentum": lambda params: optim.SGD(params, 0.1, momentum=0.9),
    "Adam": optim.Adam,
    "AdamW": optim.AdamW,
    "RMSprop": optim.RMSprop,
    "RMSprop with momentum": lambda params: optim.RMSprop(params, momentum=0.9),
}
