"""Networks trained for 200 steps from one seed, down to a digest of their weights: equal digests, equal bits.

``python -m tests.trained small`` trains one in a process of its own and prints the digest.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn
import fastnn.functional as F
from fastnn import layers as ly
from fastnn import optim

STEPS = 200
SIZE = (3, 16, 16)


Network = tuple[ly.Sequential, list[optim.Optimizer], Callable[[Any, Any], tuple[float, Any]]]


def every_layer() -> Network:
    """Every kind of layer, and three optimisers; convolution goes several ways."""
    net = ly.Sequential(
        *(ly.Conv2d(3, 16, 3, padding=1), ly.Tanh()),
        *(ly.Conv2d(16, 16, 3, padding=1), ly.ReLU(), ly.MaxPool2d(2), ly.BatchNorm2d(16)),
        *(ly.Conv2d(16, 20, 3, groups=2), ly.LeakyReLU(), ly.AvgPool2d(2), ly.Flatten()),
        *(ly.Linear(180, 90), ly.GELU(), ly.BatchNorm1d(90), ly.Dropout(0.3)),
        *(ly.Linear(90, 40), ly.Sigmoid(), ly.Linear(40, 10), ly.Softmax()),
    )
    parameters = net.parameters()
    optimizers: list[optim.Optimizer] = [
        optim.SGD(parameters[:4], lr=0.05, momentum=0.9, weight_decay=1e-4),
        optim.Adam(parameters[4:8], lr=1e-3),
        optim.RMSprop(parameters[8:], lr=1e-3, momentum=0.5),
    ]
    return net, optimizers, F.softmax_cross_entropy


def lenet() -> Network:
    """Convolutions pooled at once: with few filters, and by lists of gradients."""
    net = ly.Sequential(
        *(ly.Conv2d(3, 6, 5), ly.ReLU(), ly.MaxPool2d(2)),
        *(ly.Conv2d(6, 16, 3), ly.Sigmoid(), ly.MaxPool2d(2), ly.Flatten()),
        *(ly.Linear(64, 32), ly.ReLU(), ly.Linear(32, 10)),
    )
    return net, [optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True)], F.softmax_cross_entropy


def small() -> Network:
    """Few kernels, and those soon compiled."""
    net = ly.Sequential(ly.Flatten(), ly.BatchNorm1d(768), ly.Tanh(), ly.BatchNorm1d(768))
    return net, [optim.SGD(net.parameters(), lr=0.05, momentum=0.9)], distance


def distance(out: Any, labels: Any) -> tuple[float, Any]:
    return F.mse(out, np.repeat(labels[:, None], out.shape[1], 1).astype(out.dtype))


NETWORKS = {network.__name__: network for network in (every_layer, lenet, small)}


def digest(network: str) -> str:
    """The last loss of the network of that name and a digest of its weights, after `STEPS` steps."""
    with fastnn.use_backend("numba"):
        fastnn.seed(0)
        net, optimizers, loss_of = NETWORKS[network]()
        rng = np.random.default_rng(0)
        for _ in range(STEPS):
            x, y = rng.standard_normal((37, *SIZE), np.float32), rng.integers(0, 10, 37)
            loss, grad = loss_of(net.forward(x, training=True), y)
            net.backward(grad, input_grad=False)
            for optimizer in optimizers:
                optimizer.step()
    weights = b"".join(np.ascontiguousarray(value).tobytes() for value in net.state_dict().values())
    return f"{loss.hex()} {hashlib.sha256(weights).hexdigest()}"


if __name__ == "__main__":
    print(digest(sys.argv[1]))
