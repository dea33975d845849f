"""kernels/cpu/pool.py against kernels/reference/pool.py. A maximum is chosen, not computed: exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fastnn.kernels.cpu import pool as cpu
from fastnn.kernels.reference import pool as reference
from tests import cases, parity


def geometry(case: cases.Pool) -> tuple[Any, ...]:
    return case.kernel_size, case.stride, case.padding, case.dilation, case.ceil_mode


def average(case: cases.Pool, include: bool) -> tuple[Any, ...]:
    return case.kernel_size, case.stride, case.padding, case.ceil_mode, include


def assert_max_pool(case: cases.Pool, x: np.ndarray, seed: int = 0, layout: str = "channels_last") -> None:
    out, indices = parity.call(cpu.max_pool2d, x, *geometry(case))
    expected, expected_indices = reference.max_pool2d(x, *geometry(case))
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(indices, expected_indices)
    assert indices.dtype == np.int32
    grad = parity.floats(seed, out.shape, x.dtype, layout)
    grad_x = parity.call(cpu.max_pool2d_backward, grad, parity.arrange(indices, layout), x.shape)
    parity.assert_sum_of_products(
        grad_x, lambda g: reference.max_pool2d_backward(g, expected_indices, x.shape), [grad], 25, "grad_x"
    )


def assert_avg_pool(case: cases.Pool, x: np.ndarray, include: bool, layout: str = "channels_last") -> None:
    rest = average(case, include)
    out = parity.call(cpu.avg_pool2d, x, *rest)
    parity.assert_sum_of_products(out, lambda a: reference.avg_pool2d(a, *rest), [x], 25, "avg_pool2d")
    grad = parity.floats(1, out.shape, x.dtype, layout)
    grad_x = parity.call(cpu.avg_pool2d_backward, grad, x.shape, *rest)
    parity.assert_sum_of_products(
        grad_x, lambda g: reference.avg_pool2d_backward(g, x.shape, *rest), [grad], 25, "grad_x"
    )


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("case", cases.POOL_REAL + cases.POOL_ODD, ids=cases.by_name)
def test_pooling_and_its_gradients_match_the_reference(case: cases.Pool, dtype: Any) -> None:
    x = cases.channels_last(cases.draw(case.x, 1, dtype))
    assert_max_pool(case, x)
    if case.dilation == (1, 1):
        assert_avg_pool(case, x, include=True)
        assert_avg_pool(case, x, include=False)


@st.composite
def pool_cases(draw: Any) -> cases.Pool:
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    shape = draw(st.tuples(st.integers(0, 3), st.integers(1, 35), st.integers(1, 12), st.integers(1, 12)))
    case = cases.Pool("drawn", shape, kernel, draw(pair), padding, draw(pair), draw(st.booleans()))
    spans = (d * (k - 1) + 1 for k, d in zip(kernel, case.dilation, strict=True))
    assume(all(span <= size + 2 * pad for span, size, pad in zip(spans, shape[2:], padding, strict=True)))
    # A window dilated past the image can miss every pixel; fastnn.functional refuses those.
    assume(all(gap <= size for gap, size in zip(case.dilation, shape[2:], strict=True)))
    return case


@given(
    pool_cases(),
    parity.dtypes,
    st.tuples(parity.layouts, parity.layouts),
    parity.seeds,
    st.sampled_from("ts-"),
)
def test_max_pool2d_matches_for_any_shape_and_memory(case, dtype, layout, seed, values) -> None:
    x = parity.floats(seed, case.x, dtype)
    if values == "t":
        x = np.round(x)  # ties: the first maximum of a window in row-major order is the one
    elif values == "s":
        x = parity.plant(x, seed)
    assert_max_pool(case, parity.arrange(x, layout[0]), seed, layout[1])


@given(pool_cases(), parity.dtypes, st.tuples(parity.layouts, parity.layouts), parity.seeds, st.booleans())
def test_avg_pool2d_matches_for_any_shape_and_memory(case, dtype, layout, seed, include) -> None:
    case = case._replace(dilation=(1, 1))
    assert_avg_pool(case, parity.floats(seed, case.x, dtype, layout[0]), include, layout[1])


def test_max_pool2d_gives_nan_and_its_index_wherever_a_window_holds_one() -> None:
    x = cases.draw((2, 3, 6, 6))
    x[1, 2, 3, 4] = np.nan
    out, indices = cpu.max_pool2d(x, (2, 2), (2, 2), (0, 0), (1, 1), False)
    assert np.argwhere(np.isnan(out)).tolist() == [[1, 2, 1, 2]]
    assert indices[1, 2, 1, 2] == 3 * 6 + 4


def test_max_pool2d_of_nothing_but_minus_infinity_points_into_the_image() -> None:
    x = np.full((1, 2, 3, 3), -np.inf, np.float32)
    out, indices = cpu.max_pool2d(x, (2, 2), (2, 2), (1, 1), (1, 1), False)
    np.testing.assert_array_equal(out, np.full((1, 2, 2, 2), -np.inf))
    np.testing.assert_array_equal(indices[0, 0], [[0, 1], [3, 4]])


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("channels", [32, 33])
def test_the_gradient_is_the_same_where_it_goes_past_the_caches(
    channels: int, dtype: Any, monkeypatch
) -> None:
    x = cases.channels_last(cases.draw((5, channels, 32, 32), 1, dtype))
    out, indices = cpu.max_pool2d(x, (2, 2), (2, 2), (0, 0), (1, 1), False)
    near = cpu.max_pool2d_backward(out, indices, x.shape)
    monkeypatch.setattr(cpu, "_FAR", 0)
    far = cpu.max_pool2d_backward(out, indices, x.shape)
    assert far.transpose(0, 2, 3, 1).ctypes.data % 64 == 0, "whole lines, or it would not"
    np.testing.assert_array_equal(far, near)
    np.testing.assert_array_equal(far, reference.max_pool2d_backward(out, indices, x.shape))


def test_max_pool2d_backward_adds_up_where_windows_share_their_maximum() -> None:
    x = np.zeros((1, 1, 3, 3))
    x[0, 0, 1, 1] = 1
    out, indices = cpu.max_pool2d(x, (2, 2), (1, 1), (0, 0), (1, 1), False)
    grad_x = cpu.max_pool2d_backward(np.ones_like(out), indices, x.shape)
    np.testing.assert_array_equal(grad_x, 4 * x)


@pytest.mark.parametrize("case", cases.POOL_ODD, ids=cases.by_name)
def test_max_pool2d_and_its_gradient_match_torch(case: cases.Pool) -> None:
    torch = pytest.importorskip("torch")
    x = cases.draw(case.x, 1, np.float64)
    tensor = torch.from_numpy(x).requires_grad_()
    expected, expected_indices = torch.nn.functional.max_pool2d(tensor, *geometry(case), return_indices=True)
    out, indices = cpu.max_pool2d(x, *geometry(case))
    np.testing.assert_array_equal(out, expected.detach().numpy())
    np.testing.assert_array_equal(indices, expected_indices.numpy())
    grad = cases.draw(out.shape, 2, np.float64)
    expected.backward(torch.from_numpy(grad))
    grad_x = cpu.max_pool2d_backward(grad, indices, x.shape)
    np.testing.assert_allclose(grad_x, tensor.grad.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("case", [c for c in cases.POOL_ODD if c.dilation == (1, 1)], ids=cases.by_name)
def test_avg_pool2d_and_its_gradient_match_torch(case: cases.Pool, include: bool) -> None:
    torch = pytest.importorskip("torch")
    x = cases.draw(case.x, 1, np.float64)
    tensor = torch.from_numpy(x).requires_grad_()
    expected = torch.nn.functional.avg_pool2d(tensor, *average(case, include))
    out = cpu.avg_pool2d(x, *average(case, include))
    np.testing.assert_allclose(out, expected.detach().numpy(), rtol=0, atol=1e-12)
    grad = cases.draw(out.shape, 2, np.float64)
    expected.backward(torch.from_numpy(grad))
    grad_x = cpu.avg_pool2d_backward(grad, x.shape, *average(case, include))
    np.testing.assert_allclose(grad_x, tensor.grad.numpy(), rtol=0, atol=1e-12)
