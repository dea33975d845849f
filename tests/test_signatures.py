"""Every room of kernels/ offers the same operations with the reference's parameter names, in its order."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

CONTRACT = {
    "linear": "linear linear_backward flatten",
    "activation": """relu relu_backward leaky_relu leaky_relu_backward sigmoid sigmoid_backward
        tanh tanh_backward
        gelu gelu_backward softmax softmax_backward log_softmax log_softmax_backward""",
    "conv": "conv2d conv2d_backward im2col col2im",
    "pool": "max_pool2d max_pool2d_backward avg_pool2d avg_pool2d_backward",
    "conv_pool": "conv2d_max_pool2d conv2d_max_pool2d_backward",
    "loss": "softmax_cross_entropy sigmoid_cross_entropy mse",
    "norm": "batch_norm batch_norm_backward",
    "random": "dropout dropout_backward",
    "update": "bind sgd adam rmsprop l2_penalty",
}
ROOMS = [(room, stem) for room in ("cpu", "cuda") for stem in CONTRACT]


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    signature = inspect.signature(getattr(function, "py_func", function))
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


@pytest.mark.parametrize(("room", "stem"), ROOMS)
def test_room_has_the_signatures_of_the_reference(room: str, stem: str) -> None:
    reference = importlib.import_module(f"fastnn.kernels.reference.{stem}")
    module = importlib.import_module(f"fastnn.kernels.{room}.{stem}")
    for name in CONTRACT[stem].split():
        assert parameters(getattr(module, name)) == parameters(getattr(reference, name)), name


@pytest.mark.parametrize("stem", CONTRACT)
def test_reference_documents_every_operation(stem: str) -> None:
    reference = importlib.import_module(f"fastnn.kernels.reference.{stem}")
    undocumented = [name for name in CONTRACT[stem].split() if not getattr(reference, name).__doc__]
    assert undocumented == []
