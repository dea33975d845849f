"""Layers: objects that hold parameters, compute, and find gradients. See :mod:`fastnn.layers.base` for the
rules.
"""

from fastnn.layers.activation import GELU, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from fastnn.layers.base import Layer
from fastnn.layers.conv import Conv2d
from fastnn.layers.dropout import Dropout
from fastnn.layers.linear import Linear
from fastnn.layers.norm import BatchNorm1d, BatchNorm2d
from fastnn.layers.parameter import Parameter
from fastnn.layers.pool import AvgPool2d, MaxPool2d
from fastnn.layers.sequential import Sequential
from fastnn.layers.shape import Flatten

__all__ = [
    "GELU",
    "AvgPool2d",
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
]
