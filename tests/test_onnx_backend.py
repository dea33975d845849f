"""fastnn.onnx_backend as its users meet it: what it takes, returns, keeps apart and refuses."""

from __future__ import annotations

import itertools
import math
import re
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import fastnn
from fastnn import onnx_backend
from fastnn.onnx_backend import UnsupportedModel
from fastnn.onnx_backend.node import OPERATORS, TRAINING
from tests import pretended
from tests.backends import on_backend  # noqa: F401

FLOAT = TensorProto.FLOAT


@pytest.fixture(autouse=True)
def _numpy_backend() -> Iterator[None]:
    with fastnn.use_backend("numpy"):  # within which the fixture `backend` chooses
        yield


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Any],
    outputs: tuple[str, ...] = ("y",),
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 21,
    dtype: int = FLOAT,
    domain: str = TRAINING,
    **options: Any,
) -> onnx.ModelProto:
    """A model of these nodes; `inputs` are shapes by name."""
    constants = constants or {}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(domain, 1)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=10, **options)
    made = onnx.shape_inference.infer_shapes(made)
    given = {value.name: value for value in made.graph.input}
    for value in made.graph.output:
        if value.name in given:
            value.CopyFrom(given[value.name])
        tensor = value.type.tensor_type  # which the checker wants all of, even where it cannot be inferred
        tensor.elem_type = tensor.elem_type or dtype
        tensor.shape.SetInParent()
    return made


def node(kind: str, inputs: str = "x", outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(" "), outputs.split(" "), **attributes)


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


def momentum(**attributes: Any) -> onnx.ModelProto:
    settings = {"alpha": 0.5, "beta": 1.0, "norm_coefficient": 0.0, "mode": "standard", **attributes}
    step = helper.make_node("Momentum", list("rtxgv"), ["y", "u"], "the-node", domain=TRAINING, **settings)
    given = model([step], {"r": [], "t": [], "x": [2], "g": [2], "v": [2]})
    given.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    return given


IMAGE = {"x": [1, 2, 7, 6]}
STATISTICS = {"x": [2, 3], "s": [3], "b": [3], "m": [3], "v": [3]}


def one(
    kind: str, inputs: dict[str, Any], outputs: str = "y", opset: int = 21, **more: Any
) -> onnx.ModelProto:
    """A model of one node, called the-node, whose inputs are all of one type."""
    dtype = more.pop("dtype", FLOAT)
    names = tuple(outputs.split(" "))
    return model(
        [node(kind, " ".join(inputs), outputs, name="the-node", **more)],
        inputs,
        names,
        opset=opset,
        dtype=dtype,
    )


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


@pytest.mark.parametrize("shape", [(), (1,), (4,), (3, 1), (1, 4), (3, 4)])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (1.0, 0.5), (0.5, 1.0), (2.0, 0.0)])
def test_gemm_scales_its_product_and_its_bias(shape: tuple[int, ...], alpha: float, beta: float) -> None:
    a, b, c = normal(3, 2), normal(2, 4), normal(*shape)
    (out,) = onnx_backend.run_node(node("Gemm", "a b c", alpha=alpha, beta=beta), [a, b, c])
    np.testing.assert_allclose(out, alpha * (a @ b) + beta * c, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "wanted", "allowzero", "expected"),
    [
        ((2, 3, 4), (2, -1), 0, (2, 12)),
        ((2, 3, 4), (3, -1), 0, (3, 8)),
        ((2, 3, 4), (0, -1), 0, (2, 12)),
        ((2, 3, 4), (0, 0, 2, -1), 0, (2, 3, 2, 2)),
        ((0, 3, 4), (0, -1), 0, (0, 12)),
        ((0, 3), (3, 0), 1, (3, 0)),
        ((), (1, -1), 0, (1, 1)),
        ((1, 1), (), 0, ()),
    ],
)
def test_reshape_keeps_the_order_of_the_logical_axes(
    shape: tuple[int, ...], wanted: tuple[int, ...], allowzero: int, expected: tuple[int, ...], backend: str
) -> None:
    x = np.asfortranarray(normal(*shape))
    (out,) = onnx_backend.run_node(
        node("Reshape", "x shape", allowzero=allowzero), [x, np.array(wanted, np.int64)]
    )
    np.testing.assert_array_equal(out, x.reshape(expected))


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


def test_dropout_in_training_zeroes_what_its_mask_says_and_scales_the_rest(backend: str) -> None:
    x = normal(50, 40)

    def drop(**attributes: Any) -> Any:
        return onnx_backend.run_node(
            node("Dropout", "x r t", "y m", **attributes), [x, np.float32(0.75), np.bool_(True)]
        )

    out, mask = drop(seed=-3)
    assert mask.mean() == pytest.approx(0.25, abs=0.05)
    np.testing.assert_allclose(out, x * mask * 4, rtol=1e-6)
    np.testing.assert_array_equal(drop(seed=-3)["m"], mask)
    assert (drop(seed=4)["m"] != mask).any()
    fastnn.seed(7)
    first, second = drop()["m"], drop()["m"]
    assert (first != second).any()
    fastnn.seed(7)
    np.testing.assert_array_equal(drop()["m"], first)


