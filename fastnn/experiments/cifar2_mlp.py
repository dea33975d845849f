"""cifar2-mlp: airplane or ship? A hidden layer of ReLU units and a single logit, on two classes of CIFAR-10.

The report's own file of images is not to be had; CIFAR-10 has as many of the two classes. Validation is on
the test images, as in the report. A step follows the gradient summed over the batch: `lr` 0.01 overshoots.
"""

from __future__ import annotations

from fastnn import data
from fastnn.experiments.base import Experiment, Published, Root, Setup, Variant
from fastnn.layers import Linear, ReLU, Sequential
from fastnn.losses import SigmoidCrossEntropy
from fastnn.optim import SGD


def build(
    root: Root,
    *,
    epochs: int = 50,
    batch_size: int = 64,
    lr: float = 1e-4,
    momentum: float = 0.8,
    weight_decay: float = 1e-4,
    hidden: int = 100,
) -> Setup:
    cifar = data.load_cifar2(root)
    x, x_test = (data.scale(x).reshape(-1, 3072) for x in (cifar.x_train, cifar.x_test))
    y, y_test = (labels[:, None].astype("float32") for labels in (cifar.y_train, cifar.y_test))
    model = Sequential(
        Linear(3072, hidden, init="he_normal"),
        ReLU(),
        Linear(hidden, 1, init="he_normal"),
    )
    return Setup(
        dataset=cifar,
        train=(x, y),
        validation=(x_test, y_test),
        test=(x_test, y_test),
        model=model,
        loss=SigmoidCrossEntropy("sum"),
        optimizer=SGD(model.parameters(), lr, momentum=momentum, weight_decay=weight_decay),
        epochs=epochs,
        batch_size=batch_size,
    )


experiment = Experiment(
    "cifar2-mlp",
    build,
    {
        "published": Variant(Published(validation=81.93, train=87.64, loss=0.2847), quick_epochs=10),
        "diverging": Variant(Published(validation=50, train=50, loss=0.71), {"lr": 0.01}, 5),
        "batch-256": Variant(Published(), {"batch_size": 256}, 10),
        "hidden-200": Variant(Published(), {"hidden": 200}, 10),
    },
)
