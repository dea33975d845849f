"""kernels/cpu/norm.py against kernels/reference/norm.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastnn.kernels.cpu import norm as cpu
from fastnn.kernels.reference import norm as reference
from tests import cases, parity

MOMENTUM, EPS = 0.1, 1e-5


def axes(x: np.ndarray) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def column(v: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A vector over channels, so that it broadcasts over x."""
    return v.reshape(-1, *[1] * (x.ndim - 2))


def parameters(channels: int, dtype: Any) -> list[np.ndarray]:
    """weight, bias, running_mean, running_var"""
    drawn = [cases.draw((channels,), seed, dtype) for seed in range(4)]
    return [*drawn[:3], np.abs(drawn[3]) + dtype(0.1)]


def assert_batch_norm(x: np.ndarray, grad: np.ndarray, training: bool, input_grad: bool = True) -> None:
    weight, bias, mean, var = parameters(x.shape[1], x.dtype.type)
    wide_x, wide_weight, wide_bias, wide_mean, wide_var = (
        a.copy() for a in parity.wide(x, weight, bias, mean, var)
    )
    running = mean.copy(), var.copy()
    out, got_mean, got_inv = cpu.batch_norm(x, weight, bias, *running, training, MOMENTUM, EPS)
    expected, expected_mean, expected_inv = reference.batch_norm(
        wide_x, wide_weight, wide_bias, wide_mean, wide_var, training, MOMENTUM, EPS
    )
    count = x.size // max(1, x.shape[1])
    unit = (32 + 4 * max(1, count) ** 0.5) * np.finfo(x.dtype).eps
    spread = column(expected_inv, x) * (
        np.abs(wide_x) + np.abs(column(expected_mean, x))
    )  # of the normalised values
    widest = spread.max(axes(x), initial=1)
    size = np.abs(wide_x).mean(axes(x)) if count else 0
    assert out.dtype == x.dtype
    parity.assert_close(
        out,
        expected,
        unit * (column(np.abs(wide_weight) * widest, x) * (1 + spread) + column(np.abs(wide_bias), x)),
        "out",
    )
    parity.assert_close(got_mean, expected_mean, unit * (size + np.abs(expected_mean)), "mean")
    parity.assert_close(got_inv, expected_inv, unit * expected_inv * widest, "inv_std")
    parity.assert_close(running[0], wide_mean, unit * (size + np.abs(wide_mean)), "running_mean")
    parity.assert_close(running[1], wide_var, unit * wide_var * widest, "running_var")

    saved = expected_mean.astype(x.dtype), expected_inv.astype(x.dtype)
    grads = parity.call(cpu.batch_norm_backward, grad, x, weight, *saved, training, input_grad)
    expected = reference.batch_norm_backward(*parity.wide(grad, x, weight, *saved), training, True)
    g = np.abs(grad).astype(np.float64)
    scale = column(np.abs(wide_weight) * expected_inv, x)
    mixed = g + (
        g.mean(axes(x), keepdims=True) + spread * (g * spread).mean(axes(x), keepdims=True) if count else 0
    )
    bounds = unit * scale * mixed, unit * (g * spread).sum(axes(x)), unit * g.sum(axes(x))
    for actual, right, bound, label in zip(
        grads, expected, bounds, ("grad_x", "grad_weight", "grad_bias"), strict=True
    ):
        if label == "grad_x" and not input_grad:
            assert actual is None
        else:
            parity.assert_close(actual, right, bound, label)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("case", cases.NORM_REAL + cases.NORM_ODD, ids=cases.by_name)
def test_batch_norm_and_its_gradients_match_the_reference(
    case: cases.Norm, dtype: Any, training: bool
) -> None:
    x, grad = cases.draw(case.x, 1, dtype), cases.draw(case.x, 2, dtype)
    if x.ndim == 4:
        x, grad = cases.channels_last(x), cases.channels_last(grad)
    assert_batch_norm(x, grad, training)
    assert_batch_norm(x, grad, training, input_grad=False)


