"""kernels/cpu/activation.py against kernels/reference/activation.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastnn.kernels.cpu import activation as cpu
from fastnn.kernels.reference import activation as reference
from tests import cases, parity

# name -> (further arguments, rounding of forward(x, out), of backward(grad, saved)), both in units of 8 eps
ELEMENTWISE: dict[str, tuple[tuple[Any, ...], Callable[..., Any], Callable[..., Any]]] = {
    "relu": ((), lambda x, out: 0, lambda grad, out: 0),
    "leaky_relu": ((0.01,), lambda x, out: abs(out), lambda grad, x: abs(grad)),
    "sigmoid": ((), lambda x, out: out, lambda grad, out: abs(grad * out)),
    "tanh": ((), lambda x, out: abs(out), lambda grad, out: abs(grad)),
    "gelu": (("none",), lambda x, out: abs(x), lambda grad, x: abs(grad) * (1 + abs(x))),
    "gelu tanh": (("tanh",), lambda x, out: abs(x), lambda grad, x: abs(grad) * (1 + abs(x))),
}
NAMES = tuple(ELEMENTWISE)


def assert_elementwise(name: str, x: np.ndarray, grad: np.ndarray) -> None:
    function, backward = name.split()[0], name.split()[0] + "_backward"
    extra, forward_scale, backward_scale = ELEMENTWISE[name]
    limits = np.finfo(x.dtype)
    with np.errstate(all="ignore"):
        out = parity.call(getattr(cpu, function), x, *extra)
        expected = getattr(reference, function)(*parity.wide(x), *extra)
        bound = 8 * limits.eps * forward_scale(x.astype(np.float64), expected) + limits.tiny
        parity.assert_close(out, expected, bound, name)

        saved = x if function in ("gelu", "leaky_relu") else expected.astype(x.dtype)
        grad_x = parity.call(getattr(cpu, backward), grad, saved, *extra)
        expected = getattr(reference, backward)(*parity.wide(grad, saved), *extra)
        bound = 8 * limits.eps * backward_scale(*parity.wide(grad, saved)) + limits.tiny
        parity.assert_close(grad_x, expected, bound, backward)


def assert_softmax(x: np.ndarray, grad: np.ndarray, axis: int) -> None:
    eps, tiny = np.finfo(x.dtype).eps, np.finfo(x.dtype).tiny
    unit = (8 + 4 * max(1, x.shape[axis]) ** 0.5) * eps
    with np.errstate(all="ignore"):
        wide, wide_grad = parity.wide(x, grad)
        top = np.max(wide, axis=axis, keepdims=True, initial=-np.inf)
        out = parity.call(cpu.softmax, x, axis)
        expected = reference.softmax(wide, axis)
        parity.assert_close(out, expected, (unit + eps * abs(wide - top)) * expected + tiny, "softmax")
        log = parity.call(cpu.log_softmax, x, axis)
        expected_log = reference.log_softmax(wide, axis)
        parity.assert_close(log, expected_log, unit * (1 + abs(wide) + abs(top)), "log_softmax")

        saved = expected.astype(x.dtype)
        grad_x = parity.call(cpu.softmax_backward, grad, saved, axis)
        expected_grad = reference.softmax_backward(wide_grad, *parity.wide(saved), axis)
        spread = abs(wide_grad) + (abs(wide_grad) * expected).sum(axis, keepdims=True)
        parity.assert_close(grad_x, expected_grad, unit * expected * spread + tiny, "softmax_backward")

        saved = expected_log.astype(x.dtype)
        grad_x = parity.call(cpu.log_softmax_backward, grad, saved, axis)
        expected_grad = reference.log_softmax_backward(wide_grad, *parity.wide(saved), axis)
        spread = abs(wide_grad) + expected * abs(wide_grad).sum(axis, keepdims=True)
        parity.assert_close(
            grad_x, expected_grad, unit * (1 + abs(saved)) * spread + tiny, "log_softmax_backward"
        )


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", cases.ACTIVATION_REAL + cases.ELEMENTWISE_ODD, ids=cases.by_name)
def test_activation_and_its_gradient_match_the_reference(
    case: cases.Elementwise, name: str, dtype: Any
) -> None:
    assert_elementwise(name, cases.draw(case.shape, 1, dtype) * dtype(3), cases.draw(case.shape, 2, dtype))


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("case", cases.SOFTMAX_REAL + cases.ELEMENTWISE_ODD, ids=cases.by_name)
def test_softmax_and_log_softmax_match_the_reference_along_every_axis(
    case: cases.Elementwise, dtype: Any
) -> None:
    x, grad = cases.draw(case.shape, 1, dtype) * dtype(3), cases.draw(case.shape, 2, dtype)
    for axis in range(-1, x.ndim):
        if x.shape[axis]:
            assert_softmax(x, grad, axis)


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_activation_matches_from_the_smallest_normal_number_to_1e12(name: str, dtype: Any) -> None:
    limits = np.finfo(dtype)
    magnitudes = np.geomspace(float(limits.tiny), 1e12, 4001)
    values = np.concatenate(
        [np.linspace(-120, 120, 4001), magnitudes, -magnitudes, [0.0, np.nan, np.inf, -np.inf]]
    )
    x = values.astype(dtype)
    assert_elementwise(name, x, np.ones_like(x))


shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=20)


@given(
    st.sampled_from(NAMES),
    shapes,
    parity.dtypes,
    st.tuples(parity.layouts, parity.layouts),
    parity.seeds,
    st.booleans(),
)
def test_activation_matches_for_any_shape_and_memory(name, shape, dtype, layout, seed, special) -> None:
    x, grad = parity.floats(seed, shape, dtype) * dtype(4), parity.floats(seed + 1, shape, dtype)
    if special:
        x = parity.plant(x, seed)
        # A GELU's slope at -6 rounds to 0 in float32, but not in float64: times Inf, NaN there and Inf here
        if not name.startswith("gelu"):
            grad = parity.plant(grad, seed + 1)
    assert_elementwise(name, parity.arrange(x, layout[0]), parity.arrange(grad, layout[1]))


@given(
    shapes, st.data(), parity.dtypes, st.tuples(parity.layouts, parity.layouts), parity.seeds, st.booleans()
)
def test_softmax_matches_for_any_shape_axis_and_memory(shape, data, dtype, layout, seed, special) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    shape = tuple(max(1, side) if i == axis % len(shape) else side for i, side in enumerate(shape))
    x, grad = parity.floats(seed, shape, dtype) * dtype(4), parity.floats(seed + 1, shape, dtype)
    if special:
        x = parity.plant(x, seed)
    assert_softmax(parity.arrange(x, layout[0]), parity.arrange(grad, layout[1]), axis)


@pytest.mark.parametrize("layout", ["C", "transposed", "channels_last", "sliced"])
@pytest.mark.parametrize("name", NAMES)
def test_activation_keeps_the_memory_order_of_its_input(name: str, layout: str) -> None:
    x = parity.floats(1, (2, 3, 5, 4), np.float32, layout)
    out = getattr(cpu, name.split()[0])(x, *ELEMENTWISE[name][0])
    parity.assert_same_order(out, x)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "gelu tanh"])
def test_activation_and_its_gradient_match_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    x, grad = cases.draw((7, 113), 1, np.float64) * 4, cases.draw((7, 113), 2, np.float64)
    extra = ELEMENTWISE[name][0]
    tensor = torch.from_numpy(x).requires_grad_()
    expected = getattr(torch.nn.functional, name)(tensor)
    expected.backward(torch.from_numpy(grad))
    out = getattr(cpu, name)(x, *extra)
    np.testing.assert_allclose(out, expected.detach().numpy(), rtol=1e-12, atol=1e-14)
    grad_x = getattr(cpu, name + "_backward")(grad, x if extra else out, *extra)
    np.testing.assert_allclose(grad_x, tensor.grad.numpy(), rtol=1e-11, atol=1e-13)
