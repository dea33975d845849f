"""Losses: the value and its gradient, in one call."""

from functools import partial

import pytest

import fastnn.functional as F
from tests import cases


@pytest.mark.parametrize("case", cases.LOSS_REAL, ids=cases.by_name)
def bench_loss(time_it, case):
    pred, targets = case.operands()
    n, classes = case.shape
    time_it(case.loss, f"{n} x {classes}", lambda: partial(getattr(F, case.loss), pred, targets))
