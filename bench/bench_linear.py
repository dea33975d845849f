"""Matrix product with bias and activation, and its gradients."""

from functools import partial

import pytest

import fastnn.functional as F
from tests import cases

shapes = pytest.mark.parametrize("case", cases.LINEAR_REAL, ids=cases.by_name)


def label(case: cases.Linear) -> str:
    return f"{case.n} x {case.in_features} -> {case.out_features}"


@shapes
def bench_linear(time_it, case):
    x, weight, bias, _ = case.operands()
    activation = f" + {case.activation}" if case.activation else ""
    run = partial(F.linear, x, weight, bias, activation=case.activation)
    time_it("linear", label(case) + activation, lambda: run)


@shapes
def bench_linear_backward(time_it, case):
    x, weight, _, grad = case.operands()
    time_it("linear_backward", label(case), lambda: partial(F.linear_backward, grad, x, weight))
