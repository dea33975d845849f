"""Convolutions and poolings against PyTorch's and SciPy's, for any geometry that Hypothesis draws.

Geometries known to be difficult are in ``tests/cases.py``, held against PyTorch beside the parity tests.
Here they are mixed, groups with dilation and strides with ceil_mode. What PyTorch refuses is to be refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

import fastnn
import fastnn.functional as F
from tests import parity
from tests.backends import BACKENDS

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
kernels = st.tuples(st.integers(1, 4), st.integers(1, 4))
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
paddings = st.tuples(st.integers(0, 3), st.integers(0, 3))
channels = st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 2, 3]))  # in, out, groups
on_each_backend = pytest.mark.parametrize("backend", BACKENDS)


def normal(seed: int, *shape: int, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def assert_close(actual: np.ndarray, expected: Any, dtype: Any) -> None:
    assert actual.dtype == dtype
    tolerance = 1e-12 if dtype == np.float64 else 2e-5
    np.testing.assert_allclose(actual, expected.detach().numpy(), rtol=tolerance, atol=tolerance)


def both(ours: Any, theirs: Any) -> tuple[Any, Any] | None:
    """What both return; None where both refuse."""
    try:
        expected = theirs()
    except RuntimeError:
        with pytest.raises(ValueError):
            ours()
        return None
    return ours(), expected


@on_each_backend
@settings(max_examples=20)
@given(sizes, kernels, pairs, paddings, pairs, channels, parity.dtypes, parity.layouts)
def test_conv2d_and_its_gradients_are_pytorchs(
    backend: str, size, kernel, stride, padding, dilation, channels, dtype, layout
) -> None:
    torch = pytest.importorskip("torch")
    each, outputs, groups = channels
    x, weight, bias = (
        normal(0, 2, each * groups, *size, dtype=dtype),
        normal(1, outputs * groups, each, *kernel, dtype=dtype),
        normal(2, outputs * groups, dtype=dtype),
    )
    tensors = [torch.from_numpy(a).requires_grad_() for a in (x, weight, bias)]
    x, options = parity.arrange(x, layout), {"stride": stride, "padding": padding, "dilation": dilation}
    with fastnn.use_backend(backend):
        results = both(
            lambda: F.conv2d(x, weight, bias, groups=groups, **options),
            lambda: torch.nn.functional.conv2d(*tensors, groups=groups, **options),
        )
        if results is None:
            return
        out, expected = results
        assert_close(out, expected, dtype)
        grad = normal(3, *out.shape, dtype=dtype)
        expected.backward(torch.from_numpy(grad))
        for ours, tensor in zip(
            F.conv2d_backward(grad, x, weight, groups=groups, **options), tensors, strict=True
        ):
            assert_close(ours, tensor.grad, dtype)


@on_each_backend
@settings(max_examples=20)
@given(sizes, kernels, pairs, paddings, pairs, parity.dtypes)
def test_im2col_and_col2im_are_pytorchs_unfold_and_fold(
    backend: str, size, kernel, stride, padding, dilation, dtype
) -> None:
    torch = pytest.importorskip("torch")
    x, options = (
        normal(0, 2, 3, *size, dtype=dtype),
        {"stride": stride, "padding": padding, "dilation": dilation},
    )
    with fastnn.use_backend(backend):
        results = both(
            lambda: F.im2col(x, kernel, **options),
            lambda: torch.nn.functional.unfold(torch.from_numpy(x), kernel, **options),
        )
        if results is None:
            return
        cols, expected = results
        np.testing.assert_array_equal(cols, expected.numpy())
        cols = normal(1, *cols.shape, dtype=dtype)
        image = torch.nn.functional.fold(torch.from_numpy(cols), size, kernel, **options)
        assert_close(F.col2im(cols, size, kernel, **options), image, dtype)


@on_each_backend
@settings(max_examples=20)
@given(sizes, kernels, pairs, paddings, pairs, st.booleans(), parity.dtypes, parity.layouts)
def test_max_pool2d_and_its_gradient_are_pytorchs(
    backend: str, size, kernel, stride, padding, dilation, ceil_mode, dtype, layout
) -> None:
    torch = pytest.importorskip("torch")
    x = np.round(2 * normal(0, 2, 3, *size, dtype=dtype))  # many equal maxima
    # PyTorch also pools where a window is dilated past the whole image, and finds -inf there.
    assume(all(gap <= length for gap, length in zip(dilation, size, strict=True)))
    tensor = torch.from_numpy(x).requires_grad_()
    x = parity.arrange(x, layout)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    with fastnn.use_backend(backend):
        results = both(
            lambda: F.max_pool2d(x, kernel, return_indices=True, **options),
            lambda: torch.nn.functional.max_pool2d(tensor, kernel, return_indices=True, **options),
        )
        if results is None:
            return
        (out, indices), (expected, expected_indices) = results
        np.testing.assert_array_equal(out, expected.detach().numpy())
        np.testing.assert_array_equal(indices, expected_indices.numpy())
        grad = normal(1, *out.shape, dtype=dtype)
        expected.backward(torch.from_numpy(grad))
        assert_close(F.max_pool2d_backward(grad, indices, x.shape), tensor.grad, dtype)


@on_each_backend
@settings(max_examples=20)
@given(sizes, kernels, pairs, paddings, st.booleans(), st.booleans(), parity.dtypes, parity.layouts)
def test_avg_pool2d_and_its_gradient_are_pytorchs(
    backend: str, size, kernel, stride, padding, ceil_mode, include, dtype, layout
) -> None:
    torch = pytest.importorskip("torch")
    x = normal(0, 2, 3, *size, dtype=dtype)
    tensor = torch.from_numpy(x).requires_grad_()
    x = parity.arrange(x, layout)
    options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode, "count_include_pad": include}
    with fastnn.use_backend(backend):
        results = both(
            lambda: F.avg_pool2d(x, kernel, **options),
            lambda: torch.nn.functional.avg_pool2d(tensor, kernel, **options),
        )
        if results is None:
            return
        out, expected = results
        assert_close(out, expected, dtype)
        grad = normal(1, *out.shape, dtype=dtype)
        expected.backward(torch.from_numpy(grad))
        assert_close(F.avg_pool2d_backward(grad, x.shape, kernel, **options), tensor.grad, dtype)


@on_each_backend
@settings(max_examples=20)
@given(sizes, kernels, pairs, paddings, pairs)
def test_poolings_are_scipys_filters_at_every_stride(
    backend: str, size, kernel, stride, padding, dilation
) -> None:
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    assume(all(s <= n + 2 * p for s, n, p in zip(spans, size, padding, strict=True)))
    assume(all(gap <= length for gap, length in zip(dilation, size, strict=True)))
    x = normal(0, 1, 1, *size)
    # A filter is centred on a pixel; the window of output 0 begins `padding` before the image.
    starts = [s // 2 - p for s, p in zip(spans, padding, strict=True)]
    counts = [(n + 2 * p - s) // t + 1 for n, p, s, t in zip(size, padding, spans, stride, strict=True)]
    room = 8  # on each side, so that all centres are pixels
    picked = tuple(
        slice(room + start, room + start + count * step, step)
        for start, count, step in zip(starts, counts, stride, strict=True)
    )
    footprint = np.zeros(spans, bool)
    footprint[:: dilation[0], :: dilation[1]] = True
    with fastnn.use_backend(backend):
        highest = F.max_pool2d(x, kernel, stride=stride, padding=padding, dilation=dilation)
        around = np.pad(x[0, 0], room, constant_values=-np.inf)
        filtered = ndimage.maximum_filter(around, footprint=footprint, mode="constant", cval=-np.inf)
        np.testing.assert_array_equal(highest[0, 0], filtered[picked])
        if dilation == (1, 1):
            means = F.avg_pool2d(x, kernel, stride=stride, padding=padding)
            filtered = ndimage.uniform_filter(np.pad(x[0, 0], room), kernel, mode="constant")
            np.testing.assert_allclose(means[0, 0], filtered[picked], rtol=0, atol=1e-12)