def windows(
    length: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil: bool
) -> list:
    """The places of each window's taps along one axis, in the image or not, by counting windows."""
    span, found = (kernel - 1) * dilation + 1, []
    while True:
        start = len(found) * stride - before
        room = length + after - start - span
        if room < 0 and not (ceil and room > -stride and start < length):
            return found
        found.append(range(start, start + span, dilation))


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("pads", [(0, 0, 1, 1), (1, 0, 0, 2), (2, 2, 2, 2), (0, 1, 2, 0)])
@pytest.mark.parametrize("stride", [(1, 2), (2, 3)])
def test_poolings_with_uneven_or_wide_padding_are_what_loops_find(
    stride: tuple[int, int], pads: tuple[int, ...], ceil: bool, backend: str
) -> None:
    x, kernel = normal(2, 3, 7, 8), (3, 3)
    rows, columns = (
        windows(x.shape[2 + i], kernel[i], stride[i], pads[i], pads[2 + i], 1, ceil) for i in range(2)
    )
    shape = (2, 3, len(rows), len(columns))
    highest, means, padded_means = np.empty(shape), np.empty(shape), np.empty(shape)
    for (i, vertical), (j, horizontal) in itertools.product(enumerate(rows), enumerate(columns)):
        taps = list(itertools.product(vertical, horizontal))
        inside = [x[:, :, r, c] for r, c in taps if 0 <= r < 7 and 0 <= c < 8]
        counting = [1 for r, c in taps if r < 7 + pads[2] and c < 8 + pads[3]]
        highest[:, :, i, j] = np.max(inside, axis=0)
        means[:, :, i, j] = np.mean(inside, axis=0)
        padded_means[:, :, i, j] = np.sum(inside, axis=0) / len(counting)
    options = {"kernel_shape": kernel, "strides": stride, "pads": pads, "ceil_mode": int(ceil)}
    (out,) = onnx_backend.run_node(node("MaxPool", **options), [x])
    np.testing.assert_array_equal(out, highest.astype(np.float32))
    for include, expected in ((0, means), (1, padded_means)):
        (out,) = onnx_backend.run_node(node("AveragePool", count_include_pad=include, **options), [x])
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("pads", [[0, 0], [1, 1], [0, 2], [2, 2]])
def test_a_sequence_is_an_image_of_one_row(kind: str, pads: list[int], backend: str) -> None:
    x, (before, after) = normal(2, 3, 11), pads
    (out,) = onnx_backend.run_node(node(kind, kernel_shape=[3], strides=[2], pads=pads), [x])
    wide = {"kernel_shape": [1, 3], "strides": [1, 2], "pads": [0, before, 0, after]}
    (image,) = onnx_backend.run_node(node(kind, **wide), [x[:, :, None]])
    np.testing.assert_array_equal(out, image[:, :, 0])


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_conv_pads_by_itself_as_it_says(auto_pad: str, backend: str) -> None:
    x, weight = normal(2, 4, 7, 8), normal(6, 2, 3, 2)
    options = {"strides": [2, 3], "dilations": [1, 2], "group": 2}
    (out,) = onnx_backend.run_node(node("Conv", "x w", auto_pad=auto_pad, **options), [x, weight])
    if auto_pad == "VALID":
        before, after = (0, 0), (0, 0)
    else:
        assert out.shape == (2, 6, math.ceil(7 / 2), math.ceil(8 / 3))
        # windows: 3 rows by 2s over 7 need 2 more; 3 columns by 3s over 8 need 1 more
        before, after = ((1, 1), (1, 0)) if auto_pad == "SAME_LOWER" else ((1, 0), (1, 1))
    padded = np.pad(x, ((0, 0), (0, 0), (before[0], after[0]), (before[1], after[1])))
    (expected,) = onnx_backend.run_node(node("Conv", "x w", **options), [padded, weight])
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_labels_that_are_no_class_are_an_error_and_ignored_ones_are_not() -> None:
    kinds = ("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")
    for kind, reduction, weights in itertools.product(kinds, ("mean", "sum", "none"), ([], [normal(3) ** 2])):
        inputs = "x t w" if weights else "x t"
        loss = node(kind, inputs, reduction=reduction, ignore_index=-7)
        for label in (3, -1):
            with pytest.raises(ValueError, match=f"label {label}"):
                onnx_backend.run_node(loss, [normal(2, 3), np.array([0, label]), *weights])
        (out,) = onnx_backend.run_node(loss, [normal(2, 3), np.array([0, -7]), *weights])
        (alone,) = onnx_backend.run_node(loss, [normal(2, 3)[:1], np.array([0]), *weights])
        np.testing.assert_allclose(out.sum(), alone.sum(), rtol=1e-6)
        (nothing,) = onnx_backend.run_node(loss, [normal(1, 3), np.array([-7]), *weights])
        assert np.isnan(nothing) if reduction == "mean" else (nothing == 0).all()


@pytest.mark.parametrize("step", [1, 5])
def test_adam_of_a_later_step_corrects_as_onnx_says(step: int, backend: str) -> None:
    x, g, m, h = normal(4), normal(4, seed=1), normal(4, seed=2), normal(4, seed=3) ** 2
    a, b, decay, after, eps, rate = 0.9, 0.99, 0.01, 0.1, 1e-3, 0.05
    settings = {"norm_coefficient": decay, "norm_coefficient_post": after, "epsilon": eps}
    adam = helper.make_node("Adam", list("rtxgmh"), list("yuv"), domain=TRAINING, alpha=a, beta=b, **settings)
    out = onnx_backend.run_node(adam, [np.float32(rate), np.int64(step), x, g, m, h])
    x, g, m, h = (array.astype(np.float64) for array in (x, g, m, h))
    g = g + decay * x
    m, h = a * m + (1 - a) * g, b * h + (1 - b) * g**2
    x = (1 - after) * (x - rate * (1 - b**step) ** 0.5 / (1 - a**step) * m / (h**0.5 + eps))
    for actual, expected in zip(out, (x, m, h), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


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
