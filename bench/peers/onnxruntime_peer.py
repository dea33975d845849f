"""ONNX Runtime: inference with the same weights, as an ONNX graph made layer by layer."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.networks import Activation, Conv, Dense, Dropout, Flatten, Network, Pool

ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid"}
OPSET, IR_VERSION = 17, 8  # from 2022: every runtime in use reads them


def export(network: Network) -> onnx.ModelProto:
    """`network` as a graph from "x", of the shape of its batch, to "out"."""
    own = iter(network.weights())
    nodes, tensors, x = [], [], "x"
    for i, layer in enumerate(network.layers):
        inputs, options = [x], {}
        if isinstance(layer, Dense | Conv):
            for kind, value in zip(("weight", "bias"), next(own), strict=True):
                tensors.append(numpy_helper.from_array(value, f"{i}.{kind}"))
                inputs.append(f"{i}.{kind}")
        match layer:
            case Dense():
                operator = "Gemm"
            case Conv(_, _, kernel, padding):
                operator, options = "Conv", {"kernel_shape": [kernel] * 2, "pads": [padding] * 4}
            case Pool(size):
                operator, options = "MaxPool", {"kernel_shape": [size] * 2, "strides": [size] * 2}
            case Activation(name):
                operator = ACTIVATIONS[name]
            case Flatten():
                operator = "Flatten"
            case Dropout():  # nothing, at inference
                continue
        x = f"{i}.out"
        nodes.append(helper.make_node(operator, inputs, [x], **options))
    nodes[-1].output[0] = "out"
    shapes = {"x": network.x, "out": (network.x[0], network.classes)}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in shapes.items()]
    graph = helper.make_graph(nodes, network.name, values[:1], values[1:], tensors)
    model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    onnx.checker.check_model(model)
    return model


def inference(network: Network, variant: str) -> Callable[[], np.ndarray]:
    import onnxruntime  # here, so that `export` does without

    x, _ = network.batch()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    options.inter_op_num_threads = 1
    model = export(network).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]
