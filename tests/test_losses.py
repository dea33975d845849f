"""Losses: as objects, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import losses
from tests.backends import on_backend  # noqa: F401

REDUCTIONS = ("mean", "batchmean", "sum")


def operands(kind: str, dtype: Any = np.float64, n: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    output = (3 * rng.standard_normal((n, 5))).astype(dtype)
    if kind == "labels":
        return output, rng.integers(0, 5, n)
    if kind == "probabilities":
        return output, rng.dirichlet(np.ones(5), n).astype(dtype)
    return output, rng.random((n, 5)).astype(dtype)


CASES = [
    (losses.SoftmaxCrossEntropy, F.softmax_cross_entropy, "labels"),
    (losses.SoftmaxCrossEntropy, F.softmax_cross_entropy, "probabilities"),
    (losses.SigmoidCrossEntropy, F.sigmoid_cross_entropy, "values"),
    (losses.MSE, F.mse, "values"),
]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("kind", "function", "targets"), CASES)
def test_object_gives_what_the_function_gives(
    backend: str, kind: Any, function: Any, targets: str, reduction: str
) -> None:
    output, y = operands(targets, np.float32, n=200)
    expected, grad = function(output, y, reduction=reduction)
    loss = kind(reduction)
    assert loss.forward(output, y) == expected
    np.testing.assert_array_equal(loss.backward(), grad)
    assert loss(output, y) == expected


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("kind", "function", "targets"), CASES)
def test_gradient_is_that_of_central_differences(
    backend: str, kind: Any, function: Any, targets: str, reduction: str
) -> None:
    output, y = operands(targets)
    loss, h = kind(reduction), 1e-5
    loss.forward(output, y)
    grad = loss.backward()
    for at in np.ndindex(output.shape):
        shifted = output.copy()
        shifted[at] += h
        above = loss.forward(shifted, y)
        shifted[at] -= 2 * h
        numeric = (above - loss.forward(shifted, y)) / (2 * h)
        assert abs(numeric - grad[at]) < 1e-8


def test_values_are_those_of_the_definitions(backend: str) -> None:
    output, labels = operands("labels")
    p = np.exp(output) / np.exp(output).sum(1, keepdims=True)
    terms = -np.log(p[np.arange(7), labels])
    assert losses.SoftmaxCrossEntropy()(output, labels) == pytest.approx(terms.mean(), rel=1e-12)
    _, y = operands("values")
    p = 1 / (1 + np.exp(-output))
    terms = -y * np.log(p) - (1 - y) * np.log(1 - p)
    assert losses.SigmoidCrossEntropy()(output, y) == pytest.approx(terms.mean(), rel=1e-12)
    assert losses.SigmoidCrossEntropy("batchmean")(output, y) == pytest.approx(terms.sum() / 7, rel=1e-12)
    assert losses.MSE("sum", factor=0.5)(output, y) == pytest.approx(
        0.5 * ((output - y) ** 2).sum(), rel=1e-12
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropies_are_exact_at_logits_that_saturate(backend: str, dtype: Any) -> None:
    logits = np.array([[1000.0], [-1000.0]], dtype)
    right, wrong = np.array([[1.0], [0.0]], dtype), np.array([[0.0], [1.0]], dtype)
    loss = losses.SigmoidCrossEntropy("sum")
    assert loss(logits, right) == 0
    assert loss(logits, wrong) == 2000
    np.testing.assert_array_equal(loss.backward(), [[1.0], [-1.0]])
    pair = np.array([[1000.0, -1000.0]], dtype)
    assert losses.SoftmaxCrossEntropy()(pair, np.array([0])) == 0
    assert losses.SoftmaxCrossEntropy()(pair, np.array([1])) == 2000


def test_backward_before_forward_says_what_is_missing() -> None:
    with pytest.raises(RuntimeError, match=r"MSE.*forward"):
        losses.MSE().backward()


@pytest.mark.parametrize("kind", [losses.SoftmaxCrossEntropy, losses.SigmoidCrossEntropy, losses.MSE])
def test_an_unknown_reduction_is_refused_at_once(kind: Any) -> None:
    with pytest.raises(ValueError, match="'average'"):
        kind("average")


def test_l2_penalty_counts_weights_and_no_biases(backend: str) -> None:
    net = fastnn.Sequential(
        fastnn.Conv2d(2, 3, 2, dtype=np.float64), fastnn.Flatten(), fastnn.Linear(3, 4, dtype=np.float64)
    )
    weights = [net[0].weight.data, net[2].weight.data]
    expected = 0.1 * sum((w**2).sum() for w in weights)
    assert losses.l2_penalty(net.parameters(), 0.1) == pytest.approx(expected, rel=1e-14)


def test_as_function_takes_objects_and_functions_and_nothing_else() -> None:
    output, y = operands("values")
    with fastnn.use_backend("numpy"):
        expected, grad = F.mse(output, y)
        for loss in (losses.MSE(), F.mse):
            value, same = losses.as_function(loss)(output, y)
            assert value == expected
            np.testing.assert_array_equal(same, grad)
    for wrong in (losses.MSE, "mse", None):
        with pytest.raises(TypeError, match="forward and backward"):
            losses.as_function(wrong)
