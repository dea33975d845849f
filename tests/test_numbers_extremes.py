"""Very large logits, very small numbers: what comes out is finite and right, nothing is flushed to zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastnn.backend import Backend
from tests import cases, parity
from tests.rooms import CPU, REFERENCE

each_room = pytest.mark.parametrize("room", [REFERENCE, CPU], ids=["reference", "cpu"])
each_dtype = pytest.mark.parametrize("dtype", parity.DTYPES)


def logits_of(classes: int, dtype: Any, rows: int = 60) -> np.ndarray:
    """±1e4, and numbers about these and about zero."""
    rng = np.random.default_rng([classes])
    return (rng.choice([-1e4, 0, 1e4], (rows, classes)) + rng.choice([0, 1], (rows, classes)) * 3).astype(
        dtype
    )


def softmax_cross_entropy(row: list[float], shares: list[float]) -> tuple[float, list[float]]:
    """Loss and gradient of one row by Python's own arithmetic."""
    peak = max(row)
    powers = [math.exp(z - peak) for z in row]
    total = math.fsum(powers)
    loss = math.fsum(t * (peak - z + math.log(total)) for z, t in zip(row, shares, strict=True))
    mass = math.fsum(shares)
    return loss, [p / total * mass - t for p, t in zip(powers, shares, strict=True)]


@each_dtype
@each_room
@pytest.mark.parametrize("kind", ["labels", "shares"])
@pytest.mark.parametrize("classes", [2, 10, 100])  # short rows and long ones take two ways
def test_softmax_cross_entropy_of_huge_logits_is_finite_and_right(
    classes: int, kind: str, room: Backend, dtype: Any
) -> None:
    logits, rng = logits_of(classes, dtype), np.random.default_rng(0)
    labels = rng.integers(0, classes, len(logits))
    shares = np.eye(classes, dtype=dtype)[labels]
    if kind == "shares":
        shares = (0.75 * shares + 0.25 / classes).astype(dtype)
    exact = [softmax_cross_entropy(*rows) for rows in zip(logits.tolist(), shares.tolist(), strict=True)]
    loss, grad = room.loss.softmax_cross_entropy(logits, labels if kind == "labels" else shares, 0.5)
    eps = float(np.finfo(dtype).eps)
    assert loss == pytest.approx(0.5 * math.fsum(loss for loss, _ in exact), rel=8 * eps)
    np.testing.assert_allclose(grad, [[0.5 * g for g in row] for _, row in exact], rtol=0, atol=16 * eps)
    assert np.isfinite(grad).all()


@each_dtype
@each_room
@pytest.mark.parametrize("classes", [10, 70, 151])
def test_softmax_finds_the_largest_logit_wherever_it_is(classes: int, room: Backend, dtype: Any) -> None:
    x = np.full((classes, classes), -1e4, dtype)
    np.fill_diagonal(x, 1e4)
    np.testing.assert_array_equal(room.activation.softmax(x, 1), np.eye(classes, dtype=dtype))
    np.testing.assert_array_equal(room.activation.log_softmax(x, 1), x - dtype(1e4))


@each_dtype
@each_room
@pytest.mark.parametrize("classes", [10, 70, 151])
def test_softmax_keeps_its_digits_however_large_its_logits_are(
    classes: int, room: Backend, dtype: Any
) -> None:
    x = np.random.default_rng(classes).integers(-20, 20, (33, classes)).astype(dtype)
    raised, labels = x + dtype(2**18), np.arange(33) % classes
    for function in (room.activation.softmax, room.activation.log_softmax):
        np.testing.assert_array_equal(function(raised, 1), function(x, 1))
    for targets in (labels, np.eye(classes, dtype=dtype)[labels]):
        loss = room.loss.softmax_cross_entropy
        assert loss(raised, targets, 1.0)[0] == loss(x, targets, 1.0)[0]


@each_dtype
@each_room
def test_sigmoid_cross_entropy_of_those_who_are_sure_and_right_keeps_its_digits(
    room: Backend, dtype: Any
) -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 3000).astype(dtype)
    logits = (np.where(targets > 0, 1, -1) * rng.uniform(8, 3000, 3000)).astype(dtype)
    exact = math.fsum(math.log1p(math.exp(-abs(logit))) for logit in logits.tolist())
    loss, _ = room.loss.sigmoid_cross_entropy(logits, targets, 1.0)
    assert loss == pytest.approx(exact, rel=8 * float(np.finfo(dtype).eps))


