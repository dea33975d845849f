"""A small problem, a network and a Trainer for it, which the tests of training share."""

from __future__ import annotations

import numpy as np

import fastnn
from fastnn import Dropout, Linear, ReLU, Sequential
from fastnn.losses import SoftmaxCrossEntropy
from fastnn.optim import SGD
from fastnn.training import Trainer

EXAMPLES, BATCH = 90, 16  # five full batches and one of ten


def blobs(examples=EXAMPLES, classes=3, seed=0):
    """Classes that a small network tells apart."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, examples)
    centres = np.random.default_rng(1).normal(0, 2, (classes, 8))
    return (centres[y] + rng.normal(0, 1, (examples, 8))).astype(np.float32), y


def network(seed=3, dropout=True):
    fastnn.seed(seed)
    return Sequential(Linear(8, 12), ReLU(), *([Dropout(0.3)] if dropout else []), Linear(12, 3))


def trainer(model=None, loss=None, optimizer=None, **options):
    model = network() if model is None else model
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9) if optimizer is None else optimizer
    return Trainer(model, loss or SoftmaxCrossEntropy(), optimizer, **{"progress": False, **options})


def weights(model):
    return {name: array.tobytes() for name, array in model.state_dict().items()}
