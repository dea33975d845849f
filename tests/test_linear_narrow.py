"""Products with a weight of few columns: which go the way of kernels/cpu/_linear_narrow.py, and what that
promises beyond the accuracy that tests/test_parity_linear.py bounds."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.kernels.cpu import _linear_narrow, linear
from tests import cases

each_case = pytest.mark.parametrize("case", cases.LINEAR_NARROW, ids=cases.by_name)


def test_products_with_few_columns_go_this_way_if_there_is_enough_to_do() -> None:
    assert all(_linear_narrow.pays(*case[1:4]) for case in cases.LINEAR_NARROW)
    assert {-(-case.out_features // 6) for case in cases.LINEAR_NARROW} == {1, 2}  # groups of columns
    assert {case.n < 2048 for case in cases.LINEAR_NARROW} == {True, False}  # one part and several
    ways = {case.name: _linear_narrow.pays(*case[1:4]) for case in cases.LINEAR_REAL}
    assert [name for name, narrow in ways.items() if narrow] == ["cifar10-sigmoid out"]
    assert not _linear_narrow.pays(10_000, 10_000, 13)
    assert not _linear_narrow.pays(10_000, 10_000, 0)


@each_case
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_row_and_its_column(case: cases.Linear, value: float) -> None:
    x, weight, bias, grad = case.operands()
    last = case.in_features - 1
    x[case.n - 2, last] = value
    out = linear.linear(x, weight, bias, None)
    assert not np.isfinite(out[case.n - 2]).any()
    assert np.isfinite(np.delete(out, case.n - 2, axis=0)).all()
    _, grad_weight, _ = linear.linear_backward(grad, x, weight, False)
    assert not np.isfinite(grad_weight[last]).any()
    assert np.isfinite(grad_weight[:last]).all()
