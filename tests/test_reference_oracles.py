"""kernels/reference against oracles that share nothing with it: SciPy, loops, published answers.

The other rooms are held against the reference, so this is where right is decided.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import signal, special

import fastnn.functional as F
from fastnn import use_backend
from fastnn.kernels.reference import _elementwise, _shared, activation, conv, linear, loss, norm, random
from tests import parity

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
paddings = st.tuples(st.integers(0, 2), st.integers(0, 2))
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@pytest.fixture(autouse=True)
def _numpy_backend():
    with use_backend("numpy"):
        yield


def normal(*shape: int, seed: int = 0, dtype=np.float64) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def stretch(kernel: np.ndarray, dilation: tuple[int, int]) -> np.ndarray:
    """`kernel` with its taps `dilation` apart and zeros between."""
    height, width = ((k - 1) * d + 1 for k, d in zip(kernel.shape, dilation, strict=True))
    wide = np.zeros((height, width))
    wide[:: dilation[0], :: dilation[1]] = kernel
    return wide


@given(sizes, pairs, pairs, paddings, pairs, st.sampled_from([1, 2, 3]), parity.layouts)
def test_conv2d_is_scipys_correlation(size, kernel, stride, padding, dilation, groups, layout) -> None:
    per_group, outputs = 2, 2 * groups
    x, weight, bias = (
        normal(2, per_group * groups, *size),
        normal(outputs, per_group, *kernel),
        normal(outputs),
    )
    spans = [s + 2 * p - d * (k - 1) for s, p, d, k in zip(size, padding, dilation, kernel, strict=True)]
    assume(min(spans) > 0)
    padded = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    expected = np.empty((2, outputs, *(-(-s // t) for s, t in zip(spans, stride, strict=True))))
    for n, o in np.ndindex(2, outputs):
        first = o // (outputs // groups) * per_group
        planes = (
            signal.correlate(padded[n, first + c], stretch(weight[o, c], dilation), "valid", "direct")
            for c in range(per_group)
        )
        expected[n, o] = (sum(planes) + bias[o])[:: stride[0], :: stride[1]]
    arguments = (stride, padding, dilation, groups, None)
    out = conv.conv2d(parity.arrange(x, layout), parity.arrange(weight, layout), bias, *arguments)
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-12)
    assert out.transpose(0, 2, 3, 1).flags.c_contiguous
    single = conv.conv2d(*(a.astype(np.float32) for a in (x, weight, bias)), *arguments)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=0, atol=2e-5)


@given(sizes, pairs, pairs, paddings, pairs, parity.layouts)
def test_im2col_copies_what_each_tap_reads(size, kernel, stride, padding, dilation, layout) -> None:
    x, geometry = normal(2, 3, *size), list(zip(size, kernel, stride, padding, dilation, strict=True))
    out = [_shared.output_shape(*axis) for axis in geometry]
    assume(min(out) > 0)
    expected = np.zeros((2, 3, *kernel, *out))
    for n, c, u, v, i, j in np.ndindex(*expected.shape):
        row, column = (
            o * t + tap * d - p
            for o, t, tap, d, p in zip((i, j), stride, (u, v), dilation, padding, strict=True)
        )
        if 0 <= row < size[0] and 0 <= column < size[1]:
            expected[n, c, u, v, i, j] = x[n, c, row, column]
    cols = conv.im2col(parity.arrange(x, layout), kernel, stride, padding, dilation)
    np.testing.assert_array_equal(cols, expected.reshape(2, 3 * kernel[0] * kernel[1], out[0] * out[1]))


@given(sizes, pairs, pairs, paddings, pairs)
def test_col2im_is_the_adjoint_of_im2col(size, kernel, stride, padding, dilation) -> None:
    geometry = zip(size, kernel, stride, padding, dilation, strict=True)
    assume(min(_shared.output_shape(*axis) for axis in geometry) > 0)
    x = normal(2, 3, *size)
    cols = conv.im2col(x, kernel, stride, padding, dilation)
    other = normal(*cols.shape, seed=1)
    back = conv.col2im(other, size, kernel, stride, padding, dilation)
    assert np.vdot(cols, other) == pytest.approx(np.vdot(x, back), rel=1e-12, abs=1e-12)
    assert back.transpose(0, 2, 3, 1).flags.c_contiguous


@given(sizes, pairs, pairs, paddings, pairs, st.sampled_from([1, 2]), st.sampled_from([1, 5, 17]))
def test_conv2d_backward_is_the_adjoint_of_conv2d(
    size, kernel, stride, padding, dilation, groups, per_group
) -> None:
    # Convolution is linear in x and in the weight: <g, f(d)> = <f*(g), d> for any d pins each gradient down.
    geometry = zip(size, kernel, stride, padding, dilation, strict=True)
    assume(min(_shared.output_shape(*axis) for axis in geometry) > 0)
    x, weight = normal(2, per_group * groups, *size), normal(2 * groups, per_group, *kernel)
    options = (stride, padding, dilation, groups)
    out = conv.conv2d(x, weight, None, *options, None)
    grad = normal(*out.shape, seed=1)
    grad_x, grad_weight, grad_bias = conv.conv2d_backward(grad, x, weight, *options, True)
    along_x, along_weight = normal(*x.shape, seed=2), normal(*weight.shape, seed=3)
    assert np.vdot(grad_x, along_x) == pytest.approx(
        np.vdot(grad, conv.conv2d(along_x, weight, None, *options, None)), rel=1e-11, abs=1e-10
    )
    assert np.vdot(grad_weight, along_weight) == pytest.approx(
        np.vdot(grad, conv.conv2d(x, along_weight, None, *options, None)), rel=1e-11, abs=1e-10
    )
    np.testing.assert_allclose(grad_bias, grad.sum((0, 2, 3)), rtol=0, atol=1e-12)


def test_backwards_fill_the_arrays_they_are_given() -> None:
    grad, x, weight = normal(5, 3), normal(5, 4), normal(4, 3)
    out = np.empty((3, 4)).T, np.empty(3)
    _, grad_weight, grad_bias = linear.linear_backward(grad, x, weight, False, out)
    assert grad_weight is out[0]
    assert grad_bias is out[1]
    np.testing.assert_allclose(out[0], x.T @ grad, rtol=1e-14)
    np.testing.assert_allclose(out[1], grad.sum(0), rtol=1e-14)

    grad, x, weight = normal(2, 4, 3, 3), normal(2, 3, 5, 5), normal(4, 3, 3, 3)
    out = np.empty((3, 3, 3, 4)).transpose(3, 2, 0, 1), np.empty(4)
    options = (1, 1), (0, 0), (1, 1), 1
    grad_x, *filled = conv.conv2d_backward(grad, x, weight, *options, False, out)
    assert grad_x is None
    assert filled[0] is out[0]
    assert filled[1] is out[1]
    for ours, fresh in zip(out, conv.conv2d_backward(grad, x, weight, *options, False)[1:], strict=True):
        np.testing.assert_array_equal(ours, fresh)


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_random123s_known_answers(counter: str, key: str, answer: str) -> None:
    words = [np.array([int(word, 16)], np.uint64) for word in counter.split()]
    result = random._philox4x32(tuple(words), tuple(int(word, 16) for word in key.split()))
    assert " ".join(f"{int(word[0]):08x}" for word in result) == answer


def test_dropout_takes_word_i_of_the_stream_for_element_i() -> None:
    seed, offset, p = 0x0123456789ABCDEF, 0xFEDCBA9876543210, 0.3
    x = normal(3, 5, 7, dtype=np.float32)
    out = random.dropout(np.asfortranarray(x), p, seed, offset)
    for i, value in enumerate(x.flat):
        counter = tuple(np.array([word], np.uint64) for word in (i // 4, 0, 0x76543210, 0xFEDCBA98))
        word = int(random._philox4x32(counter, (0x89ABCDEF, 0x01234567))[i % 4][0])
        kept = word >= int(p * 2**32)
        assert out.flat[i] == (value * (np.float32(1) / (np.float32(1) - np.float32(p))) if kept else 0)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_dropout_drops_a_fraction_p_and_keeps_the_mean(p: float) -> None:
    ones = np.ones(400_000)
    out = random.dropout(ones, p, 1, 2)
    assert (out == 0).mean() == pytest.approx(p, abs=5 * math.sqrt(0.25 / ones.size))
    assert out.mean() == pytest.approx(1, abs=5 * math.sqrt(max(p, 1e-9) / (1 - p) / ones.size))
    np.testing.assert_array_equal(random.dropout_backward(ones, p, 1, 2), out)
    if p:
        assert (random.dropout(ones, p, 1, 3) != out).any()
        assert (random.dropout(ones, p, 2, 2) != out).any()


def test_erfc_is_accurate_to_the_last_digits() -> None:
    x = np.concatenate([np.linspace(-7, 7, 100_001), [0.46875, -0.46875, 4.0, -4.0, 27.0, np.inf, -np.inf]])
    expected = special.erfc(x)
    np.testing.assert_allclose(_elementwise.erfc(x), expected, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(
        _elementwise.erfc(x.astype(np.float32)), special.erfc(x.astype(np.float32)), atol=3e-7
    )
    assert np.isnan(_elementwise.erfc(np.array([np.nan])))


WIDE = np.concatenate([np.linspace(-30, 30, 2001), [-1e4, -800.0, 800.0, 1e4]])
CLOSED_FORMS = {
    "relu": (lambda x: (abs(x) + x) / 2, ()),
    "leaky_relu": (lambda x: np.select([x > 0], [x], 0.01 * x), (0.01,)),
    "sigmoid": (special.expit, ()),
    "tanh": (lambda x: 2 * special.expit(2 * x) - 1, ()),
    "gelu": (lambda x: x * special.ndtr(x), ("none",)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_activation_is_its_closed_form_for_any_input(name: str, dtype) -> None:
    x = WIDE.astype(dtype)
    expected, arguments = CLOSED_FORMS[name]
    out = getattr(activation, name)(x, *arguments)
    assert out.dtype == dtype
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(out, expected(x.astype(np.float64)), rtol=100 * eps, atol=4 * eps)


def test_tanh_gelu_stays_close_to_the_exact_one() -> None:
    assert np.abs(activation.gelu(WIDE, "tanh") - activation.gelu(WIDE, "none")).max() == pytest.approx(
        4.73e-4, rel=0.01
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_and_log_softmax_are_scipys(axis: int) -> None:
    x = normal(3, 4, 5) * 100
    x[0, 0, 0], x[1, 1, 1] = 1e4, -1e4
    np.testing.assert_allclose(activation.softmax(x, axis), special.softmax(x, axis), rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(activation.log_softmax(x, axis), special.log_softmax(x, axis), rtol=1e-13)


def test_softmax_cross_entropy_of_labels_is_that_of_one_hot_rows_and_scipys() -> None:
    logits, labels = normal(6, 4) * 50, np.array([0, 3, 1, 1, 2, 0])
    logits[0, 0], logits[1, 0] = 1e4, -1e4
    value, grad = loss.softmax_cross_entropy(logits, labels, 0.25)
    one_hot = np.eye(4)[labels]
    assert value == pytest.approx(-0.25 * (one_hot * special.log_softmax(logits, 1)).sum(), rel=1e-13)
    np.testing.assert_allclose(grad, 0.25 * (special.softmax(logits, 1) - one_hot), rtol=1e-12, atol=1e-15)
    dense, dense_grad = loss.softmax_cross_entropy(logits, one_hot, 0.25)
    assert dense == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(dense_grad, grad, rtol=1e-12, atol=1e-15)


def test_sigmoid_cross_entropy_is_exact_for_huge_logits() -> None:
    logits = np.array([[1e4, 1e4, -1e4, -1e4, 0.0, 40.0, -800.0]])
    targets = np.array([[1.0, 0.0, 1.0, 0.0, 0.5, 0.0, 0.25]])
    value, grad = loss.sigmoid_cross_entropy(logits, targets, 1.0)
    assert value == pytest.approx(1e4 + 1e4 + math.log(2) + 40 + math.log1p(math.exp(-40)) + 200, rel=1e-15)
    np.testing.assert_allclose(grad, special.expit(logits) - targets, atol=1e-15)


def test_batch_norm_standardises_each_channel_and_follows_the_batch() -> None:
    x, weight, bias = 3 * normal(6, 4, 5, 3) + 100, normal(4), normal(4, seed=1)
    mean, var = np.zeros(4), np.ones(4)
    out, batch_mean, inv_std = norm.batch_norm(x, weight, bias, mean, var, True, 0.1, 1e-5)
    per_channel = x.transpose(1, 0, 2, 3).reshape(4, -1)
    expected = (per_channel - per_channel.mean(1, keepdims=True)) / np.sqrt(
        per_channel.var(1, keepdims=True) + 1e-5
    )
    expected = (expected * weight[:, None] + bias[:, None]).reshape(4, 6, 5, 3).transpose(1, 0, 2, 3)
    np.testing.assert_allclose(out, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(batch_mean, per_channel.mean(1), rtol=1e-14)
    np.testing.assert_allclose(inv_std, 1 / np.sqrt(per_channel.var(1) + 1e-5), rtol=1e-12)
    np.testing.assert_allclose(mean, 0.1 * per_channel.mean(1), rtol=1e-13)
    np.testing.assert_allclose(var, 0.9 + 0.1 * per_channel.var(1, ddof=1), rtol=1e-12)
    kept = mean.copy(), var.copy()
    out, *_ = norm.batch_norm(x, weight, bias, mean, var, False, 0.1, 1e-5)
    shaped = [a.reshape(4, 1, 1) for a in (mean, var, weight, bias)]
    np.testing.assert_allclose(
        out, (x - shaped[0]) / np.sqrt(shaped[1] + 1e-5) * shaped[2] + shaped[3], rtol=1e-10
    )
    np.testing.assert_array_equal((mean, var), kept)


def test_toy_network_gives_the_published_numbers() -> None:
    state = np.random.RandomState(0)
    w1, w2 = 0.1 * state.randn(10, 4), 0.1 * state.randn(3, 10)
    x, y = 10 * np.random.RandomState(1).randn(5, 4), np.array([0, 1, 2, 2, 1])
    scores = F.linear(F.linear(x, w1.T, np.zeros(10), activation="relu"), w2.T, np.zeros(3))
    published = [
        [-1.07260209, 0.05083871, -0.87253915],
        [-2.02778743, -0.10832494, -1.52641362],
        [-0.74225908, 0.15259725, -0.39578548],
        [-0.38172726, 0.10835902, -0.17328274],
        [-0.64417314, -0.18886813, -0.41106892],
    ]
    np.testing.assert_allclose(scores, published, rtol=0, atol=5e-9)
    penalty = 0.05 / 2 * ((w1**2).sum() + (w2**2).sum())
    mse, _ = F.mse(scores, np.eye(3)[y], reduction="batchmean", factor=0.5)
    assert mse + penalty == pytest.approx(1.8973332763705641, abs=1e-12)
    cross_entropy, _ = F.softmax_cross_entropy(scores, y)
    assert cross_entropy + penalty == pytest.approx(1.071696123862817, abs=1e-12)
