"""fastnn itself, on the backend that the variant names: compiled, or the plain NumPy baseline."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import fastnn
import fastnn.functional as F
from bench.networks import Network
from bench.peers import LR, MOMENTUM, WEIGHT_DECAY
from fastnn import optim
from fastnn.training import TrainingStep


def training(network: Network, variant: str) -> Callable[[], float]:
    fastnn.set_backend(variant)
    return training_step(network, LR)


def training_step(network: Network, lr: float) -> Callable[[], float]:
    """A step of training on the backend in force."""
    x, y = network.batch()
    net = network.build()
    sgd = optim.SGD(net.parameters(), lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    whole = TrainingStep(net, getattr(F, network.loss), sgd)
    return lambda: whole(x, y)


def inference(network: Network, variant: str) -> Callable[[], np.ndarray]:
    fastnn.set_backend(variant)
    x, _ = network.batch()
    net = network.build()
    return lambda: net(x)
