"""The networks of ``fastnn/experiments`` as the benchmarks time them: one training step of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Network(NamedTuple):
    """One experiment's training step: how to build it, what goes in, and which loss comes out."""

    name: str
    build: Callable[[], Any]
    x: tuple[int, ...]
    classes: int
    loss: str


def _mlp(inputs: int, hidden: int, outputs: int, activation: str) -> Callable[[], Any]:
    def build() -> Any:
        from fastnn import layers

        return layers.Sequential(
            layers.Linear(inputs, hidden), getattr(layers, activation)(), layers.Linear(hidden, outputs)
        )

    return build


def _lenet() -> Any:
    from fastnn import layers as ly

    return ly.Sequential(
        *(ly.Conv2d(1, 6, 5), ly.ReLU(), ly.MaxPool2d(2)),
        *(ly.Conv2d(6, 16, 5), ly.ReLU(), ly.MaxPool2d(2), ly.Flatten()),
        *(ly.Linear(256, 120), ly.ReLU(), ly.Dropout(0.5), ly.Linear(120, 84), ly.ReLU(), ly.Dropout(0.5)),
        ly.Linear(84, 10),
    )


def _cnn() -> Any:
    from fastnn import layers as ly

    return ly.Sequential(
        *(ly.Conv2d(3, 32, 3, padding=1), ly.Sigmoid(), ly.MaxPool2d(2)),
        *(ly.Conv2d(32, 64, 3, padding=1), ly.Sigmoid(), ly.MaxPool2d(2)),
        *(ly.Conv2d(64, 64, 3, padding=1), ly.Sigmoid(), ly.MaxPool2d(2), ly.Flatten()),
        *(ly.Linear(1024, 64), ly.Sigmoid(), ly.Linear(64, 10)),
    )


def _softmax_regression() -> Any:
    from fastnn import layers

    return layers.Sequential(layers.Linear(3072, 10))


NETWORKS = [
    Network("cifar2-mlp", _mlp(3072, 100, 1, "ReLU"), (64, 3072), 1, "sigmoid_cross_entropy"),
    Network("cifar10-clr", _mlp(3072, 50, 10, "ReLU"), (100, 3072), 10, "softmax_cross_entropy"),
    Network("mnist-mlp", _mlp(784, 64, 10, "Sigmoid"), (64, 784), 10, "softmax_cross_entropy"),
    Network("mnist-mlp, batch 256", _mlp(784, 64, 10, "Sigmoid"), (256, 784), 10, "softmax_cross_entropy"),
    Network("mnist-lenet", _lenet, (64, 1, 28, 28), 10, "softmax_cross_entropy"),
    Network("cifar10-mse", _mlp(3072, 50, 10, "ReLU"), (200, 3072), 10, "mse"),
    Network("cifar10-linear, full batch", _softmax_regression, (45000, 3072), 10, "mse"),
    Network("cifar10-sigmoid", _mlp(3072, 200, 10, "Sigmoid"), (500, 3072), 10, "mse"),
    Network("cifar10-sigmoid, full batch", _mlp(3072, 200, 10, "Sigmoid"), (45000, 3072), 10, "mse"),
    Network("cifar10-cnn", _cnn, (50, 3, 32, 32), 10, "softmax_cross_entropy"),
]
