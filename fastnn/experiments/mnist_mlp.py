"""mnist-mlp: one hidden layer of sigmoid units on MNIST's handwritten digits, trained by plain SGD.

The report states neither the scale of the pixels nor the reduction of the loss: here pixels run from 0 to 1,
and a step follows the gradient summed over the batch, for with the mean the published rates stay far below
the published accuracy.
"""

from __future__ import annotations

import math

from fastnn import data, init, schedules
from fastnn.experiments.base import Experiment, Published, Root, Setup, Variant
from fastnn.layers import Linear, Sequential, Sigmoid
from fastnn.losses import SoftmaxCrossEntropy
from fastnn.optim import SGD


def build(
    root: Root,
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
        dataset=mnist,
        train=(train[0][:examples], train[1][:examples]),
        validation=validation,
        test=(data.scale(mnist.x_test).reshape(-1, 784), mnist.y_test),
        model=model,
        loss=SoftmaxCrossEntropy("sum"),
        optimizer=SGD(model.parameters(), lr),
        schedule=schedules.exponential(lr, 0.97),
        l2=l2,
        epochs=epochs,
        batch_size=batch_size,
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
