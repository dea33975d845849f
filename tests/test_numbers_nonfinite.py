"""NaN and the infinities pass through every kernel and every gradient as they do through the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastnn.backend import Backend
from tests import parity
from tests.drawn import KERNELS
from tests.nonfinite import assert_same
from tests.rooms import CPU, REFERENCE

EACH = 30  # calls of each operation and dtype


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("name", KERNELS)
def test_what_is_not_finite_comes_out_where_the_reference_has_it(name: str, dtype: Any) -> None:
    reached = [assert_same(CPU, name, [i, *name.encode()], dtype) for i in range(EACH)]
    assert sum(reached) > EACH // 4, "most of what is planted reaches a result"


STEPS = {
    "sgd": (0, (0.1, 0.0, 0.0, 0.0, False, True)),
    "sgd with momentum": (1, (0.1, 0.9, 0.0, 0.0, True, True)),
    "adam": (2, (0.1, 0.9, 0.99, 1e-8, 0.0, False, 1)),
    "rmsprop": (1, (0.1, 0.9, 1e-8, 0.0, 0.0)),
    "rmsprop with momentum": (2, (0.1, 0.9, 1e-8, 0.0, 0.9)),
}


@pytest.mark.parametrize("room", [REFERENCE, CPU], ids=["reference", "cpu"])
@pytest.mark.parametrize("name", STEPS)
def test_without_weight_decay_an_infinite_parameter_stays_what_it_is(name: str, room: Backend) -> None:
    states, numbers = STEPS[name]
    param, grad = np.array([np.inf, 1, -np.inf] * 9, np.float32), np.ones(27, np.float32)
    lists = [[param], [grad], *([np.zeros_like(param)] for _ in range(states))]
    getattr(room.update, name.split()[0])(room.update.bind(*lists), *numbers)
    np.testing.assert_array_equal(param[::3], np.inf)
    np.testing.assert_array_equal(param[2::3], -np.inf)
    assert (param[1::3] < 1).all()
