"""Convolution, its gradients, im2col and its adjoint. Images lie channels-last, as layers pass them on."""

from functools import partial

import pytest

import fastnn.functional as F
from tests import cases

shapes = pytest.mark.parametrize("case", cases.CONV_REAL, ids=cases.by_name)


def label(case: cases.Conv) -> str:
    n, channels, height, width = case.x
    return f"{n} x {channels} x {height} x {width} -> {case.weight[0]}, {case.weight[2]} x {case.weight[3]}"


@shapes
def bench_conv2d(time_it, case):
    x, weight, bias, _ = case.operands()
    run = partial(F.conv2d, x, weight, bias, padding=case.padding, activation=case.activation)
    time_it("conv2d", f"{label(case)} + {case.activation}", lambda: run)


@shapes
def bench_conv2d_backward(time_it, case):
    x, weight, _, grad = case.operands()
    run = partial(F.conv2d_backward, grad, x, weight, padding=case.padding)
    time_it("conv2d_backward", label(case), lambda: run)


@shapes
def bench_im2col(time_it, case):
    x = case.operands()[0]
    time_it("im2col", label(case), lambda: partial(F.im2col, x, case.kernel_size, padding=case.padding))


@shapes
def bench_col2im(time_it, case):
    cols = F.im2col(case.operands()[0], case.kernel_size, padding=case.padding)
    run = partial(F.col2im, cols, case.x[2:], case.kernel_size, padding=case.padding)
    time_it("col2im", label(case), lambda: run)
