"""fastnn.onnx_backend as its users meet it: what it takes, what it returns, and where it runs."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import fastnn
from fastnn import onnx_backend
from fastnn.onnx_backend import UnsupportedModel
from fastnn.onnx_backend.node import OPERATORS
from tests import pretended
from tests.backends import on_backend  # noqa: F401
from tests.onnx_models import model, node, normal, on_numpy  # noqa: F401

MLP = model(
    [node("Gemm", "x w b", "h"), node("Relu", "h", "r"), node("Softmax", "r", "y")],
    {"x": ["n", 4]},
    ("r", "y"),
    {"w": normal(4, 3), "b": normal(3)},
)


def test_outputs_come_in_order_and_by_name(backend: str) -> None:
    prepared, x = onnx_backend.prepare(MLP), normal(5, 4)
    assert (prepared.inputs, prepared.outputs) == (("x",), ("r", "y"))
    hidden, probabilities = result = prepared.run([x])
    np.testing.assert_allclose(hidden, np.maximum(x @ normal(4, 3) + normal(3), 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    assert result["y"] is probabilities
    for again in (prepared.run({"x": x}), onnx_backend.run_model(MLP, [x])):
        np.testing.assert_array_equal(again["r"], hidden)
        np.testing.assert_array_equal(again["y"], probabilities)


def test_an_initializer_that_is_an_input_too_is_a_default() -> None:
    given = model([node("Add", "x w")], {"x": [2], "w": [2]}, constants={"w": np.float32([1, 2])})
    prepared = onnx_backend.prepare(given)
    assert prepared.inputs == ("x",)
    x = np.float32([10, 20])
    np.testing.assert_array_equal(prepared.run([x])[0], [11, 22])
    np.testing.assert_array_equal(prepared.run({"x": x, "w": x})[0], [20, 40])
    np.testing.assert_array_equal(prepared.run([x])[0], [11, 22])


def test_the_backend_is_the_one_in_force_when_the_model_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    prepared = onnx_backend.prepare(model([node("Relu")], {"x": [3]}))
    for name in ("numpy", "numba"):
        with fastnn.use_backend(name) as backend:
            relu = backend.activation.relu
            monkeypatch.setattr(
                backend.activation, "relu", lambda x, name=name, relu=relu: called.append(name) or relu(x)
            )
            np.testing.assert_array_equal(prepared.run([np.float32([-1, 0, 2])])[0], [0, 0, 2])
    assert called == ["numpy", "numba"]


@pytest.mark.parametrize(
    ("inputs", "error", "words"),
    [
        (normal(5, 4), TypeError, ["list (x)", "dict", "ndarray"]),
        ([], TypeError, ["list of 0"]),
        ([normal(5, 4)] * 2, TypeError, ["list of 2"]),
        ({"z": normal(5, 4)}, ValueError, ["x is missing", "z is unknown"]),
        ({"x": normal(5, 4), "h": normal(5, 3)}, ValueError, ["h is unknown"]),
        ([normal(5, 4).astype(np.float64)], TypeError, ["x has dtype float64", "float32", "x.astype"]),
        ([normal(5, 3)], ValueError, ["(5, 3)", "('n', 4)"]),
        ([normal(4)], ValueError, ["(4,)", "('n', 4)"]),
    ],
)
def test_inputs_that_do_not_fit_the_model_are_named(inputs: Any, error: type, words: list[str]) -> None:
    with pytest.raises(error) as caught:
        onnx_backend.prepare(MLP).run(inputs)
    for word in words:
        assert word in str(caught.value)


def test_results_share_memory_with_no_input_no_weight_and_no_other_result(backend: str) -> None:
    nodes = [
        node("Identity", "x", "same"),
        node("Transpose", "x", "turned"),
        node("Flatten", "x", "flat"),
        node("Identity", "w", "weight"),
        node("Relu", "x", "relu"),
        node("Identity", "relu", "relu2"),
        helper.make_node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(normal(2))),
    ]
    names = ("same", "turned", "flat", "weight", "relu", "relu2", "c", "x")
    prepared = onnx_backend.prepare(model(nodes, {"x": [2, 3]}, names, {"w": normal(2, 2)}))
    x = normal(2, 3)
    kept = x.copy()
    first = prepared.run([x])
    copies = [out.copy() for out in first]
    for one, other in itertools.combinations((x, *first), 2):
        assert not np.shares_memory(one, other)
    for out in first:
        out[...] = 99
    np.testing.assert_array_equal(x, kept)
    for out, copy in zip(prepared.run([x]), copies, strict=True):
        np.testing.assert_array_equal(out, copy)


def test_inputs_may_be_read_only_and_empty_and_lie_anyhow(backend: str) -> None:
    prepared = onnx_backend.prepare(MLP)
    x = normal(8, 4)
    x.flags.writeable = False
    np.testing.assert_allclose(
        prepared.run([np.asfortranarray(x)[::2]])["y"], prepared.run([x])["y"][::2], rtol=1e-5
    )
    assert prepared.run([x[:0]])["y"].shape == (0, 3)


def test_a_function_that_the_model_defines_is_run_as_its_nodes() -> None:
    opsets = [helper.make_opsetid("", 21)]
    twice = helper.make_function("mine", "Twice", ["a"], ["b"], [node("Add", "a a", "b")], opsets)
    call = helper.make_node("Twice", ["x"], ["y"], domain="mine")
    given = model([call], {"x": [3]}, domain="mine", functions=[twice])
    np.testing.assert_array_equal(onnx_backend.prepare(given).run([normal(3)])[0], 2 * normal(3))


@pytest.mark.parametrize(("opset", "axes"), [(11, (1, 2)), (13, (2,))])
def test_a_node_alone_is_read_by_the_opset_that_is_given(
    opset: int, axes: tuple[int, ...], backend: str
) -> None:
    (out,) = onnx_backend.run_node(node("Softmax"), [normal(2, 3, 4)], opset_version=opset)
    np.testing.assert_allclose(out.sum(axes), 1, rtol=1e-6)
    (newest,) = onnx_backend.run_node(node("Softmax"), [normal(2, 3, 4)])
    np.testing.assert_allclose(newest.sum(2), 1, rtol=1e-6)


def test_a_node_alone_leaves_out_what_it_leaves_out() -> None:
    drop = helper.make_node("Dropout", ["x", "", "t"], ["y", "mask"], seed=1)
    out, mask = onnx_backend.run_node(drop, [np.ones(1000, np.float32), np.bool_(True)])
    np.testing.assert_array_equal(out, 2 * mask)  # by the ratio that stands for the one left out
    assert 400 < mask.sum() < 600
    with pytest.raises(TypeError, match="x, t, but 1"):
        onnx_backend.run_node(drop, [np.ones(3, np.float32)])
    with pytest.raises(UnsupportedModel, match="Erf"):
        onnx_backend.run_node(node("Erf"), [normal(3)])


def test_devices_are_named_as_onnx_does(monkeypatch: pytest.MonkeyPatch) -> None:
    # Asking for the GPU's backend would start CUDA in a process that later tests fork.
    monkeypatch.setattr("fastnn.backend._why_not", lambda name: "no driver" if name == "cupy" else None)
    assert [onnx_backend.supports_device(device) for device in ("CPU", "CUDA", "TPU")] == [True, False, False]
    assert onnx_backend.is_compatible(MLP)
    assert not onnx_backend.is_compatible(MLP, "CUDA")
    with pytest.raises(ValueError, match="unknown device 'TPU'"):
        onnx_backend.prepare(MLP, "TPU")
    with pytest.raises(fastnn.BackendUnavailable, match="no driver"):
        onnx_backend.prepare(MLP, "CUDA")


@pytest.mark.skipif(pretended.WHY_NOT is not None, reason=str(pretended.WHY_NOT))
def test_on_a_gpu_numbers_are_moved_and_shapes_and_results_are_where_they_belong(built: Path) -> None:
    nodes = [
        node("Add", "x w", "sum"),
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "n"),
        node("Concat", "n rest", "flat", axis=0),
        node("Reshape", "sum flat", "rows"),
        node("Gather", "rows order", "y"),
    ]
    constants = {
        "w": normal(3, 1),
        "zero": np.array([0]),
        "rest": np.array([-1]),
        "order": np.array([[1, 0], [1, 1]]),
    }
    given = model(nodes, {"x": ["n", 3, 2]}, constants=constants)
    x = normal(2, 3, 2)
    expected = (x + constants["w"]).reshape(2, 6)[constants["order"]]
    np.testing.assert_array_equal(onnx_backend.prepare(given).run([x])[0], expected)
    with pretended.pretended(built):
        import cupy

        prepared = onnx_backend.prepare(given, "CUDA:0")
        for run in (prepared.run, onnx_backend.prepare(given).run):
            (out,) = run([cupy.asarray(x)])
            assert isinstance(out, cupy.ndarray)
            np.testing.assert_array_equal(out.get(), expected)
        for _ in range(2):  # the second time the weights are there already
            (out,) = prepared.run([x])
            assert isinstance(out, np.ndarray)
            np.testing.assert_array_equal(out, expected)


def test_the_package_names_the_operators_that_it_has() -> None:
    named = re.findall(
        r"\b[A-Z][A-Za-z]+\b", onnx_backend.__doc__.partition("The operators:")[2].partition("Models")[0]
    )
    assert sorted(named) == sorted(name for _, name in OPERATORS)
