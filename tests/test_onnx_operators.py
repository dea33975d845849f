"""Operators of fastnn.onnx_backend where the ONNX project's own tests say little."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from onnx import helper

import fastnn
from fastnn import onnx_backend
from fastnn.onnx_backend.node import TRAINING
from tests.backends import on_backend  # noqa: F401
from tests.onnx_models import node, normal, on_numpy  # noqa: F401


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1), (1, 4), (3, 4)])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (1.0, 0.5), (0.5, 1.0), (2.0, 0.0)])
def test_gemm_scales_its_product_and_its_bias(shape: tuple[int, ...], alpha: float, beta: float) -> None:
    a, b, c = normal(3, 2), normal(2, 4), normal(*shape)
    (out,) = onnx_backend.run_node(node("Gemm", "a b c", alpha=alpha, beta=beta), [a, b, c])
    np.testing.assert_allclose(out, alpha * (a @ b) + beta * c, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "wanted", "allowzero", "expected"),
    [
        ((2, 3, 4), (2, -1), 0, (2, 12)),
        ((2, 3, 4), (3, -1), 0, (3, 8)),
        ((2, 3, 4), (0, -1), 0, (2, 12)),
        ((2, 3, 4), (0, 0, 2, -1), 0, (2, 3, 2, 2)),
        ((0, 3, 4), (0, -1), 0, (0, 12)),
        ((0, 3), (3, 0), 1, (3, 0)),
        ((), (1, -1), 0, (1, 1)),
        ((1, 1), (), 0, ()),
    ],
)
def test_reshape_keeps_the_order_of_the_logical_axes(
    shape: tuple[int, ...], wanted: tuple[int, ...], allowzero: int, expected: tuple[int, ...], backend: str
) -> None:
    x = np.asfortranarray(normal(*shape))
    (out,) = onnx_backend.run_node(
        node("Reshape", "x shape", allowzero=allowzero), [x, np.array(wanted, np.int64)]
    )
    np.testing.assert_array_equal(out, x.reshape(expected))


def test_dropout_in_training_zeroes_what_its_mask_says_and_scales_the_rest(backend: str) -> None:
    x = normal(50, 40)

    def drop(**attributes: Any) -> Any:
        return onnx_backend.run_node(
            node("Dropout", "x r t", "y m", **attributes), [x, np.float32(0.75), np.bool_(True)]
        )

    out, mask = drop(seed=-3)
    assert mask.mean() == pytest.approx(0.25, abs=0.05)
    np.testing.assert_allclose(out, x * mask * 4, rtol=1e-6)
    np.testing.assert_array_equal(drop(seed=-3)["m"], mask)
    assert (drop(seed=4)["m"] != mask).any()
    fastnn.seed(7)
    first, second = drop()["m"], drop()["m"]
    assert (first != second).any()
    fastnn.seed(7)
    np.testing.assert_array_equal(drop()["m"], first)


def windows(
    length: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil: bool
) -> list:
    """The places of each window's taps along one axis, in the image or not, by counting windows."""
    span, found = (kernel - 1) * dilation + 1, []
    while True:
        start = len(found) * stride - before
        room = length + after - start - span
        if room < 0 and not (ceil and room > -stride and start < length):
            return found
        found.append(range(start, start + span, dilation))


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("pads", [(0, 0, 1, 1), (1, 0, 0, 2), (2, 2, 2, 2), (0, 1, 2, 0)])
@pytest.mark.parametrize("stride", [(1, 2), (2, 3)])
def test_poolings_with_uneven_or_wide_padding_are_what_loops_find(
    stride: tuple[int, int], pads: tuple[int, ...], ceil: bool, backend: str
) -> None:
    x, kernel = normal(2, 3, 7, 8), (3, 3)
    rows, columns = (
        windows(x.shape[2 + i], kernel[i], stride[i], pads[i], pads[2 + i], 1, ceil) for i in range(2)
    )
    shape = (2, 3, len(rows), len(columns))
    highest, means, padded_means = np.empty(shape), np.empty(shape), np.empty(shape)
    for (i, vertical), (j, horizontal) in itertools.product(enumerate(rows), enumerate(columns)):
        taps = list(itertools.product(vertical, horizontal))
        inside = [x[:, :, r, c] for r, c in taps if 0 <= r < 7 and 0 <= c < 8]
        counting = [1 for r, c in taps if r < 7 + pads[2] and c < 8 + pads[3]]
        highest[:, :, i, j] = np.max(inside, axis=0)
        means[:, :, i, j] = np.mean(inside, axis=0)
        padded_means[:, :, i, j] = np.sum(inside, axis=0) / len(counting)
    options = {"kernel_shape": kernel, "strides": stride, "pads": pads, "ceil_mode": int(ceil)}
    (out,) = onnx_backend.run_node(node("MaxPool", **options), [x])
    np.testing.assert_array_equal(out, highest.astype(np.float32))
    for include, expected in ((0, means), (1, padded_means)):
        (out,) = onnx_backend.run_node(node("AveragePool", count_include_pad=include, **options), [x])
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("pads", [[0, 0], [1, 1], [0, 2], [2, 2]])
def test_a_sequence_is_an_image_of_one_row(kind: str, pads: list[int], backend: str) -> None:
    x, (before, after) = normal(2, 3, 11), pads
    (out,) = onnx_backend.run_node(node(kind, kernel_shape=[3], strides=[2], pads=pads), [x])
    wide = {"kernel_shape": [1, 3], "strides": [1, 2], "pads": [0, before, 0, after]}
    (image,) = onnx_backend.run_node(node(kind, **wide), [x[:, :, None]])
    np.testing.assert_array_equal(out, image[:, :, 0])


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_conv_pads_by_itself_as_it_says(auto_pad: str, backend: str) -> None:
    x, weight = normal(2, 4, 7, 8), normal(6, 2, 3, 2)
    options = {"strides": [2, 3], "dilations": [1, 2], "group": 2}
    (out,) = onnx_backend.run_node(node("Conv", "x w", auto_pad=auto_pad, **options), [x, weight])
    if auto_pad == "VALID":
        before, after = (0, 0), (0, 0)
    else:
        assert out.shape == (2, 6, math.ceil(7 / 2), math.ceil(8 / 3))
        # windows: 3 rows by 2s over 7 need 2 more; 3 columns by 3s over 8 need 1 more
        before, after = ((1, 1), (1, 0)) if auto_pad == "SAME_LOWER" else ((1, 0), (1, 1))
    padded = np.pad(x, ((0, 0), (0, 0), (before[0], after[0]), (before[1], after[1])))
    (expected,) = onnx_backend.run_node(node("Conv", "x w", **options), [padded, weight])
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_labels_that_are_no_class_are_an_error_and_ignored_ones_are_not() -> None:
    kinds = ("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")
    for kind, reduction, weights in itertools.product(kinds, ("mean", "sum", "none"), ([], [normal(3) ** 2])):
        inputs = "x t w" if weights else "x t"
        loss = node(kind, inputs, reduction=reduction, ignore_index=-7)
        for label in (3, -1):
            with pytest.raises(ValueError, match=f"label {label}"):
                onnx_backend.run_node(loss, [normal(2, 3), np.array([0, label]), *weights])
        (out,) = onnx_backend.run_node(loss, [normal(2, 3), np.array([0, -7]), *weights])
        (alone,) = onnx_backend.run_node(loss, [normal(2, 3)[:1], np.array([0]), *weights])
        np.testing.assert_allclose(out.sum(), alone.sum(), rtol=1e-6)
        (nothing,) = onnx_backend.run_node(loss, [normal(1, 3), np.array([-7]), *weights])
        assert np.isnan(nothing) if reduction == "mean" else (nothing == 0).all()


@pytest.mark.parametrize("step", [1, 5])
def test_adam_of_a_later_step_corrects_as_onnx_says(step: int, backend: str) -> None:
    x, g, m, h = normal(4), normal(4, seed=1), normal(4, seed=2), normal(4, seed=3) ** 2
    a, b, decay, after, eps, rate = 0.9, 0.99, 0.01, 0.1, 1e-3, 0.05
    settings = {"norm_coefficient": decay, "norm_coefficient_post": after, "epsilon": eps}
    adam = helper.make_node("Adam", list("rtxgmh"), list("yuv"), domain=TRAINING, alpha=a, beta=b, **settings)
    out = onnx_backend.run_node(adam, [np.float32(rate), np.int64(step), x, g, m, h])
    x, g, m, h = (array.astype(np.float64) for array in (x, g, m, h))
    g = g + decay * x
    m, h = a * m + (1 - a) * g, b * h + (1 - b) * g**2
    x = (1 - after) * (x - rate * (1 - b**step) ** 0.5 / (1 - a**step) * m / (h**0.5 + eps))
    for actual, expected in zip(out, (x, m, h), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5)
