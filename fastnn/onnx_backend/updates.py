"""Steps of training as operators: (R, T, X₁ ..., G₁ ..., state ...) to (X₁ ..., state ...), by fastnn.optim.

R is the learning rate and T the number of the step, from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastnn import optim
from fastnn.layers import Parameter
from fastnn.onnx_backend.node import TRAINING, Array, Node, operator


@operator("Momentum", 1, domain=TRAINING)
def momentum(node: Node) -> Callable[..., Any]:
    alpha, beta = node.attribute("alpha", None), node.attribute("beta", None)
    decay, mode = node.attribute("norm_coefficient", None), node.choice("mode", "", ("standard", "nesterov"))
    if not alpha > 0:
        raise node.unsupported("alpha", alpha, "SGD without momentum keeps no velocity; it must be above 0")
    if not (beta <= 1 if mode == "standard" else beta == 1):
        raise node.unsupported("beta", beta, "it must be at most 1, and 1 in mode nesterov")

    def compute(rate: Array, step: Array, *arrays: Array) -> tuple[Array, ...]:
        values, grads, velocities = _groups(arrays, 3)

        def sgd(parameters: list[Parameter]) -> optim.Optimizer:
            dampening = 1 - beta if step > 0 else 0.0
            return optim.SGD(parameters, float(rate), alpha, decay, mode == "nesterov", dampening)

        return _stepped(sgd, values, grads, 0, momentum=velocities)

    return compute


@operator("Adam", 1, domain=TRAINING)
def adam(node: Node) -> Callable[..., Any]:
    alpha, beta = node.attribute("alpha", 0.9), node.attribute("beta", 0.999)
    epsilon, decay = node.attribute("epsilon", 1e-6), node.attribute("norm_coefficient", 0.0)
    decay_after = node.attribute("norm_coefficient_post", 0.0)

    def compute(rate: Array, step: Array, *arrays: Array) -> tuple[Array, ...]:
        values, grads, means, squares = _groups(arrays, 4)
        t = max(int(step), 1)
        first, second = 1 - alpha**t, (1 - beta**t) ** 0.5

        # fastnn corrects the bias of both means before it adds epsilon, ONNX behind that and through the
        # rate; and at step 0 ONNX corrects nothing.
        def optimizer(parameters: list[Parameter]) -> optim.Optimizer:
            lr = float(rate) if step > 0 else float(rate) * first / second
            return optim.Adam(parameters, lr, (alpha, beta), epsilon / second, decay)

        out = _stepped(optimizer, values, grads, t - 1, mean=means, square=squares)
        return *[x * (1 - decay_after) for x in out[: len(values)]], *out[len(values) :]

    return compute


def _groups(arrays: Sequence[Array], count: int) -> list[list[Array]]:
    """The arrays in `count` lists of one length, in turn."""
    each = len(arrays) // count
    return [list(arrays[i * each : (i + 1) * each]) for i in range(count)]


def _stepped(
    optimizer: Callable[[list[Parameter]], optim.Optimizer],
    values: list[Array],
    grads: list[Array],
    steps: int,
    **state: list[Array],
) -> tuple[Array, ...]:
    """Values and state after one more step of an optimiser that has taken `steps`."""
    parameters = [Parameter(f"X{i}", x) for i, x in enumerate(values, 1)]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad
    taken = optimizer(parameters)
    saved = taken.state_dict()
    saved["steps"], saved["groups"][0]["state"] = steps, state
    taken.load_state_dict(saved)
    taken.step()
    after = (taken.groups[0].state[name] for name in state)
    return *[p.data for p in parameters], *[a for arrays in after for a in arrays]
