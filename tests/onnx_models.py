"""Small ONNX models for the tests of fastnn.onnx_backend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import fastnn
from fastnn.onnx_backend.node import TRAINING

FLOAT = TensorProto.FLOAT


@pytest.fixture(autouse=True)
def on_numpy() -> Iterator[None]:
    """Import this function: then all runs on numpy, but where the fixture ``backend`` says another."""
    with fastnn.use_backend("numpy"):
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
