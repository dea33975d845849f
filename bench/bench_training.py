"""Whole training steps of the experiments' networks: forward, loss, backward, update."""

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from bench.networks import NETWORKS, Network
from fastnn import optim
from tests import cases


def batch(case: Network) -> tuple[np.ndarray, np.ndarray]:
    x = cases.draw(case.x)
    labels = np.random.default_rng(1).integers(0, max(2, case.classes), len(x))
    if case.loss == "softmax_cross_entropy":
        return x, labels
    return x, (labels[:, None] == np.arange(1, case.classes + 1)).astype(np.float32)


@pytest.mark.parametrize("case", NETWORKS, ids=cases.by_name)
def bench_training_step(time_it, case):
    x, y = batch(case)

    def build():
        fastnn.seed(0)
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

    time_it("training step", f"{case.name}, batch {len(x)}", build)
