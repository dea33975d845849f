"""cifar10-clr: one hidden layer of ReLU units on standardised CIFAR-10, under a cyclical learning rate.

The rate climbs to `lr` in `step_size` steps and falls in as many. Published for (b) is what four batches of
images lead to, not one. Not stated for (c): 1,000 images to validate on, three cycles of four epochs.
"""

from __future__ import annotations

from fastnn import data, init, schedules
from fastnn.experiments.base import Experiment, LogUniform, Published, Root, Search, Setup, Variant
from fastnn.layers import Linear, ReLU, Sequential
from fastnn.losses import SoftmaxCrossEntropy
from fastnn.optim import SGD


def build(
    root: Root,
    *,
    epochs: int = 10,
    batch_size: int = 100,
    lr: float = 0.1,
    step_size: int = 500,
    l2: float = 0.01,
    hidden: int = 50,
    examples: int = 10_000,
    validation: int = 10_000,
) -> Setup:
    cifar = data.load_cifar10(root)
    train, held = data.split(cifar.x_train.reshape(-1, 3072), cifar.y_train, (examples, validation))
    x, mean, std = data.standardize(train[0])
    small = init.normal(0.01)
    model = Sequential(Linear(3072, hidden, init=small), ReLU(), Linear(hidden, 10, init=small))
    return Setup(
        dataset=cifar,
        train=(x, train[1]),
        validation=(data.standardize(held[0], mean, std)[0], held[1]),
        test=(data.standardize(cifar.x_test.reshape(-1, 3072), mean, std)[0], cifar.y_test),
        model=model,
        loss=SoftmaxCrossEntropy(),
        optimizer=SGD(model.parameters(), lr),
        schedule=schedules.cyclical_triangular(1e-5, lr, step_size),
        schedule_per="step",
        l2=l2,
        epochs=epochs,
        batch_size=batch_size,
    )


_THREE = {"epochs": 12, "step_size": 980, "l2": 0.004, "examples": 49_000, "validation": 1_000}
_TWO = {"epochs": 8, "step_size": 180, "batch_size": 500, "examples": 45_000, "validation": 5_000}
_B = Published(test=51.1, train=53.7, loss=1.5018)
_VARIANTS = {
    "a": Variant(Published(test=47.84, train=49.5, loss=1.6359)),
    "b": Variant(_B, {"epochs": 48, "step_size": 800}, 16),
    "b-four-batches": Variant(_B, {"epochs": 12, "step_size": 800, "examples": 40_000}, 4),
    "c": Variant(Published(test=52.37), _THREE, 4),
}
_COARSE = Search({"l2": LogUniform(1e-5, 1e-1)}, 8, _TWO)
_FINE = Search({"l2": [k / 1000 for k in range(8)]}, settings=_TWO)
experiment = Experiment("cifar10-clr", build, _VARIANTS, {"coarse": _COARSE, "fine": _FINE})
