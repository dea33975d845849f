"""Parameter updates: all of a network's parameters in one call."""

import numpy as np
import pytest

import fastnn
from tests import cases

RULES = {
    "sgd": ("sgd", 1, (1e-3, 0.9, 0.0, 1e-4, False, False)),
    "adam": ("adam", 2, (1e-3, 0.9, 0.999, 1e-8, 0.0, False, 1)),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("case", cases.UPDATE_REAL, ids=cases.by_name)
def bench_update(time_it, case, rule):
    name, states, arguments = RULES[rule]

    def build():
        update = fastnn.get_backend().update
        params = [cases.draw(shape, 1) for shape in case.shapes]
        grads = [cases.draw(shape, 2) for shape in case.shapes]
        table = update.bind(params, grads, *([np.zeros_like(p) for p in params] for _ in range(states)))

        def step():
            getattr(update, name)(table, *arguments)
            return params

        return step

    time_it(rule, case.name, build)
