"""A batch of nothing: on every backend the same shapes, zeros for gradients, and nothing else is touched."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import layers as ly
from tests.backends import BACKENDS, on_backend  # noqa: F401
from tests.calls import CALLS, results, table

LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "Linear": (lambda: ly.Linear(5, 3), (5,)),
    "Conv2d": (lambda: ly.Conv2d(4, 3, 3, 2, 1), (4, 6, 5)),
    "MaxPool2d": (lambda: ly.MaxPool2d(2), (4, 6, 5)),
    "AvgPool2d": (lambda: ly.AvgPool2d(2), (4, 6, 5)),
    "BatchNorm1d": (lambda: ly.BatchNorm1d(5), (5,)),
    "BatchNorm2d": (lambda: ly.BatchNorm2d(4), (4, 6, 5)),
    "Dropout": (lambda: ly.Dropout(0.4), (5,)),
    "Flatten": (lambda: ly.Flatten(), (4, 6, 5)),
    "ReLU": (lambda: ly.ReLU(), (5,)),
    "LeakyReLU": (lambda: ly.LeakyReLU(), (5,)),
    "Sigmoid": (lambda: ly.Sigmoid(), (5,)),
    "Tanh": (lambda: ly.Tanh(), (5,)),
    "GELU": (lambda: ly.GELU(), (5,)),
    "Softmax": (lambda: ly.Softmax(), (5,)),
    "Sequential": (
        lambda: ly.Sequential(ly.Conv2d(4, 3, 3), ly.ReLU(), ly.MaxPool2d(2), ly.Flatten(), ly.Linear(12, 2)),
        (4, 6, 6),
    ),
}


def test_the_table_has_every_layer() -> None:
    assert LAYERS.keys() == set(ly.__all__) - {"Layer", "Parameter"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CALLS)
def test_every_function_gives_the_same_nothing_on_every_backend(name: str, dtype: Any) -> None:
    call = table(dtype)[name]
    whole = {**call.arrays, **call.others}
    # what has no batch axis of its own follows the arrays that have
    also = {"max_pool2d_backward": ("grad", "indices"), "avg_pool2d_backward": ("grad",)}
    batched = also.get(name, call.batched or ("logits", "targets"))
    empty = {k: whole[k][:0] for k in batched if k in whole}
    if "input_shape" in whole:
        empty["input_shape"] = (0, *whole["input_shape"][1:])
    outputs = {}
    for backend in BACKENDS:
        with fastnn.use_backend(backend), warnings.catch_warnings():
            warnings.simplefilter("error")
            outputs[backend] = results(call, **empty)
    for ours, theirs in zip(outputs["numba"], outputs["numpy"], strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_takes_an_empty_batch_forward_and_back(name: str, backend: str) -> None:
    make, shape = LAYERS[name]
    layer, x = make(), np.empty((0, *shape), np.float32)
    full = layer(np.ones((2, *shape), np.float32))
    before = {key: np.copy(value) for key, value in layer.state_dict().items()}
    for parameter in layer.parameters():
        parameter.grad[...] = 1
    out = layer.forward(x, training=True)
    assert (out.shape, out.dtype) == ((0, *full.shape[1:]), np.float32)
    assert layer.backward(np.empty_like(out)).shape == x.shape
    for parameter in layer.parameters():
        np.testing.assert_array_equal(parameter.grad, 0)
    for key, value in layer.state_dict().items():  # running statistics among them
        np.testing.assert_array_equal(value, before[key], key)


def test_a_step_on_an_empty_batch_moves_nothing_but_by_weight_decay(backend: str) -> None:
    net = LAYERS["Sequential"][0]()
    before = [p.data.copy() for p in net.parameters()]
    optimizer = fastnn.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=0.5)
    out = net.forward(np.empty((0, 4, 6, 6), np.float32), training=True)
    _, grad = F.softmax_cross_entropy(out, np.empty(0, np.int64), reduction="sum")
    net.backward(grad, input_grad=False)
    optimizer.step()
    for parameter, was in zip(net.parameters(), before, strict=True):
        np.testing.assert_allclose(parameter.data, was * (1 - 0.1 * 0.5), rtol=1e-6)
