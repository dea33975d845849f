"""cifar10-mse: one hidden layer of ReLU units, trained on CIFAR-10 by least squares on the one-hot labels.

Batches are drawn, not passed over in turn: an epoch is 100 of them here, and the rate falls by the factor
`decay` after as many as hold 49,000 images. Not stated: pixels run from 0 to 255, as the rates need.
"""

from __future__ import annotations

from fastnn import data, init, schedules
from fastnn.experiments.base import Experiment, Published, Root, Search, Setup, Variant
from fastnn.layers import Linear, ReLU, Sequential
from fastnn.losses import MSE, SoftmaxCrossEntropy
from fastnn.optim import SGD


def build(
    root: Root,
    *,
    epochs: int = 11,
    batch_size: int = 200,
    lr: float = 9e-4,
    decay: float = 0.94,
    l2: float = 0.1,
    hidden: int = 50,
    loss: str = "mse",
) -> Setup:
    cifar = data.load_cifar10(root)
    train, validation = data.split(cifar.x_train.reshape(-1, 3072), cifar.y_train, (49_000, 1_000))
    test = cifar.x_test[:1_000].reshape(-1, 3072), cifar.y_test[:1_000]
    x, mean = data.subtract_mean(train[0])
    (x_val, _), (x_test, _) = (data.subtract_mean(part[0], mean) for part in (validation, test))
    y, y_val, y_test = (data.one_hot(part[1], 10) for part in (train, validation, test))
    small = init.normal(1e-4)
    model = Sequential(Linear(3072, hidden, init=small), ReLU(), Linear(hidden, 10, init=small))
    return Setup(
        dataset=cifar,
        train=(x, y),
        validation=(x_val, y_val),
        test=(x_test, y_test),
        model=model,
        loss=MSE("batchmean", factor=0.5) if loss == "mse" else SoftmaxCrossEntropy(),
        optimizer=SGD(model.parameters(), lr),
        schedule=schedules.step(lr, decay, every=49_000 // batch_size),
        schedule_per="step",
        l2=l2 / 2,
        epochs=epochs,
        batch_size=batch_size,
        draws=100,
    )


_VARIANTS = {
    "best": Variant(Published(test=47.9, validation=52.2)),
    "weak": Variant(Published(validation=17.2, loss=0.494), {"epochs": 10, "lr": 1e-5, "decay": 0.95}),
    "cross-entropy": Variant(Published(validation=46.5), {"loss": "ce"}),
}
_GRID = Search({"epochs": [8, 11, 14], "lr": [6e-4, 9e-4, 1.2e-3], "decay": [0.9, 0.94, 0.98]})
experiment = Experiment("cifar10-mse", build, _VARIANTS, {"grid": _GRID})
