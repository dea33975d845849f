"""Whole networks as ONNX models: fastnn.onnx_backend against fastnn's layers, PyTorch and ONNX Runtime."""

from __future__ import annotations

import io
import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import fastnn
from fastnn import onnx_backend
from fastnn.layers import (
    GELU,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
)
from tests.backends import on_backend  # noqa: F401


def make_network() -> tuple[Sequential, onnx.ModelProto]:
    """A network with its statistics and weights drawn, and the same in ONNX, node for layer."""
    norm = BatchNorm2d(8)
    rng = np.random.default_rng(0)
    norm.weight.data[...], norm.bias.data[...] = rng.normal(1, 0.3, 8), rng.normal(0, 0.3, 8)
    norm.running_mean[...], norm.running_var[...] = rng.normal(0, 0.3, 8), rng.uniform(0.5, 2, 8)
    layers: list[tuple[Any, str, dict[str, Any]]] = [
        (Conv2d(3, 8, 3, padding=1), "Conv", {"pads": [1, 1, 1, 1]}),
        (norm, "BatchNormalization", {}),
        (ReLU(), "Relu", {}),
        (MaxPool2d(2), "MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        (
            Conv2d(8, 12, (3, 2), stride=(1, 2), dilation=(2, 1), groups=2),
            "Conv",
            {"strides": [1, 2], "dilations": [2, 1], "group": 2},
        ),
        (LeakyReLU(0.2), "LeakyRelu", {"alpha": 0.2}),
        (
            AvgPool2d(2, padding=(1, 0), ceil_mode=True, count_include_pad=False),
            "AveragePool",
            {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 0, 1, 0], "ceil_mode": 1},
        ),
        (GELU(), "Gelu", {}),
        (Flatten(), "Flatten", {}),
        (Dropout(0.5), "Dropout", {}),
        (Linear(12 * 2 * 2, 16), "Gemm", {}),
        (Tanh(), "Tanh", {}),
        (Linear(16, 10), "Gemm", {}),
        (Sigmoid(), "Sigmoid", {}),
        (Softmax(), "Softmax", {"axis": 1}),
    ]
    nodes, weights = [], []
    for i, (layer, kind, attributes) in enumerate(layers):
        arrays = [p.data for p in layer.parameters()]
        if layer is norm:
            arrays += [norm.running_mean, norm.running_var]
        names = [f"w{i}.{k}" for k in range(len(arrays))]
        weights += map(onnx.numpy_helper.from_array, map(np.ascontiguousarray, arrays), names)
        nodes.append(helper.make_node(kind, [f"v{i}", *names], [f"v{i + 1}"], **attributes))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("v0", TensorProto.FLOAT, ["n", 3, 12, 12])],
        [helper.make_tensor_value_info(f"v{len(nodes)}", TensorProto.FLOAT, ["n", 10])],
        weights,
    )
    opsets = [helper.make_opsetid("", 20)]
    return Sequential(*(layer for layer, *_ in layers)), helper.make_model(
        graph, opset_imports=opsets, ir_version=9
    )


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, 3, 12, 12)).astype(np.float32)


def test_a_network_gives_what_its_layers_give(backend: str) -> None:
    network, model = make_network()
    prepared = onnx_backend.prepare(model)
    for count in (1, 5, 0):
        (out,) = prepared.run([images(count)])
        np.testing.assert_allclose(out, network(images(count)), rtol=1e-5, atol=1e-7)


