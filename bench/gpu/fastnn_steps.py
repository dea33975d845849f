"""fastnn's training step on a GPU: as its calls are written, captured, and as the Trainer takes it."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

import fastnn
import fastnn.functional as F
from bench.networks import Network
from bench.peers import LR, MOMENTUM, WEIGHT_DECAY
from fastnn import losses, optim

_LOSSES = {
    "softmax_cross_entropy": losses.SoftmaxCrossEntropy,
    "sigmoid_cross_entropy": losses.SigmoidCrossEntropy,
    "mse": losses.MSE,
}
_DATA = 1 << 29  # bytes of the Trainer's data set at most


def batch_of(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """The network's batch, images channels-last in memory."""
    x, y = network.batch()
    return (np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if x.ndim == 4 else x), y


def ordinary(network: Network) -> Callable[[], Any]:
    """A call that takes a step and returns its loss, which stays on the device."""
    backend = fastnn.get_backend()
    x, y = map(backend.asarray, batch_of(network))
    net = network.build()
    sgd = optim.SGD(net.parameters(), LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    loss_function = getattr(F, network.loss)

    def step() -> Any:
        loss, grad = loss_function(net.forward(x, training=True), y)
        net.backward(grad, input_grad=False)
        sgd.step()
        return loss

    return step


def captured(network: Network, before: int = 0) -> Callable[[], Any]:
    """The same as one CUDA graph.

    Parameters
    ----------
    before : int
        Steps to take before; the first two are ordinary ones in any case, since they make the optimiser's
        state.
    """
    from fastnn.kernels.cuda import _launch

    step = ordinary(network)
    for _ in range(max(2, before)):
        step()
    kept: list[Any] = [step]  # with its arrays, whose addresses the graph has
    replay = _launch.toolkit.record(lambda: kept.append(step()))

    def run() -> Any:
        replay()
        return kept[1]

    return run


def first_losses(network: Network, count: int) -> dict[str, list[float]]:
    """The losses of the first steps of each kind; of captured ones from the third on."""
    step = ordinary(network)
    found = [float(step()) for _ in range(count)]
    replay = captured(network)
    return {"ordinary": found, "captured": found[:2] + [float(replay()) for _ in range(count - 2)]}


def by_the_trainer(network: Network, epochs: int = 4) -> dict[str, Any]:
    """Seconds a step of epochs after the first, all that the Trainer does in one included."""
    from fastnn.training import Trainer

    x, y = batch_of(network)
    copies = max(1, min(200, _DATA // x.nbytes))
    x, y = (np.concatenate([a] * copies) for a in (x, y))
    net = network.build()
    sgd = optim.SGD(net.parameters(), LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    trainer = Trainer(net, _LOSSES[network.loss](), sgd, progress=False, seed=1)
    backend = fastnn.get_backend()
    history = trainer.fit(backend.asarray(x), backend.asarray(y), epochs=epochs, batch_size=network.x[0])
    seconds = [record["seconds"] / copies for record in history.epochs[1:]]
    return {"median": median(seconds), "rounds": seconds, "calls": copies}