images = st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 6), st.integers(2, 6))
tables = st.tuples(st.integers(2, 40), st.integers(1, 40))


@given(
    st.one_of(images, tables),
    parity.dtypes,
    st.booleans(),
    st.tuples(parity.layouts, parity.layouts),
    parity.seeds,
)
def test_batch_norm_matches_for_any_shape_and_memory(shape, dtype, training, layout, seed) -> None:
    x, grad = parity.floats(seed, shape, dtype, layout[0]), parity.floats(seed + 1, shape, dtype, layout[1])
    assert_batch_norm(x, grad, training)


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4, 5)])
def test_batch_norm_takes_an_empty_batch_at_inference(shape: tuple[int, ...]) -> None:
    assert_batch_norm(np.empty(shape, np.float32), np.empty(shape, np.float32), training=False)


def test_batch_norm_keeps_channels_last_memory() -> None:
    x = cases.channels_last(cases.draw((3, 5, 4, 6)))
    weight, bias, mean, var = parameters(5, np.float32)
    out, batch_mean, inv_std = cpu.batch_norm(x, weight, bias, mean, var, True, MOMENTUM, EPS)
    parity.assert_same_order(out, x)
    grad_x = cpu.batch_norm_backward(out, x, weight, batch_mean, inv_std, True, True)[0]
    parity.assert_same_order(grad_x, x)


def test_batch_norm_of_values_far_from_zero_keeps_their_variance() -> None:
    x = (cases.draw((200, 3), 1, np.float64) + 1e4).astype(np.float32)
    weight, bias, mean, var = parameters(3, np.float32)
    inv_std = cpu.batch_norm(x, weight, bias, mean, var, True, MOMENTUM, EPS)[2]
    np.testing.assert_allclose(inv_std, 1 / np.sqrt(x.var(0, dtype=np.float64) + EPS), rtol=1e-4)


def test_batch_norm_backward_fills_the_arrays_it_is_given() -> None:
    x, grad = cases.draw((9, 5), 1), cases.draw((9, 5), 2)
    weight, _, mean, inv_std = parameters(5, np.float32)
    fresh = cpu.batch_norm_backward(grad, x, weight, mean, inv_std, True, True)
    out = np.empty_like(weight), np.empty_like(weight)
    grads = cpu.batch_norm_backward(grad, x, weight, mean, inv_std, True, True, out)
    assert grads[1] is out[0]
    assert grads[2] is out[1]
    for given_array, own in zip(grads, fresh, strict=True):
        np.testing.assert_array_equal(given_array, own)


@pytest.mark.parametrize("case", cases.NORM_ODD, ids=cases.by_name)
def test_batch_norm_and_its_running_statistics_match_torch(case: cases.Norm) -> None:
    torch = pytest.importorskip("torch")
    x, grad = cases.draw(case.x, 1, np.float64), cases.draw(case.x, 2, np.float64)
    weight, bias, mean, var = parameters(case.x[1], np.float64)
    tensors = [torch.from_numpy(a).requires_grad_() for a in (x, weight, bias)]
    running = [torch.from_numpy(a.copy()) for a in (mean, var)]
    expected = torch.nn.functional.batch_norm(tensors[0], *running, *tensors[1:], True, MOMENTUM, EPS)
    expected.backward(torch.from_numpy(grad))
    out, batch_mean, inv_std = cpu.batch_norm(x, weight, bias, mean, var, True, MOMENTUM, EPS)
    np.testing.assert_allclose(out, expected.detach().numpy(), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(mean, running[0].numpy(), rtol=1e-12)
    np.testing.assert_allclose(var, running[1].numpy(), rtol=1e-12)
    grads = cpu.batch_norm_backward(grad, x, weight, batch_mean, inv_std, True, True)
    for actual, tensor in zip(grads, tensors, strict=True):
        np.testing.assert_allclose(actual, tensor.grad.numpy(), rtol=1e-8, atol=1e-10)
