"""kernels/cpu/linear.py against kernels/reference/linear.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastnn.kernels.cpu import linear as cpu
from fastnn.kernels.reference import linear as reference
from tests import cases, parity

ACTIVATIONS = (None, "relu", "leaky_relu", "sigmoid", "tanh", "gelu")
sizes = st.integers(0, 70)


def assert_linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, activation: str | None) -> None:
    out = parity.call(cpu.linear, x, weight, bias, activation)
    with np.errstate(all="ignore"):
        expected = reference.linear(*parity.wide(x, weight, bias), activation)
        magnitude = reference.linear(*parity.absolute(x, weight, bias), None)
    bound = parity.activated_bound(activation, len(weight), magnitude, expected)
    parity.assert_close(out, expected, bound * np.finfo(x.dtype).eps, "linear")


def assert_linear_backward(grad: np.ndarray, x: np.ndarray, weight: np.ndarray, input_grad: bool) -> None:
    grads = parity.call(cpu.linear_backward, grad, x, weight, input_grad)
    if not input_grad:
        assert grads[0] is None
    terms = (weight.shape[1], len(x), len(x))
    for i, label in enumerate(("grad_x", "grad_weight", "grad_bias")):
        if grads[i] is not None:

            def one(*operands: Any, i: int = i) -> np.ndarray:
                return reference.linear_backward(*operands, True)[i]

            parity.assert_sum_of_products(grads[i], one, [grad, x, weight], terms[i], label)


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("case", cases.LINEAR_REAL + cases.LINEAR_ODD, ids=cases.by_name)
def test_linear_and_its_gradients_match_the_reference(case: cases.Linear, dtype: Any) -> None:
    x, weight, bias, grad = case.operands(dtype)
    assert_linear(x, weight, bias, case.activation)
    assert_linear(x, weight, None, None)
    assert_linear_backward(grad, x, weight, True)
    assert_linear_backward(grad, x, weight, False)


@given(
    st.tuples(sizes, sizes, sizes),
    parity.dtypes,
    st.sampled_from(ACTIVATIONS),
    st.booleans(),
    st.tuples(parity.layouts, parity.layouts, parity.layouts),
    parity.seeds,
    st.booleans(),
)
def test_linear_matches_for_any_shape_and_memory(
    shape, dtype, activation, with_bias, layout, seed, special
) -> None:
    n, k, m = shape
    x, weight = parity.floats(seed, (n, k), dtype), parity.floats(seed + 1, (k, m), dtype)
    if special:
        x = parity.plant(x, seed)
    bias = parity.floats(seed + 2, (m,), dtype, layout[2]) if with_bias else None
    assert_linear(parity.arrange(x, layout[0]), parity.arrange(weight, layout[1]), bias, activation)


@given(
    st.tuples(sizes, sizes, sizes),
    parity.dtypes,
    st.booleans(),
    st.tuples(parity.layouts, parity.layouts, parity.layouts),
    parity.seeds,
    st.booleans(),
)
def test_linear_backward_matches_for_any_shape_and_memory(
    shape, dtype, input_grad, layout, seed, special
) -> None:
    n, k, m = shape
    grad = parity.floats(seed, (n, m), dtype)
    if special:
        grad = parity.plant(grad, seed)
    x, weight = (
        parity.floats(seed + 1, (n, k), dtype, layout[1]),
        parity.floats(seed + 2, (k, m), dtype, layout[2]),
    )
    assert_linear_backward(parity.arrange(grad, layout[0]), x, weight, input_grad)


@pytest.mark.parametrize("layout", parity.LAYOUTS)
def test_linear_backward_fills_the_arrays_it_is_given(layout: str) -> None:
    x, weight, bias, grad = cases.Linear("", 13, 21, 17).operands()
    fresh = cpu.linear_backward(grad, x, weight, False)
    out = (parity.arrange(weight, layout).copy(order="K"), bias.copy())
    grads = cpu.linear_backward(grad, x, weight, False, out)
    assert grads[1] is out[0]
    assert grads[2] is out[1]
    np.testing.assert_array_equal(out[0], fresh[1])
    np.testing.assert_array_equal(out[1], fresh[2])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_linear_keeps_a_value_that_is_not_finite_in_its_own_row(value: float) -> None:
    x, weight, _, _ = cases.Linear("", 29, 40, 35).operands()
    x[17, 23] = value
    out = cpu.linear(x, weight, None, None)
    assert np.isfinite(np.delete(out, 17, axis=0)).all()
    np.testing.assert_array_equal(out[17], value * weight[23])


@pytest.mark.parametrize("case", cases.LINEAR_ODD, ids=cases.by_name)
def test_linear_and_its_gradients_match_torch(case: cases.Linear) -> None:
    torch = pytest.importorskip("torch")
    x, weight, bias, grad = case.operands(np.float64)
    tensors = [torch.from_numpy(a).requires_grad_() for a in (x, weight, bias)]
    expected = tensors[0] @ tensors[1] + tensors[2]
    expected.backward(torch.from_numpy(grad))
    np.testing.assert_allclose(
        cpu.linear(x, weight, bias, None), expected.detach().numpy(), rtol=0, atol=1e-12
    )
    for actual, tensor in zip(cpu.linear_backward(grad, x, weight, True), tensors, strict=True):
        np.testing.assert_allclose(actual, tensor.grad.numpy(), rtol=0, atol=1e-12)
