"""A convolution and its max-pooling in one call, and its gradients."""

from functools import partial

import pytest

import fastnn.functional as F
from bench.bench_conv import label
from tests import cases

shapes = pytest.mark.parametrize("case", cases.CONV_POOL_REAL, ids=cases.by_name)


def pooled(case: cases.ConvPool) -> str:
    return f"{label(case.conv)}, pooled {case.kernel_size[0]} x {case.kernel_size[1]}"


@shapes
def bench_conv2d_max_pool2d(time_it, case):
    x, weight, bias, _ = case.operands()
    options = {
        "padding": case.conv.padding,
        "pool_size": case.kernel_size,
        "activation": case.conv.activation,
    }
    # the indices are not compared: of two maxima as good as equal, each contender may name another
    run = partial(F.conv2d_max_pool2d, x, weight, bias, **options)
    time_it("conv2d_max_pool2d", f"{pooled(case)} + {case.conv.activation}", lambda: lambda: run()[0])


@shapes
def bench_conv2d_max_pool2d_backward(time_it, case):
    x, weight, _, grad = case.operands()
    _, indices = F.conv2d_max_pool2d(x, weight, padding=case.conv.padding, pool_size=case.kernel_size)
    run = partial(F.conv2d_max_pool2d_backward, grad, indices, x, weight, padding=case.conv.padding)
    time_it("conv2d_max_pool2d_backward", pooled(case), lambda: run)
