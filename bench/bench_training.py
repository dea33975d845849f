"""Whole training steps of the experiments' networks: forward, loss, backward, update."""

import pytest

import fastnn
import fastnn.functional as F
from bench.networks import NETWORKS, ON_DIGITS
from fastnn import optim
from fastnn.training import TrainingStep
from tests import cases


@pytest.mark.parametrize("case", NETWORKS + ON_DIGITS, ids=cases.by_name)
def bench_training_step(time_it, case):
    if reason := case.missing():
        pytest.skip(reason)
    x, y = case.batch()

    def build():
        fastnn.seed(0)  # of the dropout
        net = case.build()
        optimizer = optim.SGD(net.parameters(), lr=1e-3, momentum=0.5)
        whole = TrainingStep(net, getattr(F, case.loss), optimizer)
        trained = [parameter.data for parameter in net.parameters()]
        return lambda: (whole(x, y), trained)

    time_it("training step", f"{case.name.split(',')[0]}, batch {len(x)}", build)
