"""fastnn: train and run small neural networks at the speed of the machine, from plain NumPy.

>>> import fastnn
>>> net = fastnn.Sequential(fastnn.Linear(784, 64), fastnn.Sigmoid(), fastnn.Linear(64, 10))
"""

from fastnn import functional, init, layers, losses, metrics, optim, schedules
from fastnn.backend import (
    Backend,
    BackendUnavailable,
    available_backends,
    get_backend,
    get_float32_precision,
    get_num_threads,
    seed,
    set_backend,
    set_float32_precision,
    set_num_threads,
    use_backend,
)
from fastnn.gradcheck import gradcheck  # the function, which from here on hides its module of that name
from fastnn.layers import (
    GELU,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Parameter,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
)

__version__ = "0.1.0"

__all__ = [
    "GELU",
    "AvgPool2d",
    "Backend",
    "BackendUnavailable",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Layer",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "available_backends",
    "functional",
    "get_backend",
    "get_float32_precision",
    "get_num_threads",
    "gradcheck",
    "init",
    "layers",
    "losses",
    "metrics",
    "optim",
    "schedules",
    "seed",
    "set_backend",
    "set_float32_precision",
    "set_num_threads",
    "use_backend",
]