def test_a_network_gives_what_onnx_runtime_gives(backend: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    _, model = make_network()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        (expected,) = session.run(None, {"v0": images(count)})
        (out,) = onnx_backend.prepare(model).run([images(count)])
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


# Dilated windows with auto_pad are left out: ONNX Runtime refuses such convolutions, and pools to other sizes
# than the ONNX standard says.
WINDOWS = {
    "uneven padding": {"pads": [0, 1, 2, 1]},
    "uneven, strided": {"pads": [2, 0, 1, 1], "strides": [2, 3]},
    "same, upper": {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
    "same, lower": {"auto_pad": "SAME_LOWER", "strides": [3, 2]},
    "even": {"pads": [1, 1, 1, 1], "strides": [2, 2]},
    "valid": {"auto_pad": "VALID", "strides": [3, 1]},
}
OPERATORS = {
    "Conv": {"group": 2},
    "Conv dilated": {"group": 2, "dilations": [2, 3]},
    "MaxPool": {"kernel_shape": [3, 2]},
    "MaxPool dilated": {"kernel_shape": [3, 2], "dilations": [2, 3]},
    "AveragePool": {"kernel_shape": [3, 2], "count_include_pad": 0},
    "AveragePool with padding": {"kernel_shape": [3, 2], "count_include_pad": 1},
}


@pytest.mark.parametrize(
    ("operator", "window"),
    [(o, w) for o in OPERATORS for w in WINDOWS if not (o.endswith("dilated") and w.startswith("same"))],
)
def test_a_window_moves_as_in_onnx_runtime(operator: str, window: str, backend: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    kind, settings = operator.split()[0], OPERATORS[operator] | WINDOWS[window]
    rng = np.random.default_rng(0)
    given = {"x": rng.standard_normal((2, 4, 13, 11)).astype(np.float32)}
    if kind == "Conv":
        given["w"] = rng.standard_normal((6, 2, 3, 2)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node(kind, list(given), ["y"], **settings)],
        "window",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, a.shape) for name, a in given.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, given)
    (out,) = onnx_backend.prepare(model).run(given)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


@cache
def exported(any_batch: bool) -> tuple[Any, onnx.ModelProto]:
    """A network of PyTorch's, and what its exporter makes of it (the older one, which needs nothing more)."""
    import torch
    from torch import nn

    class View(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.view(x.size(0), -1)

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

        def forward(self, x: Any) -> Any:
            return x + torch.relu(self.norm(self.conv((x - 0.5) / 2)))

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding="same"), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), Residual(),
        nn.Conv2d(8, 12, 3, stride=2, groups=2), nn.LeakyReLU(0.2),
        nn.AvgPool2d(2, 1, ceil_mode=True, padding=1), nn.Dropout(0.5), nn.GELU(), nn.GELU("tanh"),
        nn.AdaptiveAvgPool2d(1), View(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 10, bias=False),
        nn.Sigmoid(), nn.Softmax(1), nn.LogSoftmax(1),
    )  # fmt: skip
    with torch.no_grad():
        network(torch.from_numpy(images(32)))  # the statistics of normalisation, no longer 0 and 1
    network.eval()
    file, axes = io.BytesIO(), {"dynamic_axes": {"x": {0: "n"}}} if any_batch else {}
    x = torch.from_numpy(images(5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's age
        torch.onnx.export(network, (x,), file, dynamo=False, opset_version=20, input_names=["x"], **axes)
    return network, onnx.load_from_string(file.getvalue())


@pytest.mark.parametrize("any_batch", [False, True])
def test_a_network_that_pytorch_exports_gives_what_it_gives_there(any_batch: bool, backend: str) -> None:
    torch = pytest.importorskip("torch")
    network, model = exported(any_batch)
    prepared = onnx_backend.prepare(model)
    for count in (5, 2) if any_batch else (5,):
        (out,) = prepared.run({"x": images(count)})
        with torch.no_grad():
            expected = network(torch.from_numpy(images(count)))
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_a_model_in_float64_is_computed_in_float64() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((4, 5)), rng.standard_normal((5, 3))
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])],
        "double",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n", 5])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["n", 3])],
        [onnx.numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    with fastnn.use_backend("numpy"):
        (out,) = onnx_backend.run_model(model, [x])
    assert out.dtype == np.float64
    np.testing.assert_allclose(out, np.tanh(x @ w), rtol=1e-13)
