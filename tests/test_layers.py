"""What holds for every layer: gradients, shapes, errors, and what a forward keeps."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastnn
from fastnn import layers as ly
from tests import cases
from tests.backends import on_backend  # noqa: F401


class Case(NamedTuple):
    name: str
    make: Callable[[Any], ly.Layer]  # of a dtype
    shape: tuple[int, ...]


IMAGES = (3, 4, 6, 5)
CASES = [
    Case("Linear", lambda dtype: ly.Linear(5, 3, dtype=dtype), (4, 5)),
    Case("Linear without bias", lambda dtype: ly.Linear(5, 3, bias=False, dtype=dtype), (4, 5)),
    Case("Conv2d", lambda dtype: ly.Conv2d(4, 3, 3, dtype=dtype), IMAGES),
    Case("Conv2d without bias", lambda dtype: ly.Conv2d(4, 3, (2, 3), bias=False, dtype=dtype), IMAGES),
    Case("Conv2d strided", lambda dtype: ly.Conv2d(4, 3, 3, (2, 1), (1, 2), dtype=dtype), IMAGES),
    Case("Conv2d dilated", lambda dtype: ly.Conv2d(4, 2, 2, 1, 1, (2, 3), dtype=dtype), IMAGES),
    Case("Conv2d grouped", lambda dtype: ly.Conv2d(4, 6, 3, 1, 1, groups=2, dtype=dtype), IMAGES),
    Case("Conv2d same, odd", lambda dtype: ly.Conv2d(4, 3, (3, 5), padding="same", dtype=dtype), IMAGES),
    Case("Conv2d same, even", lambda dtype: ly.Conv2d(4, 3, (2, 4), padding="same", dtype=dtype), IMAGES),
    Case("MaxPool2d", lambda dtype: ly.MaxPool2d(2), IMAGES),
    Case("MaxPool2d overlapping", lambda dtype: ly.MaxPool2d(3, (2, 1), 1, ceil_mode=True), IMAGES),
    Case("AvgPool2d", lambda dtype: ly.AvgPool2d(2), IMAGES),
    Case("AvgPool2d overlapping", lambda dtype: ly.AvgPool2d(3, 2, 1, True, count_include_pad=False), IMAGES),
    Case("ReLU", lambda dtype: ly.ReLU(), (4, 5)),
    Case("ReLU of images", lambda dtype: ly.ReLU(), IMAGES),
    Case("LeakyReLU", lambda dtype: ly.LeakyReLU(0.2), (4, 5)),
    Case("Sigmoid", lambda dtype: ly.Sigmoid(), (4, 5)),
    Case("Tanh", lambda dtype: ly.Tanh(), (4, 5)),
    Case("GELU", lambda dtype: ly.GELU(), (4, 5)),
    Case("GELU by tanh", lambda dtype: ly.GELU("tanh"), (4, 5)),
    Case("Softmax", lambda dtype: ly.Softmax(), (4, 5)),
    Case("Softmax of channels", lambda dtype: ly.Softmax(axis=1), IMAGES),
    Case("BatchNorm1d", lambda dtype: ly.BatchNorm1d(5, dtype=dtype), (4, 5)),
    Case("BatchNorm2d", lambda dtype: ly.BatchNorm2d(4, dtype=dtype), IMAGES),
    Case("Dropout", lambda dtype: ly.Dropout(0.4), (4, 5)),
    Case("Flatten", lambda dtype: ly.Flatten(), IMAGES),
    Case(
        "Sequential",
        lambda dtype: ly.Sequential(
            *(
                ly.Conv2d(4, 3, 3, padding=1, dtype=dtype),
                ly.Tanh(),
                ly.MaxPool2d(2),
                ly.BatchNorm2d(3, dtype=dtype),
            ),
            *(ly.Flatten(), ly.Dropout(0.2), ly.Sequential(ly.Linear(18, 6, dtype=dtype), ly.Sigmoid())),
            ly.Linear(6, 2, dtype=dtype),
        ),
        IMAGES,
    ),
]
every_layer = pytest.mark.parametrize("case", CASES, ids=cases.by_name)


def times(weights: np.ndarray) -> Callable[[Any, Any], tuple[float, Any]]:
    """A loss that is linear in the output: the gradient that goes back is `weights`."""
    return lambda output, _: (float((output * weights).sum()), weights)


@every_layer
def test_gradients_are_those_of_central_differences(backend: str, case: Case) -> None:
    layer, x = case.make(np.float64), cases.draw(case.shape, 1, np.float64)
    weights = cases.draw(layer(x).shape, 2, np.float64)
    report = fastnn.gradcheck(layer, x, None, times(weights))
    assert report.max_absolute < 2e-8, str(report)
    assert [entry.checked for entry in report.entries] == [*(p.data.size for p in layer.parameters()), x.size]


@every_layer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_forward_and_backward_leave_operands_alone_and_return_fresh_arrays(
    backend: str, case: Case, dtype: Any
) -> None:
    layer, x = case.make(dtype), cases.draw(case.shape, 1, dtype)
    x.flags.writeable = False
    for training in (False, True):
        out = layer.forward(x, training=training)
        assert out.dtype == dtype
        assert not np.shares_memory(out, x)
        assert out.flags.writeable
    grad = cases.draw(out.shape, 2, dtype)
    grad.flags.writeable = False
    grad_x = layer.backward(grad)
    assert (grad_x.shape, grad_x.dtype) == (x.shape, dtype)
    assert not np.shares_memory(grad_x, grad)
    assert not np.shares_memory(grad_x, x)


@every_layer
def test_memory_order_of_the_input_changes_nothing(backend: str, case: Case) -> None:
    layer, x = case.make(np.float64), cases.draw(case.shape, 1, np.float64)
    results = []
    for arranged in (
        x,
        np.asfortranarray(x),
        cases.channels_last(x) if x.ndim == 4 else x[::-1].copy()[::-1],
    ):
        fastnn.seed(5)
        out = layer.forward(arranged, training=True)
        weights = cases.draw(out.shape, 2, np.float64)
        results.append([out, layer.backward(weights), *(p.grad.copy() for p in layer.parameters())])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@every_layer
def test_an_empty_batch_goes_through(backend: str, case: Case) -> None:
    layer, x = case.make(np.float32), np.empty((0, *case.shape[1:]), np.float32)
    out = layer(x)
    assert out.shape == (0, *layer(cases.draw(case.shape)).shape[1:])
    if not any("running_mean" in name for name in layer.state_dict()):  # no batch, no statistics
        assert layer.forward(x, training=True).shape == out.shape
        assert layer.backward(np.empty_like(out)).shape == x.shape
        assert not any(p.grad.any() for p in layer.parameters())


@every_layer
def test_without_input_grad_the_parameters_gradients_are_the_same(backend: str, case: Case) -> None:
    layer, x = case.make(np.float32), cases.draw(case.shape)
    out = layer.forward(x, training=True)
    grad = cases.draw(out.shape, 2)
    layer.backward(grad)
    expected = [p.grad.copy() for p in layer.parameters()]
    for parameter in layer.parameters():
        parameter.grad[...] = 7
    assert layer.backward(grad, input_grad=False) is None
    for parameter, values in zip(layer.parameters(), expected, strict=True):
        np.testing.assert_array_equal(parameter.grad, values)


@every_layer
def test_gradients_are_overwritten_in_buffers_that_stay(backend: str, case: Case) -> None:
    layer, x = case.make(np.float32), cases.draw(case.shape)
    buffers = [p.grad for p in layer.parameters()]
    seen = []
    for _ in range(2):
        fastnn.seed(1)
        out = layer.forward(x, training=True)
        layer.backward(cases.draw(out.shape, 2))
        seen.append([p.grad.copy() for p in layer.parameters()])
    for parameter, buffer, first, second in zip(layer.parameters(), buffers, *seen, strict=True):
        assert parameter.grad is buffer
        assert buffer.strides == parameter.data.strides
        np.testing.assert_array_equal(first, second)
        assert first.any()


@every_layer
def test_backward_without_a_training_forward_says_so(backend: str, case: Case) -> None:
    layer, x = case.make(np.float32), cases.draw(case.shape)
    grad = cases.draw(layer(x).shape)
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=r"backward\(\) needs a forward\(x, training=True\).*inference"
        ):
            layer.backward(grad)
        layer.forward(x, training=True)
        layer.backward(grad)
        layer.forward(x)  # inference keeps nothing


@every_layer
def test_integers_are_refused_with_what_to_cast(backend: str, case: Case) -> None:
    with pytest.raises(TypeError, match=r"x.*int64.*astype"):
        case.make(np.float32).forward(np.ones(case.shape, np.int64))
    with pytest.raises(TypeError, match="list"):
        case.make(np.float32).forward([1.0, 2.0], training=True)


# Dropout keeps no shape: it has a mask for any gradient.
@pytest.mark.parametrize("case", [case for case in CASES if case.name != "Dropout"], ids=cases.by_name)
def test_a_gradient_of_another_shape_is_refused(backend: str, case: Case) -> None:
    layer = case.make(np.float32)
    out = layer.forward(cases.draw(case.shape), training=True)
    with pytest.raises(ValueError, match=rf"\({out.shape[0] + 1}, "):
        layer.backward(cases.draw((out.shape[0] + 1, *out.shape[1:])))


@every_layer
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_are_independent_and_compute_the_same(
    backend: str, case: Case, duplicate: Callable[[Any], Any]
) -> None:
    layer, x = case.make(np.float32), cases.draw(case.shape)
    layer.forward(x, training=True)
    other = duplicate(layer)
    expected = layer(x)
    np.testing.assert_array_equal(other(x), expected)
    with pytest.raises(RuntimeError, match="training=True"):
        other.backward(expected)  # a copy starts between two steps
    for a, b in zip(layer.parameters(), other.parameters(), strict=True):
        assert a.data.strides == b.data.strides
        b.data[...] = 0
    np.testing.assert_array_equal(layer(x), expected)


@every_layer
def test_inference_from_many_threads_is_right(backend: str, case: Case) -> None:
    layer = case.make(np.float32)
    inputs = [cases.draw(case.shape, seed) for seed in range(16)]
    expected = [layer(x) for x in inputs]
    name = fastnn.get_backend().name

    def run(x: np.ndarray) -> np.ndarray:
        with fastnn.use_backend(name):
            return layer(x)

    with ThreadPoolExecutor(4) as pool:
        for out, right in zip(pool.map(run, inputs), expected, strict=True):
            np.testing.assert_array_equal(out, right)


def test_layers_repr_as_they_are_made() -> None:
    with fastnn.use_backend("numpy"):
        shown = [repr(case.make(np.float32)) for case in CASES[:-1]]
    assert shown == [
        *("Linear(5, 3)", "Linear(5, 3, bias=False)"),
        *("Conv2d(4, 3, 3)", "Conv2d(4, 3, (2, 3), bias=False)"),
        *("Conv2d(4, 3, 3, stride=(2, 1), padding=(1, 2))", "Conv2d(4, 2, 2, padding=1, dilation=(2, 3))"),
        *("Conv2d(4, 6, 3, padding=1, groups=2)", "Conv2d(4, 3, (3, 5), padding=(1, 2))"),
        *("Conv2d(4, 3, (2, 4), padding='same')", "MaxPool2d(2)"),
        *("MaxPool2d(3, stride=(2, 1), padding=1, ceil_mode=True)", "AvgPool2d(2)"),
        "AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False)",
        *("ReLU()", "ReLU()", "LeakyReLU(0.2)", "Sigmoid()", "Tanh()", "GELU('none')", "GELU('tanh')"),
        *(
            "Softmax(axis=-1)",
            "Softmax(axis=1)",
            "BatchNorm1d(5)",
            "BatchNorm2d(4)",
            "Dropout(0.4)",
            "Flatten()",
        ),
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ly.Linear(0, 3),
        lambda: ly.Conv2d(3, 4, 3, groups=2),
        lambda: ly.Conv2d(4, 4, 0),
        lambda: ly.Conv2d(4, 4, 3, padding="full"),
        lambda: ly.Conv2d(4, 4, 3, stride=2, padding="same"),
        lambda: ly.Conv2d(4, 4, 3, padding=-1),
        lambda: ly.MaxPool2d(0),
        lambda: ly.AvgPool2d(2, stride=0),
        lambda: ly.Dropout(1.5),
        lambda: ly.GELU("fast"),
        lambda: ly.BatchNorm1d(0),
    ],
)
def test_options_out_of_range_are_refused_when_the_layer_is_made(make: Callable[[], Any]) -> None:
    with fastnn.use_backend("numpy"), pytest.raises(ValueError):
        make()


def test_a_dtype_that_is_no_float_is_refused() -> None:
    for make in (ly.Linear, ly.Conv2d):
        with fastnn.use_backend("numpy"), pytest.raises(TypeError, match="float16"):
            make(3, 3, *([2] if make is ly.Conv2d else []), dtype=np.float16)


class DeviceArray:
    """Stands for a CuPy array where there is no GPU."""

    dtype, ndim, shape = np.dtype(np.float32), 2, (2, 3)


@pytest.mark.parametrize(
    "make", [lambda: ly.Linear(3, 2), lambda: ly.BatchNorm1d(3), lambda: ly.Sequential(ly.Linear(3, 2))]
)
def test_parameters_on_the_host_and_input_on_a_gpu_are_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]
) -> None:
    with fastnn.use_backend("numpy"):
        layer = make()
        monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(ndarray=DeviceArray))
        with pytest.raises(RuntimeError, match=r"parameters of .* are on the host.*load_state_dict"):
            layer.forward(DeviceArray())
