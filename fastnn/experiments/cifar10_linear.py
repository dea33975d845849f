"""cifar10-linear: a linear classifier on CIFAR-10, trained by least squares with all images in one batch.

Not stated: the mean image is subtracted from pixels of 0 to 1 (gradient descent then bears rates up to
0.0181, but 0.0013 with the mean left in: the published rate says which); weights N(0, 0.001); 500 steps.
"""

from __future__ import annotations

from fastnn import data, init, schedules
from fastnn.experiments.base import Experiment, Published, Root, Setup, Variant
from fastnn.layers import Linear, Sequential
from fastnn.losses import MSE
from fastnn.optim import SGD


def build(
    root: Root,
    *,
    epochs: int = 500,
    batch_size: int = 45_000,
    lr: float = 0.017,
    decay: float = 0.999,
    l2: float = 1e-6,
) -> Setup:
    cifar = data.load_cifar10(root)
    train, validation = data.split(
        data.scale(cifar.x_train).reshape(-1, 3072), data.one_hot(cifar.y_train, 10), (45_000, 5_000)
    )
    x, mean = data.subtract_mean(train[0])
    x_val, _ = data.subtract_mean(validation[0], mean)
    x_test, _ = data.subtract_mean(data.scale(cifar.x_test).reshape(-1, 3072), mean)
    model = Sequential(Linear(3072, 10, init=init.normal(0.001)))
    return Setup(
        dataset=cifar,
        train=(x, train[1]),
        validation=(x_val, validation[1]),
        test=(x_test, data.one_hot(cifar.y_test, 10)),
        model=model,
        loss=MSE("batchmean"),
        optimizer=SGD(model.parameters(), lr),
        schedule=schedules.exponential(lr, decay),
        schedule_per="step",
        l2=l2,
        epochs=epochs,
        batch_size=batch_size,
    )


_PUBLISHED = Published(test=40.6, validation=40.4, train=42.39, seconds=7 * 60)
experiment = Experiment("cifar10-linear", build, {"published": Variant(_PUBLISHED, quick_epochs=50)})
