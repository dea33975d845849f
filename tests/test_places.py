"""Places of maxima as bytes within their windows, which kernels/cpu hands from a convolution's forward to its
backward: what they say is what the int32 do, to the bit."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import layers as ly
from fastnn.kernels.cpu import conv_pool as cpu
from fastnn.kernels.cpu import tile
from fastnn.kernels.reference import conv_pool as reference
from fastnn.kernels.reference._shared import in_image, in_windows
from tests import cases, parity

LANES = int(tile.lanes(4))
PAD = {"padding": (1, 1)}
BY_TILES = cases.ConvPool("by tiles", cases.Conv("", (9, LANES, 13, 11), (2 * LANES, LANES, 3, 3), **PAD))
BY_ROWS = cases.ConvPool("by rows", cases.Conv("", (9, 3, 13, 15), (2 * LANES, 3, 3, 3), **PAD))
WIDE = cases.ConvPool("by rows of 5", cases.Conv("", (9, 2, 14, 15), (LANES, 2, 4, 5), padding=(2, 1)))
FORWARD = [*cases.CONV_POOL_REAL, BY_TILES, BY_ROWS, WIDE]
MASKS = cases.ConvPool("few taps, 9 channels", cases.Conv("", (3, 9, 7, 8), (LANES + 3, 9, 1, 1)))
ODD = cases.ConvPool("odd", cases.Conv("", (3, 7, 9, 8), (70, 7, 3, 2), **PAD))
LISTS = cases.ConvPool("lists both ways", cases.Conv("", (3, 7, 11, 12), (5, 7, 5, 5), **PAD))
GROUPED = cases.ConvPool("grouped", cases.Conv("", (3, 6, 9, 8), (4, 3, 3, 3), groups=2))
OTHERS = [MASKS, ODD, LISTS, GROUPED]


@pytest.mark.parametrize("value", [None, np.nan, np.inf])
@pytest.mark.parametrize("case", FORWARD, ids=cases.by_name)
def test_forward_names_the_same_pixels(case: cases.ConvPool, value: float | None) -> None:
    x, weight, bias, _ = case.operands()
    if value is not None:  # some images go another way
        x[::2, 0, 4, 5] = value
    operands = x, weight, bias, case.convolution, case.pooling, "relu"
    out, indices = cpu.conv2d_max_pool2d(*operands)
    again, short = cpu.conv2d_max_pool2d(*operands, "short")
    np.testing.assert_array_equal(again, out)
    np.testing.assert_array_equal(cpu.conv2d_max_pool2d(*operands, "none")[0], out)
    if short.dtype == np.int32:
        assert case not in (BY_TILES, BY_ROWS, WIDE) or not tile.widest()
        np.testing.assert_array_equal(short, indices)
        return
    across = case.conv.output[3]
    assert short.dtype == np.uint8
    assert short.strides == tuple(stride // 4 for stride in indices.strides)
    np.testing.assert_array_equal(in_image(short, across), indices)
    np.testing.assert_array_equal(short, in_windows(indices, across))


@pytest.mark.parametrize("widest", [True, False])
@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("case", [*FORWARD, *OTHERS], ids=cases.by_name)
def test_backward_makes_the_same_gradients_of_them(
    case: cases.ConvPool, dtype: Any, widest: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, weight, bias, grad = case.operands(dtype)
    grad[:, :, ::2, 1::3] = 0
    out, indices = reference.conv2d_max_pool2d(x, weight, bias, case.convolution, case.pooling, "tanh")
    short = in_windows(indices, case.conv.output[3])
    monkeypatch.setattr(cpu, "widest", lambda: widest and tile.widest())
    options = x, weight, case.convolution
    for input_grad, activated in itertools.product((True, False), (None, ("tanh", out))):
        rest = *options, input_grad, None, case.pooling, activated
        expected = cpu.conv2d_max_pool2d_backward(grad, indices, *rest)
        given = parity.arrange(short, "channels-last" if input_grad else "C")
        for ours, theirs in zip(
            cpu.conv2d_max_pool2d_backward(grad, given, *rest, short=True), expected, strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    theirs = reference.conv2d_max_pool2d_backward(grad, indices, *options, True, None, case.pooling)
    ours = reference.conv2d_max_pool2d_backward(grad, short, *options, True, None, case.pooling, None, True)
    for actual, expected in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_a_backend_chosen_between_forward_and_backward_understands_them() -> None:
    def gradients(forward: str, backward: str) -> list[np.ndarray]:
        net = ly.Sequential(ly.Conv2d(3, LANES, 3, padding=1), ly.MaxPool2d(2), ly.ReLU())
        for seed, parameter in enumerate(net.parameters()):
            parameter.data[...] = cases.draw(parameter.data.shape, 2 + seed)
        x = cases.draw((9, 3, 12, 14))
        with fastnn.use_backend(forward):
            out = net.forward(x, training=True)
        with fastnn.use_backend(backward):
            grad_x = net.backward(cases.draw(out.shape, 1))
            alone = net[1].backward(net[2].backward(cases.draw(out.shape, 1)))
        return [grad_x, alone, *(p.grad for p in net.parameters())]

    expected = gradients("numpy", "numpy")
    for ways in (("numba", "numba"), ("numba", "numpy"), ("numpy", "numba")):
        for ours, theirs in zip(gradients(*ways), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, 1e-4, 1e-4)
