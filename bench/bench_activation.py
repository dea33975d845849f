"""Activations and their gradients; softmax and log-softmax over classes."""

from functools import partial

import pytest

import fastnn.functional as F
from tests import cases

functions = pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "gelu"])
shapes = pytest.mark.parametrize("case", cases.ACTIVATION_REAL, ids=cases.by_name)


@functions
@shapes
def bench_activation(time_it, case, name):
    time_it(name, case.name, lambda: partial(getattr(F, name), cases.draw(case.shape)))


@functions
@shapes
def bench_activation_backward(time_it, case, name):
    x, grad = cases.draw(case.shape, 1), cases.draw(case.shape, 2)
    saved = x if name == "gelu" else getattr(F, name)(x)
    time_it(f"{name}_backward", case.name, lambda: partial(getattr(F, f"{name}_backward"), grad, saved))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("case", cases.SOFTMAX_REAL, ids=cases.by_name)
def bench_softmax(time_it, case, name):
    time_it(name, case.name, lambda: partial(getattr(F, name), cases.draw(case.shape)))
