"""Runs ONNX models: the inference, and the losses and updates, of such networks as fastnn has the layers for.

>>> import onnx
>>> from fastnn import onnx_backend
>>> model = onnx_backend.prepare(onnx.load("model.onnx"))
>>> (logits,) = model.run([images])

It implements ``onnx.backend.base``: :func:`prepare`, :func:`run_model`, :func:`run_node`,
:func:`supports_device` and :func:`is_compatible`. A model runs on the backend that fastnn's switch says, in
float32 or float64, and on the same kernels as the layers. The operators:

* Conv, MaxPool, AveragePool, of images and, as images of one row, of sequences; GlobalAveragePool,
  GlobalMaxPool; BatchNormalization
* Gemm, MatMul; Add, Sub, Mul, Div
* Relu, LeakyRelu, Sigmoid, Tanh, Gelu, Softmax, LogSoftmax, Dropout
* Concat, Constant, Flatten, Gather, Identity, Reshape, Shape, Squeeze, Transpose, Unsqueeze
* SoftmaxCrossEntropyLoss, NegativeLogLikelihoodLoss
* of ai.onnx.preview.training: Adam, Momentum

Models of opset 7 and later are read by the definitions of their opset. What is not supported, an operator, a
value of an attribute, a dtype, raises :class:`UnsupportedModel`, which names the node and that; nothing is
passed over, and nothing is left to another library. A model in float16 or bfloat16 is to be exported in
float32.

Needs the package onnx: ``pip install 'fastnn-kernels[onnx]'``.
"""

from fastnn.onnx_backend import arrange, dense, images, losses, updates  # noqa: F401 (they enter operators)
from fastnn.onnx_backend.backend import FastnnBackend, PreparedModel
from fastnn.onnx_backend.node import UnsupportedModel

prepare = FastnnBackend.prepare
run_model = FastnnBackend.run_model
run_node = FastnnBackend.run_node
supports_device = FastnnBackend.supports_device
is_compatible = FastnnBackend.is_compatible

__all__ = [
    "FastnnBackend",
    "PreparedModel",
    "UnsupportedModel",
    "is_compatible",
    "prepare",
    "run_model",
    "run_node",
    "supports_device",
]
