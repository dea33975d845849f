"""The networks of the experiments as the benchmarks run them: described once, as data, so that each library
that is timed builds the same one, from the same initial weights, and feeds it the same batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np


class Dense(NamedTuple):
    inputs: int
    outputs: int


class Conv(NamedTuple):
    """Stride 1; `kernel` and `padding` the same along both axes."""

    inputs: int
    outputs: int
    kernel: int
    padding: int


class Pool(NamedTuple):
    """The maximum over windows of `size` x `size` that touch but do not overlap."""

    size: int


class Activation(NamedTuple):
    name: str  # relu | sigmoid


class Dropout(NamedTuple):
    p: float


class Flatten(NamedTuple):
    """(N, C, H, W) to (N, C·H·W)."""


Layer = Dense | Conv | Pool | Activation | Dropout | Flatten
RELU, SIGMOID, FLATTEN = Activation("relu"), Activation("sigmoid"), Flatten()


@dataclass(frozen=True)
class Network:
    """A network, the shape of one batch, and the loss it is trained with (by its name in ``F``).

    Its inputs are random numbers, or with `digits` the first of MNIST's training set, pixels from 0 to 1.
    """

    name: str
    layers: tuple[Layer, ...]
    x: tuple[int, ...]
    classes: int
    loss: str
    digits: bool = False

    def missing(self) -> str:
        """Why there is no batch for it here; empty if there is one."""
        from fastnn import data

        try:
            if self.digits:
                data.load_mnist()
        except data.DataNotFound as reason:
            return str(reason)
        return ""

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """A weight, (in, out) or (O, I, KH, KW), and a bias for each layer that has them: the same every
        time.
        """
        rng = np.random.default_rng(0)
        drawn = []
        for layer in self.layers:
            match layer:
                case Dense(inputs, outputs):
                    shape: tuple[int, ...] = (inputs, outputs)
                    fan_in = inputs
                case Conv(inputs, outputs, kernel):
                    shape, fan_in = (outputs, inputs, kernel, kernel), inputs * kernel * kernel
                case _:
                    continue
            bound = 1 / math.sqrt(fan_in)
            weight, bias = (rng.uniform(-bound, bound, s).astype(np.float32) for s in (shape, (outputs,)))
            drawn.append((weight, bias))
        return drawn

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs, and targets as the loss takes them: labels, or zeros and ones of the output's shape."""
        if self.digits:
            from fastnn import data

            mnist, count = data.load_mnist(), self.x[0]
            return data.scale(mnist.x_train[:count]).reshape(self.x), mnist.y_train[:count]
        rng = np.random.default_rng(1)
        x = rng.standard_normal(self.x, np.float32)
        labels = rng.integers(0, max(2, self.classes), len(x))
        if self.loss == "softmax_cross_entropy":
            return x, labels
        if self.classes == 1:
            return x, labels[:, None].astype(np.float32)
        return x, (labels[:, None] == np.arange(self.classes)).astype(np.float32)

    def without_dropout(self) -> Network:
        """The same network with nothing left to chance, for comparing results."""
        return replace(self, layers=tuple(x for x in self.layers if not isinstance(x, Dropout)))

    def build(self) -> Any:
        """The network in fastnn, with these weights, on the backend in force."""
        import fastnn

        net = fastnn.Sequential(*map(_built, self.layers))
        values = (array for pair in self.weights() for array in pair)
        for parameter, value in zip(net.parameters(), values, strict=True):
            parameter.data = fastnn.get_backend().asarray(value)
        return net


def _built(layer: Layer) -> Any:
    from fastnn import layers as ly

    match layer:
        case Dense(inputs, outputs):
            return ly.Linear(inputs, outputs)
        case Conv(inputs, outputs, kernel, padding):
            return ly.Conv2d(inputs, outputs, kernel, padding=padding)
        case Pool(size):
            return ly.MaxPool2d(size)
        case Activation(name):
            return {"relu": ly.ReLU, "sigmoid": ly.Sigmoid}[name]()
        case Dropout(p):
            return ly.Dropout(p)
        case Flatten():
            return ly.Flatten()


def mlp(inputs: int, hidden: int, outputs: int, activation: Activation) -> tuple[Layer, ...]:
    return Dense(inputs, hidden), activation, Dense(hidden, outputs)


LENET = (
    *(Conv(1, 6, 5, 0), RELU, Pool(2)),
    *(Conv(6, 16, 5, 0), RELU, Pool(2), FLATTEN),
    *(Dense(256, 120), RELU, Dropout(0.5), Dense(120, 84), RELU, Dropout(0.5), Dense(84, 10)),
)
CNN = (
    *(Conv(3, 32, 3, 1), SIGMOID, Pool(2)),
    *(Conv(32, 64, 3, 1), SIGMOID, Pool(2)),
    *(Conv(64, 64, 3, 1), SIGMOID, Pool(2), FLATTEN),
    *(Dense(1024, 64), SIGMOID, Dense(64, 10)),
)
CE, BINARY_CE, MSE = "softmax_cross_entropy", "sigmoid_cross_entropy", "mse"

NETWORKS = [
    Network("cifar2-mlp", mlp(3072, 100, 1, RELU), (64, 3072), 1, BINARY_CE),
    Network("cifar10-clr", mlp(3072, 50, 10, RELU), (100, 3072), 10, CE),
    Network("mnist-mlp", mlp(784, 64, 10, SIGMOID), (64, 784), 10, CE),
    Network("mnist-mlp, batch 256", mlp(784, 64, 10, SIGMOID), (256, 784), 10, CE),
    Network("mnist-lenet", LENET, (64, 1, 28, 28), 10, CE),
    Network("mnist-lenet, batch 256", LENET, (256, 1, 28, 28), 10, CE),
    Network("cifar10-mse", mlp(3072, 50, 10, RELU), (200, 3072), 10, MSE),
    Network("cifar10-linear, full batch", (Dense(3072, 10),), (45000, 3072), 10, MSE),
    Network("cifar10-sigmoid", mlp(3072, 200, 10, SIGMOID), (500, 3072), 10, MSE),
    Network("cifar10-sigmoid, full batch", mlp(3072, 200, 10, SIGMOID), (45000, 3072), 10, MSE),
    Network("cifar10-cnn", CNN, (50, 3, 32, 32), 10, CE),
]
ON_DIGITS = [  # four in five of the pixels are zero
    Network("mnist-mlp on digits", mlp(784, 64, 10, SIGMOID), (64, 784), 10, CE, digits=True),
    Network("mnist-mlp on digits, batch 256", mlp(784, 64, 10, SIGMOID), (256, 784), 10, CE, digits=True),
]
by_name = {network.name: network for network in NETWORKS + ON_DIGITS}
