"""What fastnn.onnx_backend does not take: refused by name, before anything runs where that can be known."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fastnn import onnx_backend
from fastnn.onnx_backend import UnsupportedModel
from fastnn.onnx_backend.node import TRAINING
from tests.onnx_models import FLOAT, model, node, normal, on_numpy, one  # noqa: F401


def momentum(**attributes: Any) -> onnx.ModelProto:
    settings = {"alpha": 0.5, "beta": 1.0, "norm_coefficient": 0.0, "mode": "standard", **attributes}
    step = helper.make_node("Momentum", list("rtxgv"), ["y", "u"], "the-node", domain=TRAINING, **settings)
    given = model([step], {"r": [], "t": [], "x": [2], "g": [2], "v": [2]})
    given.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    return given


IMAGE = {"x": [1, 2, 7, 6]}
STATISTICS = {"x": [2, 3], "s": [3], "b": [3], "m": [3], "v": [3]}


REFUSED = [
    (one("Erf", {"x": [3]}), "", None),
    (one("Relu", {"x": [3]}, opset=5), "opset", 5),
    (one("Relu", {"x": [3]}, dtype=TensorProto.FLOAT16), "input x", np.float16),
    (
        one("Relu", {"x": [3]}, dtype=TensorProto.BFLOAT16),
        "input x",
        helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16),
    ),
    (one("Sub", {"x": [3], "z": [3]}, dtype=TensorProto.INT32), "input x", np.int32),
    (one("MaxPool", IMAGE, kernel_shape=[2, 2], auto_pad="SAME"), "auto_pad", "SAME"),
    (one("MaxPool", IMAGE, kernel_shape=[2, 2], pads=[0, -1, 0, 0]), "pads", [0, -1, 0, 0]),
    (one("AveragePool", IMAGE, kernel_shape=[2, 2], dilations=[1, 2]), "dilations", [1, 2]),
    (one("Gelu", {"x": [3]}, approximate="quick"), "approximate", "quick"),
    (one("SoftmaxCrossEntropyLoss", {"x": [2, 3], "t": [2]}, reduction="median"), "reduction", "median"),
    (one("BatchNormalization", STATISTICS, "y p q r s2", opset=9), "training_mode", 0),
    (one("BatchNormalization", STATISTICS, opset=7, spatial=0), "spatial", 0),
    (one("BatchNormalization", STATISTICS, opset=6), "is_test", 0),
    (momentum(alpha=0.0), "alpha", 0.0),
    (momentum(beta=1.5), "beta", 1.5),
    (momentum(beta=0.5, mode="nesterov"), "beta", 0.5),
    (momentum(mode="heavy"), "mode", "heavy"),
    (model([helper.make_node("Constant", [], ["y"], "the-node", value_string="a")], {}), "value_string", "a"),
]


def about(case: Any) -> str:
    given, attribute, value = case
    return f"{given.graph.node[0].op_type} {attribute} {value}"


@pytest.mark.parametrize(("given", "attribute", "value"), REFUSED, ids=map(about, REFUSED))
def test_what_is_not_supported_is_refused_before_anything_runs(
    given: onnx.ModelProto, attribute: str, value: Any
) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        onnx_backend.prepare(given)
    error = caught.value
    assert (error.operator.rpartition(".")[2], error.node) == (given.graph.node[0].op_type, "the-node")
    assert (error.attribute, error.value) == (attribute, value)
    for word in (error.operator, "'the-node'", attribute):
        assert word in str(error)
    assert not onnx_backend.is_compatible(given)


@pytest.mark.parametrize(
    ("given", "shape", "attribute", "value"),
    [
        (one("Conv", {"x": ["n"] * 5, "w": ["n"] * 5}), (1, 1, 2, 2, 2), "shape of input x", (1, 1, 2, 2, 2)),
        (one("MaxPool", IMAGE, kernel_shape=[2, 2], pads=[2, 0, 0, 0]), (1, 2, 7, 6), "pads", [2, 0, 0, 0]),
        (
            one("MaxPool", IMAGE, "y i", kernel_shape=[2, 2], auto_pad="SAME_UPPER", strides=[2, 2]),
            (1, 2, 7, 6),
            "auto_pad",
            "SAME_UPPER",
        ),
    ],
)
def test_what_only_an_input_shows_not_to_be_supported_is_refused_when_it_comes(
    given: onnx.ModelProto, shape: tuple[int, ...], attribute: str, value: Any
) -> None:
    prepared = onnx_backend.prepare(given)
    with pytest.raises(UnsupportedModel) as caught:
        prepared.run([normal(*shape)] * len(prepared.inputs))
    assert (caught.value.attribute, caught.value.value) == (attribute, value)
    assert "'the-node'" in str(caught.value)


def test_the_suites_way_to_skip_a_test_in_silence_is_not_taken() -> None:
    assert not issubclass(UnsupportedModel, unittest.SkipTest)
    package = Path(onnx_backend.__file__).parent
    assert not any(
        "SkipTest" in f.read_text() or "NotSupposed" in f.read_text() for f in package.glob("*.py")
    )


def test_an_error_of_an_operator_says_which_node_it_was() -> None:
    given = one("Gemm", {"a": ["n", "k"], "b": ["l", "m"]})
    with pytest.raises(ValueError, match="linear got") as caught:
        onnx_backend.prepare(given).run([normal(2, 3), normal(4, 5)])
    assert "Gemm, node 'the-node'" in caught.value.__notes__[0]


def test_an_invalid_model_is_onnxs_own_error() -> None:
    with pytest.raises(onnx.checker.ValidationError):
        onnx_backend.prepare(model([node("Relu", "nowhere")], {"x": [3]}))


def test_operands_of_two_float_types_are_an_error() -> None:
    x = normal(2, 2)
    for kind, inputs in (("Add", [x, x.astype(np.float64)]), ("Gemm", [x, x, x.astype(np.float64)])):
        with pytest.raises(TypeError, match="float32 and float64"):
            onnx_backend.run_node(node(kind, "x y z"[: 2 * len(inputs) - 1]), inputs)


def test_sparse_weights_are_refused_by_name() -> None:
    given = model([node("Add", "x w")], {"x": [3]})
    values = helper.make_tensor("w", FLOAT, [1], [2.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [1])
    given.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [3]))
    with pytest.raises(UnsupportedModel, match="'w' is sparse"):
        onnx_backend.prepare(given)


def test_weights_in_another_file_are_not_read_from_where_the_model_says(tmp_path: Path) -> None:
    given = model([node("Add", "x w")], {"x": [3]}, constants={"w": normal(3)})
    onnx.save(given, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (out,) = onnx_backend.prepare(onnx.load(tmp_path / "m.onnx")).run([np.zeros(3, np.float32)])
    np.testing.assert_array_equal(out, normal(3))
    unread = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    with pytest.raises(ValueError, match=r"'w' lie in another file: onnx\.load"):
        onnx_backend.prepare(unread)
