"""Max and average pooling, and their gradients."""

from functools import partial

import pytest

import fastnn.functional as F
from tests import cases

shapes = pytest.mark.parametrize("case", cases.POOL_REAL, ids=cases.by_name)


def label(case: cases.Pool) -> str:
    return f"{' x '.join(map(str, case.x))}, {case.kernel_size[0]} x {case.kernel_size[1]}"


@shapes
def bench_max_pool2d(time_it, case):
    x = cases.channels_last(cases.draw(case.x))
    time_it(
        "max_pool2d", label(case), lambda: partial(F.max_pool2d, x, case.kernel_size, return_indices=True)
    )


@shapes
def bench_max_pool2d_backward(time_it, case):
    x = cases.channels_last(cases.draw(case.x))
    out, indices = F.max_pool2d(x, case.kernel_size, return_indices=True)
    time_it("max_pool2d_backward", label(case), lambda: partial(F.max_pool2d_backward, out, indices, x.shape))


@shapes
def bench_avg_pool2d(time_it, case):
    x = cases.channels_last(cases.draw(case.x))
    time_it("avg_pool2d", label(case), lambda: partial(F.avg_pool2d, x, case.kernel_size))