@each_dtype
@each_room
def test_sigmoid_cross_entropy_of_huge_logits_is_finite_and_right(room: Backend, dtype: Any) -> None:
    logits, rng = logits_of(7, dtype), np.random.default_rng(0)
    targets = rng.choice([0, 0.25, 1], logits.shape).astype(dtype)
    pairs = list(zip(logits.ravel().tolist(), targets.ravel().tolist(), strict=True))
    exact = math.fsum(max(z, 0) - z * t + math.log1p(math.exp(-abs(z))) for z, t in pairs)
    slopes = [(1 if z >= 0 else math.exp(z)) / (1 + math.exp(-abs(z))) - t for z, t in pairs]
    loss, grad = room.loss.sigmoid_cross_entropy(logits, targets, 0.5)
    eps = float(np.finfo(dtype).eps)
    assert loss == pytest.approx(0.5 * exact, rel=8 * eps)
    np.testing.assert_allclose(grad.ravel(), np.multiply(0.5, slopes), rtol=0, atol=8 * eps)
    assert np.isfinite(grad).all()


@each_dtype
@each_room
@pytest.mark.parametrize("classes", [2, 100])
def test_softmax_reaches_down_through_the_denormals(classes: int, room: Backend, dtype: Any) -> None:
    limits = np.finfo(dtype)
    x = np.zeros((40, classes), dtype)
    total = np.log(classes - 1)
    x[:, 1] = np.linspace(np.log(limits.tiny) - 0.5, np.log(limits.smallest_subnormal) + 2, 40) + total
    exact = np.exp(x[:, 1].astype(np.longdouble))
    exact /= exact + (classes - 1)
    actual = room.activation.softmax(x, 1)[:, 1]
    assert (actual > 0).all()
    assert (actual < limits.tiny).all()
    np.testing.assert_allclose(
        actual.astype(np.longdouble), exact, rtol=0, atol=2 * float(limits.smallest_subnormal)
    )


ONE, NONE = (1, 1), (0, 0)


def factors(dtype: Any, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Numbers whose products, one with another, are denormal."""
    small = dtype(2.0 ** (np.finfo(dtype).minexp // 2 - 6))
    return [cases.draw(shape, seed, dtype) * small for seed, shape in enumerate(shapes)]


def denormals(dtype: Any, *shape: int, seed: int = 1) -> np.ndarray:
    return cases.draw(shape, seed, dtype) * np.finfo(dtype).tiny / dtype(8)


def products(room: Backend, dtype: Any) -> Any:
    return room.linear.linear(*factors(dtype, (37, 9), (9, 35)), None, "relu")


def convolution(room: Backend, dtype: Any, channels: int = 3) -> Any:
    x, weight = factors(dtype, (9, channels, 12, 12), (channels, channels, 3, 3))
    return room.conv.conv2d(x, weight, None, ONE, ONE, ONE, 1, None)


def convolution_of_16_channels(room: Backend, dtype: Any) -> Any:
    return convolution(room, dtype, 16)


def gradient_of_tanh(room: Backend, dtype: Any) -> Any:
    return room.activation.tanh_backward(denormals(dtype, 300), np.full(300, 0.5, dtype))


def leaky_relu(room: Backend, dtype: Any) -> Any:
    return room.activation.leaky_relu(denormals(dtype, 300), 0.01)


def maxima(room: Backend, dtype: Any) -> Any:
    return room.pool.max_pool2d(denormals(dtype, 2, 3, 8, 8), (2, 2), (2, 2), NONE, ONE, False)[0]


def means(room: Backend, dtype: Any) -> Any:
    return room.pool.avg_pool2d(denormals(dtype, 2, 3, 8, 8), (2, 2), (2, 2), NONE, False, True)


def gradient_of_mse(room: Backend, dtype: Any) -> Any:
    return room.loss.mse(denormals(dtype, 300), np.zeros(300, dtype), 0.5)[1]


def dropout(room: Backend, dtype: Any) -> Any:
    return room.random.dropout(denormals(dtype, 300), 0.5, 1, 2)


def sgd(room: Backend, dtype: Any) -> Any:
    param, grad = denormals(dtype, 300), denormals(dtype, 300, seed=2)
    room.update.sgd(room.update.bind([param], [grad]), 0.5, 0.0, 0.0, 0.0, False, True)
    return param


DENORMAL: dict[
    Callable[[Backend, Any], Any], int
] = {  # the terms of a sum; 1 rounds once, as the reference does
    products: 9,
    convolution: 27,
    convolution_of_16_channels: 144,
    gradient_of_tanh: 1,
    leaky_relu: 1,
    maxima: 1,
    means: 4,
    gradient_of_mse: 1,
    dropout: 1,
    sgd: 2,
}


@each_dtype
@pytest.mark.parametrize("call", DENORMAL, ids=lambda call: call.__name__)
def test_denormals_go_in_and_come_out(call: Callable[[Backend, Any], Any], dtype: Any) -> None:
    ours, theirs, terms = call(CPU, dtype), call(REFERENCE, dtype), DENORMAL[call]
    limits = np.finfo(dtype)
    assert (np.abs(theirs) < limits.tiny).all()
    assert np.count_nonzero(theirs) > theirs.size // 4
    rounding = terms * float(limits.smallest_subnormal)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=rounding if terms > 1 else rounding / 2)
