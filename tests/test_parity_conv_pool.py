"""kernels/cpu/conv_pool.py against kernels/reference/conv_pool.py.

Rounding may name another pixel of a window than the reference does, where two are as good as equal: the pixel
named must have the output's value, and the window's maximum but for rounding. On integers all is exact.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fastnn.kernels.cpu import activation as activations
from fastnn.kernels.cpu import conv_pool as cpu
from fastnn.kernels.reference import conv_pool as reference
from fastnn.kernels.reference._elementwise import activate
from fastnn.kernels.reference.conv import conv2d, conv2d_backward
from tests import cases, parity
from tests.test_parity_conv import conv_cases

ALL = cases.CONV_POOL_REAL + cases.CONV_POOL_ODD
each_odd = pytest.mark.parametrize("case", cases.CONV_POOL_ODD, ids=cases.by_name)
Arrays = tuple[np.ndarray, ...]


def at(indices: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """The entries of `pixels` (N, O, OH, OW) that `indices` (N, O, PH, PW) name."""
    flat_indices, flat = (a.reshape(*a.shape[:2], a.shape[2] * a.shape[3]) for a in (indices, pixels))
    return np.take_along_axis(flat, flat_indices, 2).reshape(indices.shape)


def assert_forward(case: cases.ConvPool, x: np.ndarray, weight: np.ndarray, bias: Any) -> np.ndarray:
    """Compare, and return the indices."""
    activation, operands = case.conv.activation, (x, weight, bias)
    window = case.convolution, case.pooling
    out, indices = parity.call(cpu.conv2d_max_pool2d, *operands, *window, activation)
    assert indices.dtype == np.int32
    for result in (out, indices):
        assert result.shape == case.output
        assert result.transpose(0, 2, 3, 1).flags.c_contiguous, "results lie channels-last"
    with np.errstate(all="ignore"):
        _, places = reference.conv2d_max_pool2d(*parity.wide(*operands), *window, None)
        between = conv2d(*parity.wide(*operands), *case.convolution, None)
        magnitude = conv2d(*parity.absolute(*operands), *case.convolution, None)
        named, terms = at(indices, between), int(np.prod(case.conv.weight[1:]))
        # before `activate`, which works in place
        best, eps = at(places, between), np.finfo(x.dtype).eps
        slack = parity.activated_bound(None, terms, at(indices, magnitude) + at(places, magnitude), best)
        parity.assert_close(named, best, slack * eps, "the maximum")
        expected = activate(named, activation)
    bound = parity.activated_bound(activation, terms, at(indices, magnitude), expected)
    parity.assert_close(out, expected, bound * eps, "conv2d_max_pool2d")
    return indices


def assert_backward(
    case: cases.ConvPool,
    grad: np.ndarray,
    indices: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    input_grad: bool = True,
    told: bool = False,
) -> tuple[Any, ...]:
    """Compare, and return the gradients. Told of the pooling, kernels rely on indices that lie in their
    windows."""
    pooling = case.pooling if told else None
    np.full(x.shape, np.nan, x.dtype)  # what is not written is likely to be this memory
    grads = parity.call(
        cpu.conv2d_max_pool2d_backward, grad, indices, x, weight, case.convolution, input_grad, None, pooling
    )
    assert (grads[0] is None) is not input_grad
    if input_grad:
        assert grads[0].transpose(0, 2, 3, 1).flags.c_contiguous, "grad_x lies channels-last"
    windows = case.output[0] * case.output[2] * case.output[3]
    # several windows may send their gradients to one pixel
    overlap = int(np.prod([-(-k // s) for k, s in zip(case.kernel_size, case.stride, strict=True)]))
    taps = case.conv.weight[0] // case.conv.groups * int(np.prod(case.conv.kernel_size))
    for i, (label, terms) in enumerate(
        (("grad_x", overlap * taps), ("grad_weight", windows), ("grad_bias", windows))
    ):
        if grads[i] is not None:

            def one(grad: np.ndarray, *operands: Any, i: int = i) -> np.ndarray:
                run = reference.conv2d_max_pool2d_backward
                return run(grad, indices, *operands, case.convolution, True)[i]

            parity.assert_sum_of_products(grads[i], one, [grad, x, weight], terms, label)
    return grads


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("case", ALL, ids=cases.by_name)
def test_conv2d_max_pool2d_and_its_gradients_match_the_reference(case: cases.ConvPool, dtype: Any) -> None:
    x, weight, bias, grad = case.operands(dtype)
    assert_forward(case, x, weight, None)
    indices = assert_forward(case, x, weight, bias)
    for input_grad, told in itertools.product((False, True), repeat=2):
        assert_backward(case, grad, indices, x, weight, input_grad, told)


@pytest.fixture
def narrow_vectors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without what only vectors of 512 bits can: compress, and be looked things up in."""
    monkeypatch.setattr(cpu._lists, "widest", lambda: False)
    monkeypatch.setattr(cpu._few_taps, "_picking", lambda *shapes: (0, 1))
    caches = cpu._lists._plans, cpu._few_taps.passes
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@each_odd
def test_gradients_match_the_reference_without_the_widest_vectors(
    case: cases.ConvPool, narrow_vectors: None
) -> None:
    x, weight, bias, grad = case.operands()
    _, indices = cpu.conv2d_max_pool2d(x, weight, bias, case.convolution, case.pooling, None)
    grad[:, ::2] = 0  # lists leave it out
    for input_grad, told in itertools.product((False, True), repeat=2):
        assert_backward(case, grad, indices, x, weight, input_grad, told)


