"""The parameter updates of the reference, against the papers' formulas followed one number at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastnn.kernels.reference import update

GRADS = [0.5, -0.25, 2.0, 0.125]
START = 1.5


def follow_sgd(lr: float, momentum: float, dampening: float, decay: float, nesterov: bool) -> list[float]:
    p, buffer, path = START, None, []
    for g in GRADS:
        d = g + decay * p
        if momentum:
            buffer = d if buffer is None else momentum * buffer + (1 - dampening) * d
            d = d + momentum * buffer if nesterov else buffer
        p -= lr * d
        path.append(p)
    return path


def follow_adam(lr: float, b1: float, b2: float, eps: float, decay: float, decoupled: bool) -> list[float]:
    p, m, v, path = START, 0.0, 0.0, []
    for t, g in enumerate(GRADS, 1):
        if decoupled:
            p -= lr * decay * p
        else:
            g += decay * p
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        p -= lr * (m / (1 - b1**t)) / (math.sqrt(v / (1 - b2**t)) + eps)
        path.append(p)
    return path


def follow_rmsprop(lr: float, alpha: float, eps: float, decay: float, momentum: float) -> list[float]:
    p, s, buffer, path = START, 0.0, 0.0, []
    for g in GRADS:
        g += decay * p
        s = alpha * s + (1 - alpha) * g * g
        buffer = momentum * buffer + g / (math.sqrt(s) + eps)
        p -= lr * buffer
        path.append(p)
    return path


def run(
    kernel: Callable[..., None], states: int, arguments: tuple[Any, ...], last: Callable[[int], tuple]
) -> list:
    """The path of a parameter of two axes, over (2, 3) memory read by columns."""
    param, grad, *state = (np.zeros((2, 3)).T for _ in range(2 + states))
    param[...] = START
    table = update.bind([param], [grad], *[[s] for s in state])
    path = []
    for step, g in enumerate(GRADS):
        grad[...] = g
        kernel(table, *arguments, *last(step))
        assert (param == param[0, 0]).all()
        assert (grad == g).all()
        path.append(param[0, 0])
    return path


@pytest.mark.parametrize(
    ("momentum", "dampening", "decay", "nesterov"),
    [
        (0.0, 0.0, 0.0, False),
        (0.0, 0.0, 0.1, False),
        (0.9, 0.0, 0.1, False),
        (0.9, 0.3, 0.0, False),
        (0.9, 0.0, 0.1, True),
    ],
)
def test_sgd_follows_its_formula(momentum: float, dampening: float, decay: float, nesterov: bool) -> None:
    arguments = 0.1, momentum, dampening, decay, nesterov
    path = run(update.sgd, 1 if momentum else 0, arguments, lambda step: (step == 0,))
    np.testing.assert_allclose(path, follow_sgd(*arguments), rtol=1e-14)


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_follows_its_formula(decoupled: bool) -> None:
    arguments = 0.1, 0.9, 0.99, 1e-8, 0.05, decoupled
    path = run(update.adam, 2, arguments, lambda step: (step + 1,))
    np.testing.assert_allclose(path, follow_adam(*arguments), rtol=1e-14)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rmsprop_follows_its_formula(momentum: float) -> None:
    arguments = 0.1, 0.9, 1e-8, 0.05, momentum
    path = run(update.rmsprop, 2 if momentum else 1, arguments, lambda step: ())
    np.testing.assert_allclose(path, follow_rmsprop(*arguments), rtol=1e-14)


def test_sgd_without_decay_or_momentum_moves_an_infinite_parameter_nowhere() -> None:
    param = np.array([np.inf, 1.0])
    update.sgd(update.bind([param], [np.ones(2)]), 0.5, 0.0, 0.0, 0.0, False, True)
    np.testing.assert_array_equal(param, [np.inf, 0.5])


@pytest.mark.parametrize(
    "other",
    [
        np.zeros((3, 4)),
        np.zeros((4, 3), np.float32),
        np.zeros((3, 4)).T,
        np.zeros((4, 6))[:, ::2],
    ],
    ids=["shape", "dtype", "memory order", "gaps"],
)
def test_bind_refuses_an_array_that_does_not_lie_like_its_parameter(other: np.ndarray) -> None:
    with pytest.raises(ValueError, match="parameter 0: "):
        update.bind([np.zeros((4, 3))], [other])


def test_bind_refuses_lists_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="2 parameters, but 1"):
        update.bind([np.zeros(3), np.zeros(3)], [np.zeros(3)])
