"""scikit-learn: one ``partial_fit`` of an MLPClassifier (cross-entropies) or MLPRegressor (MSE) a step.

It has networks of one hidden layer, trained by SGD with momentum, and differs in this: there is no weight
decay apart from a penalty in the loss, which is left out here; `partial_fit` checks its arguments at each
call; and its squared error is half of ours, summed over the outputs where its gradient is taken.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

from bench.networks import Network
from bench.peers import LR, MOMENTUM

ACTIVATIONS = {"relu": "relu", "sigmoid": "logistic"}


def training(network: Network, variant: str) -> Callable[[], float]:
    hidden, activation, _ = network.layers
    x, y = network.batch()
    mse = network.loss == "mse"
    lr = LR * 2 / network.classes if mse else LR
    model = (MLPRegressor if mse else MLPClassifier)(
        hidden_layer_sizes=(hidden.outputs,),
        activation=ACTIVATIONS[activation.name],
        solver="sgd",
        batch_size=len(x),
        shuffle=False,
        learning_rate_init=lr,
        momentum=MOMENTUM,
        nesterovs_momentum=False,
        alpha=0.0,
    )
    if mse:
        model.partial_fit(x, y)
    else:
        y = y.reshape(-1).astype(np.int64)
        model.partial_fit(x, y, classes=np.arange(max(2, network.classes)))
    for i, (weight, bias) in enumerate(network.weights()):
        model.coefs_[i][...] = weight
        model.intercepts_[i][...] = bias
    del model._optimizer  # it has a velocity from the call that made the arrays

    def step() -> float:
        model.partial_fit(x, y)
        return 2 * model.loss_ if mse else model.loss_

    return step
