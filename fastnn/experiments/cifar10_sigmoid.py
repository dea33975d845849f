"""cifar10-sigmoid: a hidden layer of sigmoid units on CIFAR-10, by least squares, in batches or all at once.

Not stated: the mean image is subtracted from pixels of 0 to 100; weights start as N(0, 0.001), and the output
layer's as N(0, output_std), on which the result hangs; all images at once took 25 minutes, here 250 steps.
"""

from __future__ import annotations

from fastnn import data, init, schedules
from fastnn.experiments.base import Experiment, Published, Root, Setup, Variant
from fastnn.layers import Linear, Sequential, Sigmoid
from fastnn.losses import MSE
from fastnn.optim import SGD


def build(
    root: Root,
    *,
    epochs: int = 300,
    batch_size: int = 500,
    lr: float = 0.001,
    decay: float = 0.95,
    l2: float = 1e-3,
    hidden: int = 200,
    output_std: float = 0.02,
) -> Setup:
    cifar = data.load_cifar10(root)
    train, validation = data.split(
        data.scale(cifar.x_train, 0, 100).reshape(-1, 3072), data.one_hot(cifar.y_train, 10), (45_000, 5_000)
    )
    x, mean = data.subtract_mean(train[0])
    x_val, _ = data.subtract_mean(validation[0], mean)
    x_test, _ = data.subtract_mean(data.scale(cifar.x_test, 0, 100).reshape(-1, 3072), mean)
    output = Linear(hidden, 10, init=init.normal(output_std))
    model = Sequential(Linear(3072, hidden, init=init.normal(0.001)), Sigmoid(), output)
    return Setup(
        dataset=cifar,
        train=(x, train[1]),
        validation=(x_val, validation[1]),
        test=(x_test, data.one_hot(cifar.y_test, 10)),
        model=model,
        loss=MSE("batchmean"),
        optimizer=SGD(model.parameters(), lr),
        schedule=schedules.exponential(lr, decay),
        l2=l2,
        epochs=epochs,
        batch_size=batch_size,
    )


_SGD = Published(test=47.27, validation=48.18, train=57.03, seconds=41 * 60)
_FULL = Published(test=43.53, validation=43.84, train=47.0, seconds=25 * 60)
_ALL = {"epochs": 250, "batch_size": 45_000, "lr": 0.015, "decay": 0.9999, "l2": 1e-6, "output_std": 0.001}
_VARIANTS = {"sgd": Variant(_SGD, quick_epochs=5), "full-batch": Variant(_FULL, _ALL, 20)}
experiment = Experiment("cifar10-sigmoid", build, _VARIANTS)