def test_the_table_has_cases_for_lists_for_pixels_for_masks_and_for_the_two_gradients_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ways = []
    names = {cpu._lists: "run", cpu._few_taps: "run", cpu._pixels: "by_channels", cpu.conv: "conv2d_backward"}

    def recorded(run: Any) -> Any:
        def call(*arguments: Any) -> Any:
            if ways[-1:] != [cpu.conv.__name__]:  # which may take its own gradient by few taps
                ways.append(run.__module__)
            return run(*arguments)

        return call

    for module, name in names.items():
        monkeypatch.setattr(module, name, recorded(getattr(module, name)))
    for case in cases.CONV_POOL_ODD:
        x, weight, bias, grad = case.operands()
        _, indices = cpu.conv2d_max_pool2d(x, weight, bias, case.convolution, case.pooling, None)
        for input_grad in (False, True):
            operands = (grad, indices, x, weight, case.convolution, input_grad)
            cpu.conv2d_max_pool2d_backward(*operands, None, case.pooling)
            ways.append("")
    counts = {module: ways.count(module.__name__) for module in names}
    assert min(counts.values()) >= 3
    assert sum(counts.values()) - counts[cpu._pixels] == 2 * len(cases.CONV_POOL_ODD)


# of the real ones LeNet's first: where filters are transformed, integers become fractions
@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("case", cases.CONV_POOL_REAL[:1] + cases.CONV_POOL_ODD, ids=cases.by_name)
def test_integers_give_exactly_the_reference_s_results(case: cases.ConvPool, dtype: Any) -> None:
    rng = np.random.default_rng(0)  # few values: of the equal maxima in a window, the first is named
    x, weight, bias, grad = (rng.integers(-2, 3, a.shape).astype(dtype) for a in case.operands(dtype))
    results = cpu.conv2d_max_pool2d(x, weight, bias, case.convolution, case.pooling, "relu")
    expected = reference.conv2d_max_pool2d(x, weight, bias, case.convolution, case.pooling, "relu")
    for ours, theirs in zip(results, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    operands = (grad, results[1], x, weight, case.convolution, True)
    gradients = cpu.conv2d_max_pool2d_backward(*operands)
    expected = reference.conv2d_max_pool2d_backward(*operands)
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    gradients = cpu.conv2d_max_pool2d_backward(*operands[:-1], False, None, case.pooling)
    for ours, theirs in zip(gradients[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@st.composite
def conv_pool_cases(draw: Any) -> cases.ConvPool:
    conv = draw(conv_cases())
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    stride, gap = draw(st.tuples(st.integers(1, 4), st.integers(1, 4))), draw(st.sampled_from((1, 1, 2)))
    case = cases.ConvPool("drawn", conv, kernel, stride, padding, (gap, gap), draw(st.booleans()))
    spans = (gap * (k - 1) + 1 for k in kernel)
    sizes = conv.output[2:]
    assume(all(span <= size + 2 * pad for span, size, pad in zip(spans, sizes, padding, strict=True)))
    # A window dilated past the image can miss every pixel; fastnn.functional refuses those.
    assume(gap <= min(sizes))
    return case


@given(
    conv_pool_cases(),
    parity.dtypes,
    st.tuples(parity.layouts, parity.layouts),
    parity.seeds,
    st.booleans(),
    st.booleans(),
)
def test_conv2d_max_pool2d_matches_for_any_shape_and_memory(
    case, dtype, layout, seed, with_bias, special
) -> None:
    x = parity.floats(seed, case.conv.x, dtype)
    if special:
        x = parity.plant(x, seed)
    weight = parity.floats(seed + 1, case.conv.weight, dtype, layout[1])
    bias = parity.floats(seed + 2, weight.shape[:1], dtype) if with_bias else None
    assert_forward(case, parity.arrange(x, layout[0]), weight, bias)


@given(
    conv_pool_cases(),
    parity.dtypes,
    st.tuples(parity.layouts, parity.layouts, parity.layouts, parity.layouts),
    parity.seeds,
    st.booleans(),
    st.booleans(),
    st.sampled_from(("all", "half", "none", "special")),
)
def test_conv2d_max_pool2d_backward_matches_for_any_shape_and_memory(
    case, dtype, layout, seed, input_grad, told, kept
) -> None:
    x, weight = parity.floats(seed, case.conv.x, dtype), parity.floats(seed + 1, case.conv.weight, dtype)
    grad, rng = parity.floats(seed + 2, case.output, dtype), np.random.default_rng(seed)
    if kept == "half":  # zeros of either sign, as behind a ReLU
        grad *= rng.integers(0, 2, grad.shape)
    elif kept == "none":
        grad *= 0
    elif kept == "special":
        grad = parity.plant(grad, seed)
    if told:
        _, indices = reference.conv2d_max_pool2d(x, weight, None, case.convolution, case.pooling, None)
        indices = indices.astype(np.int32)
    else:  # any pixels, not only maxima: several windows name the same one
        indices = rng.integers(0, int(np.prod(case.conv.output[2:])), case.output, np.int32)
    operands = [parity.arrange(a, how) for a, how in zip((grad, indices, x, weight), layout, strict=True)]
    assert_backward(case, *operands, input_grad, told)


PLAIN = cases.ConvPool("", cases.Conv("", (3, 3, 10, 10), (4, 3, 3, 3)))  # 8 x 8 pixels, pooled to 4 x 4
PADDED = PLAIN._replace(conv=cases.Conv("", (3, 3, 10, 10), (4, 3, 3, 3), padding=(1, 1)))
GROUPED = PLAIN._replace(conv=cases.Conv("", (3, 4, 10, 10), (4, 2, 3, 3), groups=2))  # no lists


def backward_operands(case: cases.ConvPool) -> tuple[Arrays, np.ndarray]:
    """(grad, indices, x, weight), and the output."""
    x, weight, bias, grad = case.operands()
    out, indices = cpu.conv2d_max_pool2d(x, weight, bias, case.convolution, case.pooling, None)
    return (grad, indices, x, weight), out


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("case", [PLAIN, PADDED, GROUPED], ids=["plain", "padded", "grouped"])
def test_a_gradient_that_is_not_finite_stays_with_its_window_and_its_filter(
    case: cases.ConvPool, value: float
) -> None:
    (grad, indices, x, weight), _ = backward_operands(case)
    grad[1, 2, 3, 1] = value
    grads = assert_backward(case, grad, indices, x, weight)
    row, column = (
        int(n) - pad for n, pad in zip(divmod(indices[1, 2, 3, 1], 8 + 2 * case.conv.padding[0]),
                                       case.conv.padding, strict=True)
    )  # fmt: skip
    touched = [np.zeros(g.shape, bool) for g in grads]
    group = slice(2, 4) if case.conv.groups == 2 else slice(None)
    touched[0][1, group, max(row, 0) : row + 3, max(column, 0) : column + 3] = True
    touched[1][2] = touched[2][2] = True
    for found, expected in zip(grads, touched, strict=True):
        np.testing.assert_array_equal(~np.isfinite(found), expected)


def test_what_is_not_finite_in_x_reaches_the_gradients_only_where_one_comes_back() -> None:
    x, weight, bias, grad = PLAIN.operands()
    x[1, 2, 4, 5] = np.nan
    out, indices = cpu.conv2d_max_pool2d(x, weight, bias, PLAIN.convolution, PLAIN.pooling, None)
    grad[np.isnan(out)] = 0
    rest = (weight, PLAIN.convolution, True)
    grads = cpu.conv2d_max_pool2d_backward(grad, indices, x, *rest)
    without = cpu.conv2d_max_pool2d_backward(grad, indices, np.nan_to_num(x), *rest)
    for ours, expected in zip(grads, without, strict=True):
        np.testing.assert_array_equal(ours, expected)
    # the reference multiplies zeros too, and NaN with them
    assert np.isnan(reference.conv2d_max_pool2d_backward(grad, indices, x, *rest)[1]).any()
    n, o, i, j = np.argwhere(np.isnan(out))[0]
    grad[n, o, i, j] = 1
    _, grad_weight, _ = cpu.conv2d_max_pool2d_backward(grad, indices, x, *rest)
    assert np.unique(np.argwhere(np.isnan(grad_weight))[:, :2], axis=0).tolist() == [[o, 2]]


@pytest.mark.parametrize("case", [PLAIN, GROUPED], ids=["lists", "no lists"])
def test_gradients_of_windows_that_name_the_same_pixel_add_up(case: cases.ConvPool) -> None:
    rng = np.random.default_rng(0)
    x, weight, _, grad = (rng.integers(-3, 4, a.shape).astype(np.float32) for a in case.operands())
    indices = np.full(case.output, 5 * 8 + 2, np.int32)
    grads = cpu.conv2d_max_pool2d_backward(grad, indices, x, weight, case.convolution, True)
    slope = np.zeros(case.conv.output, np.float32)
    slope[:, :, 5, 2] = grad.sum((2, 3))
    expected = conv2d_backward(slope, x, weight, *case.convolution, True)
    for ours, theirs in zip(grads, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("case", [PLAIN, PADDED, GROUPED], ids=["plain", "padded", "grouped"])
def test_backward_fills_the_arrays_it_is_given(case: cases.ConvPool) -> None:
    operands, _ = backward_operands(case)
    fresh = cpu.conv2d_max_pool2d_backward(*operands, case.convolution, True)
    for layout in parity.LAYOUTS:
        if layout != "readonly":
            out = tuple(parity.arrange(np.full_like(g, np.nan, order="C"), layout) for g in fresh[1:])
            grads = cpu.conv2d_max_pool2d_backward(*operands, case.convolution, True, out)
            assert grads[1] is out[0]
            assert grads[2] is out[1]
            for ours, expected in zip(grads, fresh, strict=True):
                np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("case", cases.CONV_POOL_REAL[:1] + cases.CONV_POOL_ODD, ids=cases.by_name)
def test_an_activation_s_gradient_in_the_same_pass_has_the_bits_of_one_taken_before(
    case: cases.ConvPool, dtype: Any, name: str
) -> None:
    x, weight, bias, grad = case.operands(dtype)
    out, indices = cpu.conv2d_max_pool2d(x, weight, bias, case.convolution, case.pooling, name)
    options = indices, x, weight, case.convolution
    slope = getattr(activations, f"{name}_backward")(grad, out)
    for input_grad, layout in itertools.product((False, True), ("C", "channels-last")):
        given = parity.arrange(out, layout)
        ours = parity.call(
            cpu.conv2d_max_pool2d_backward, grad, *options, input_grad, None, case.pooling, (name, given)
        )
        before = cpu.conv2d_max_pool2d_backward(slope, *options, input_grad, None, case.pooling)
        for actual, expected in zip(ours, before, strict=True):
            np.testing.assert_array_equal(actual, expected)
    theirs = reference.conv2d_max_pool2d_backward(grad, *options, True, None, case.pooling, (name, out))
    for actual, expected in zip(ours, theirs, strict=True):
        tolerance = 1e-4 if dtype == np.float32 else 1e-11
        np.testing.assert_allclose(actual, expected, tolerance, tolerance)


@pytest.mark.parametrize("case", [PLAIN, GROUPED], ids=["lists", "no lists"])
def test_indices_may_be_of_any_integer_type(case: cases.ConvPool) -> None:
    (grad, indices, *rest), _ = backward_operands(case)
    expected = cpu.conv2d_max_pool2d_backward(grad, indices, *rest, case.convolution, True)
    for dtype in ("int8", "uint8", "int16", "uint32", "int64", "uint64", ">i4", ">u8"):
        cast = indices.astype(dtype)
        for ours, theirs in zip(
            cpu.conv2d_max_pool2d_backward(grad, cast, *rest, case.convolution, True), expected, strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("room", [cpu, reference], ids=["cpu", "reference"])
def test_the_activation_comes_after_the_pooling(room: Any) -> None:
    x = np.array([[[[-5.0, -1.0], [-4.0, -3.0]]]])  # gelu(-5) > gelu(-1): the order can be seen
    options = ((1, 1), (0, 0), (1, 1), 1), ((2, 2), (2, 2), (0, 0), (1, 1), False), "gelu"
    out, indices = room.conv2d_max_pool2d(x, np.ones((1, 1, 1, 1)), None, *options)
    assert out.item() == pytest.approx(-0.15865525393145707, rel=1e-12)
    assert indices.item() == 1


@each_odd
def test_conv2d_max_pool2d_and_its_gradients_match_torch(case: cases.ConvPool) -> None:
    torch = pytest.importorskip("torch")
    x, weight, bias, grad = case.operands(np.float64)
    tensors = [torch.from_numpy(np.ascontiguousarray(a)).requires_grad_() for a in (x, weight, bias)]
    between = torch.nn.functional.conv2d(*tensors, *case.convolution)
    expected, places = torch.nn.functional.max_pool2d(between, *case.pooling, return_indices=True)
    expected.backward(torch.from_numpy(np.ascontiguousarray(grad)))
    out, indices = cpu.conv2d_max_pool2d(x, weight, bias, case.convolution, case.pooling, None)
    np.testing.assert_allclose(out, expected.detach().numpy(), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(indices, places.numpy())
    grads = cpu.conv2d_max_pool2d_backward(grad, indices, x, weight, case.convolution, True)
    for actual, tensor in zip(grads, tensors, strict=True):
        np.testing.assert_allclose(actual, tensor.grad.numpy(), rtol=0, atol=1e-12)
