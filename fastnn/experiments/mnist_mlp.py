"""mnist-mlp: one hidden layer of sigmoid units on MNIST's handwritten digits, trained by plain SGD.

The report does not state how it scales the pixels; here they run from 0 to 1.
"""

from __future__ import annotations

import math
import os

from fastnn import data, init, schedules
from fastnn.experiments.base import Experiment, Published, Setup, Variant
from fastnn.layers import Linear, Sequential, Sigmoid
from fastnn.losses import SoftmaxCrossEntropy
from fastnn.optim import SGD


def build(
    root: str | os.PathLike[str] | None,
    *,
    epochs: int = 70,
    batch_size: int = 64,
    lr: float = 0.01,
    hidden: int = 64,
    l2: float = 1e-4,
    examples: int = 50_000,
) -> Setup:
    mnist = data.load_mnist(root)
    x = data.scale(mnist.x_train).reshape(-1, 784)
    train, validation = data.split(x, mnist.y_train, (50_000, 10_000))
    model = Sequential(
        Linear(784, hidden, init=init.normal(0.1 / math.sqrt(784))),
        Sigmoid(),
        Linear(hidden, 10, init=init.normal(0.1 / math.sqrt(hidden))),
    )
    return Setup(
        train=(train[0][:examples], train[1][:examples]),
        validation=validation,
        test=(data.scale(mnist.x_test).reshape(-1, 784), mnist.y_test),
        model=model,
        loss=SoftmaxCrossEntropy(),
        optimizer=SGD(model.parameters(), lr),
        schedule=schedules.exponential(lr, 0.97),
        l2=l2,
        epochs=epochs,
        batch_size=batch_size,
        image_shape=(1, 28, 28),
        class_names=mnist.class_names,
    )


experiment = Experiment(
    "mnist-mlp",
    build,
    {
        "tuned": Variant(Published(test=95.28, validation=95, train=98, seconds=87.94)),
        "tuned-2000": Variant(Published(validation=88, train=98, seconds=5.55), {"examples": 2000}),
        "baseline": Variant(Published(validation=92.5), {"epochs": 100, "batch_size": 256, "lr": 0.001}),
    },
)
