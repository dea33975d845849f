"""kernels/cpu/conv.py against kernels/reference/conv.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fastnn.kernels.cpu import conv as cpu
from fastnn.kernels.reference import conv as reference
from tests import cases, parity


def assert_conv(case: cases.Conv, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> None:
    out = parity.call(cpu.conv2d, x, weight, bias, *case.geometry, case.groups, case.activation)
    assert out.transpose(0, 2, 3, 1).flags.c_contiguous, "conv2d returns channels-last memory"
    with np.errstate(all="ignore"):
        expected = reference.conv2d(
            *parity.wide(x, weight, bias), *case.geometry, case.groups, case.activation
        )
        magnitude = reference.conv2d(*parity.absolute(x, weight, bias), *case.geometry, case.groups, None)
    terms = int(np.prod(case.weight[1:]))
    bound = parity.activated_bound(case.activation, terms, magnitude, expected)
    parity.assert_close(out, expected, bound * np.finfo(x.dtype).eps, "conv2d")


def assert_conv_backward(
    case: cases.Conv, grad: np.ndarray, x: np.ndarray, weight: np.ndarray, input_grad: bool = True
) -> None:
    rest = (*case.geometry, case.groups)
    grads = parity.call(cpu.conv2d_backward, grad, x, weight, *rest, input_grad)
    if not input_grad:
        assert grads[0] is None
    n, outputs, height, width = case.output
    pixels = n * height * width
    terms = (outputs // case.groups * int(np.prod(case.kernel_size)), pixels, pixels)
    for i, label in enumerate(("grad_x", "grad_weight", "grad_bias")):
        if grads[i] is not None:

            def one(*operands: Any, i: int = i) -> np.ndarray:
                return reference.conv2d_backward(*operands, *rest, True)[i]

            parity.assert_sum_of_products(grads[i], one, [grad, x, weight], terms[i], label)


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("case", cases.CONV_REAL + cases.CONV_ODD, ids=cases.by_name)
def test_conv2d_and_its_gradients_match_the_reference(case: cases.Conv, dtype: Any) -> None:
    x, weight, bias, grad = case.operands(dtype)
    assert_conv(case, x, weight, bias)
    assert_conv(case, x, weight, None)
    assert_conv_backward(case, grad, x, weight)
    assert_conv_backward(case, grad, x, weight, input_grad=False)


@pytest.mark.parametrize("case", cases.CONV_REAL + cases.CONV_ODD, ids=cases.by_name)
def test_im2col_copies_exactly_and_col2im_is_its_adjoint(case: cases.Conv) -> None:
    x = case.operands()[0]
    cols = parity.call(cpu.im2col, x, case.kernel_size, *case.geometry)
    np.testing.assert_array_equal(cols, reference.im2col(x, case.kernel_size, *case.geometry))
    rest = (case.x[2:], case.kernel_size, *case.geometry)
    image = parity.call(cpu.col2im, cols, *rest)
    overlap = int(np.prod(case.kernel_size))
    parity.assert_sum_of_products(image, lambda c: reference.col2im(c, *rest), [cols], overlap, "col2im")


@st.composite
def conv_cases(draw: Any) -> cases.Conv:
    groups = draw(st.sampled_from((1, 1, 1, 2, 3)))
    channels, outputs = groups * draw(st.integers(1, 6)), groups * draw(st.integers(1, 9))
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    image = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    activation = draw(st.sampled_from((None, "relu", "leaky_relu", "sigmoid", "tanh", "gelu")))
    case = cases.Conv(
        "drawn",
        (draw(st.integers(0, 4)), channels, *image),
        (outputs, channels // groups, *kernel),
        draw(pair),
        padding,
        draw(pair),
        groups,
        activation,
    )
    assume(min(case.output[2:]) > 0)
    return case


@given(
    conv_cases(),
    parity.dtypes,
    st.tuples(parity.layouts, parity.layouts),
    parity.seeds,
    st.booleans(),
    st.booleans(),
)
def test_conv2d_matches_for_any_shape_and_memory(case, dtype, layout, seed, with_bias, special) -> None:
    x = parity.floats(seed, case.x, dtype)
    if special:
        x = parity.plant(x, seed)
    bias = parity.floats(seed + 2, case.weight[:1], dtype) if with_bias else None
    assert_conv(
        case, parity.arrange(x, layout[0]), parity.floats(seed + 1, case.weight, dtype, layout[1]), bias
    )


@given(
    conv_cases(),
    parity.dtypes,
    st.tuples(parity.layouts, parity.layouts, parity.layouts),
    parity.seeds,
    st.booleans(),
)
def test_conv2d_backward_matches_for_any_shape_and_memory(case, dtype, layout, seed, input_grad) -> None:
    shapes = (case.output, case.x, case.weight)
    operands = [parity.floats(seed + i, shape, dtype, layout[i]) for i, shape in enumerate(shapes)]
    assert_conv_backward(case, *operands, input_grad)


@given(conv_cases(), parity.dtypes, parity.layouts, parity.seeds)
def test_im2col_and_col2im_match_for_any_shape_and_memory(case, dtype, layout, seed) -> None:
    x = parity.floats(seed, case.x, dtype, layout)
    cols = parity.call(cpu.im2col, x, case.kernel_size, *case.geometry)
    np.testing.assert_array_equal(cols, reference.im2col(x, case.kernel_size, *case.geometry))
    rest = (case.x[2:], case.kernel_size, *case.geometry)
    given_cols = parity.floats(seed, cols.shape, dtype, layout)
    image = parity.call(cpu.col2im, given_cols, *rest)
    parity.assert_sum_of_products(image, lambda c: reference.col2im(c, *rest), [given_cols], 25, "col2im")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("padding", [0, 1])
def test_conv2d_keeps_a_value_that_is_not_finite_to_the_windows_it_lies_in(
    value: float, padding: int
) -> None:
    case = cases.Conv("", (2, 3, 9, 9), (5, 3, 3, 3), padding=(padding, padding))
    x, weight, bias, _ = case.operands()
    x[1, 2, 4, 5] = value
    out = cpu.conv2d(x, weight, bias, *case.geometry, 1, None)
    touched = np.zeros(case.output, bool)
    touched[1, :, 2 + padding : 5 + padding, 3 + padding : 6 + padding] = True
    np.testing.assert_array_equal(~np.isfinite(out), touched)


def test_conv2d_backward_keeps_nan_of_the_gradient() -> None:
    case = cases.Conv("", (2, 3, 7, 7), (4, 3, 3, 3))
    x, weight, _, grad = case.operands()
    grad[0, 1, 2, 3] = np.nan
    assert_conv_backward(case, grad, x, weight)


def test_conv2d_backward_fills_the_arrays_it_is_given() -> None:
    case = cases.CONV_ODD[-1]
    x, weight, bias, grad = case.operands()
    fresh = cpu.conv2d_backward(grad, x, weight, *case.geometry, 1, False)
    for out in (
        (np.empty_like(weight), np.empty_like(bias)),
        (np.empty(weight.shape, np.float32), np.empty_like(bias)),
    ):
        grads = cpu.conv2d_backward(grad, x, weight, *case.geometry, 1, False, out)
        assert grads[1] is out[0]
        assert grads[2] is out[1]
        np.testing.assert_array_equal(out[0], fresh[1])
        np.testing.assert_array_equal(out[1], fresh[2])


@pytest.mark.parametrize("case", cases.CONV_ODD, ids=cases.by_name)
def test_conv2d_and_its_gradients_match_torch(case: cases.Conv) -> None:
    torch = pytest.importorskip("torch")
    x, weight, bias, grad = case.operands(np.float64)
    tensors = [torch.from_numpy(np.ascontiguousarray(a)).requires_grad_() for a in (x, weight, bias)]
    expected = torch.nn.functional.conv2d(*tensors, *case.geometry, case.groups)
    expected.backward(torch.from_numpy(np.ascontiguousarray(grad)))
    out = cpu.conv2d(x, weight, bias, *case.geometry, case.groups, None)
    np.testing.assert_allclose(out, expected.detach().numpy(), rtol=0, atol=1e-12)
    grads = cpu.conv2d_backward(grad, x, weight, *case.geometry, case.groups, True)
    for actual, tensor in zip(grads, tensors, strict=True):
        np.testing.assert_allclose(actual, tensor.grad.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "case", [c for c in cases.CONV_ODD if c.x[0]], ids=cases.by_name
)  # unfold wants N > 0
def test_im2col_orders_as_torch_unfold(case: cases.Conv) -> None:
    torch = pytest.importorskip("torch")
    x = case.operands()[0]
    cols = torch.nn.functional.unfold(
        torch.from_numpy(np.ascontiguousarray(x)), case.kernel_size, case.dilation, case.padding, case.stride
    )
    np.testing.assert_array_equal(cpu.im2col(x, case.kernel_size, *case.geometry), cols.numpy())
