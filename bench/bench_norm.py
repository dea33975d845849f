"""Batch normalisation in training, and its gradients."""

from functools import partial

import numpy as np
import pytest

import fastnn.functional as F
from tests import cases

shapes = pytest.mark.parametrize("case", cases.NORM_REAL, ids=cases.by_name)


def operands(case: cases.Norm) -> tuple[np.ndarray, ...]:
    x, grad = cases.draw(case.x, 1), cases.draw(case.x, 2)
    if x.ndim == 4:
        x, grad = cases.channels_last(x), cases.channels_last(grad)
    return x, grad, np.ones(case.x[1], np.float32), np.zeros(case.x[1], np.float32)


@shapes
def bench_batch_norm(time_it, case):
    x, _, ones, zeros = operands(case)

    def build():
        return partial(F.batch_norm, x, ones, zeros, zeros.copy(), ones.copy(), training=True)

    time_it("batch_norm", case.name, build)


@shapes
def bench_batch_norm_backward(time_it, case):
    x, grad, ones, zeros = operands(case)
    _, mean, inv_std = F.batch_norm(x, ones, zeros, zeros.copy(), ones.copy(), training=True)
    run = partial(F.batch_norm_backward, grad, x, ones, mean, inv_std)
    time_it("batch_norm_backward", case.name, lambda: run)
