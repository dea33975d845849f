"""Whole training steps of the experiments' networks: forward, loss, backward, update."""

import pytest

import fastnn
import fastnn.functional as F
from bench.networks import NETWORKS
from fastnn import optim
from tests import cases


@pytest.mark.parametrize("case", NETWORKS, ids=cases.by_name)
def bench_training_step(time_it, case):
    x, y = case.batch()

    def build():
        fastnn.seed(0)  # of the dropout
        net = case.build()
        optimizer = optim.SGD(net.parameters(), lr=1e-3, momentum=0.5)
        loss_function = getattr(F, case.loss)
        trained = [parameter.data for parameter in net.parameters()]

        def step():
            loss, grad = loss_function(net.forward(x, training=True), y)
            net.backward(grad, input_grad=False)
            optimizer.step()
            return loss, trained

        return step

    time_it("training step", f"{case.name.split(',')[0]}, batch {len(x)}", build)
