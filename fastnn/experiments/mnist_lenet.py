"""mnist-lenet: LeNet-5 with ReLU, max-pooling and dropout on MNIST, trained by SGD with momentum.

The report does not state the momentum; here it is 0.9.
"""

from __future__ import annotations

from fastnn import data
from fastnn.experiments.base import Experiment, Published, Root, Setup, Variant
from fastnn.layers import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential
from fastnn.losses import SoftmaxCrossEntropy
from fastnn.optim import SGD


def build(
    root: Root,
    *,
    epochs: int = 70,
    batch_size: int = 64,
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    dropout: float = 0.5,
    examples: int = 50_000,
) -> Setup:
    mnist = data.load_mnist(root)
    (x, y), (x_val, y_val) = data.split(mnist.x_train, mnist.y_train, (50_000, 10_000))
    x, mean, std = data.standardize(x, per="global")
    x_val, _, _ = data.standardize(x_val, mean, std)
    x_test, _, _ = data.standardize(mnist.x_test, mean, std)
    model = Sequential(
        *(Conv2d(1, 6, 5), ReLU(), MaxPool2d(2)),
        *(Conv2d(6, 16, 5), ReLU(), MaxPool2d(2)),
        Flatten(),
        *(Linear(256, 120), ReLU(), Dropout(dropout)),
        *(Linear(120, 84), ReLU(), Dropout(dropout)),
        Linear(84, 10),
    )
    return Setup(
        dataset=mnist,
        train=(x[:examples], y[:examples]),
        validation=(x_val, y_val),
        test=(x_test, mnist.y_test),
        model=model,
        loss=SoftmaxCrossEntropy(),
        optimizer=SGD(model.parameters(), lr, momentum=momentum, weight_decay=weight_decay),
        epochs=epochs,
        batch_size=batch_size,
    )


experiment = Experiment(
    "mnist-lenet",
    build,
    {
        "tuned": Variant(Published(test=98.68, validation=98, seconds=87.66), quick_epochs=3),
        "tuned-2000": Variant(Published(validation=85, seconds=6.16), {"examples": 2000}),
        "baseline": Variant(Published(), {"batch_size": 256, "lr": 0.001}, 10),
    },
)
