"""Dropout: the mask is drawn anew, and applied, in one call."""

from functools import partial

import pytest

import fastnn.functional as F
from tests import cases


@pytest.mark.parametrize("case", cases.DROPOUT_REAL, ids=cases.by_name)
def bench_dropout(time_it, case):
    time_it("dropout", case.name, lambda: partial(F.dropout, cases.draw(case.shape), 0.5, 1, 2))
