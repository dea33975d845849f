"""A node of a model as the operators see it, and the table that they are entered in.

An operator is a function from a :class:`Node` to the function that computes: it reads the attributes, once,
and refuses there what fastnn cannot do. What it leaves unread is refused too, so nothing a model asks for is
passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx.external_data_helper

Array = Any  #: numpy.ndarray or cupy.ndarray
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
TRAINING = "ai.onnx.preview.training"


class UnsupportedModel(NotImplementedError):
    """fastnn cannot run this model; the message says why, and what to do where something can be done.

    Attributes
    ----------
    operator : str
        Its type, preceded by its domain where that is not ONNX's own.
    node : str
        The node's name; the name of its first output where it has none.
    attribute : str
        What is not supported of it: an attribute, ``"opset"``, or the name of an input. Empty where fastnn
        has no such operator.
    value : object
        The value it has.
    """

    def __init__(
        self, message: str, *, operator: str = "", node: str = "", attribute: str = "", value: Any = None
    ) -> None:
        super().__init__(message)
        self.operator, self.node, self.attribute, self.value = operator, node, attribute, value


class Operator(NamedTuple):
    build: Callable[[Node], Callable[..., Any]]
    versions: tuple[int, ...]  # of the operator's definition: the opsets in which it was last changed
    floats: bool  # whether it computes, which is done in float32 and float64 only


OPERATORS: dict[tuple[str, str], Operator] = {}  # by (domain, type)


def operator(name: str, *versions: int, domain: str = "", floats: bool = True) -> Callable[[Any], Any]:
    """Enter what is decorated as operator `name` of those `versions`."""

    def enter(build: Callable[[Node], Callable[..., Any]]) -> Callable[[Node], Callable[..., Any]]:
        OPERATORS[domain, name] = Operator(build, versions, floats)
        return build

    return enter


class Node:
    """One call of an operator.

    Attributes
    ----------
    operator, label : str
        Its type, and its name or that of its first output.
    inputs, outputs : tuple of str
        Names of values; empty for one left out.
    version : int
        Of the operator's definition, the opset in which it was last changed.
    compute : callable
        Takes the inputs, None for one left out, and returns the output or a tuple of them.
    floats : bool
        Whether the first input must be float32 or float64.
    """

    def __init__(self, proto: onnx.NodeProto, opsets: Mapping[str, int]) -> None:
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        self.operator = f"{domain}.{proto.op_type}" if domain else proto.op_type
        self.inputs, self.outputs = tuple(proto.input), tuple(proto.output)
        self.label = proto.name or next(filter(None, self.outputs), "")
        entry = OPERATORS.get((domain, proto.op_type))
        if entry is None:
            raise self._refused(f"fastnn has no operator {self.operator}, which node {self.label!r} is")
        self.version = onnx.defs.get_schema(proto.op_type, opsets[domain], domain).since_version
        if self.version not in entry.versions:
            known = ", ".join(map(str, entry.versions))
            raise self.unsupported("opset", opsets[domain], f"of its definitions fastnn has those of {known}")
        self.floats = entry.floats
        self._attributes = {a.name: _value(a) for a in proto.attribute}
        self.compute = entry.build(self)
        for name, value in self._attributes.items():
            raise self.unsupported(name, value, "fastnn does not know this attribute")

    def attribute(self, name: str, default: Any) -> Any:
        """The value of an attribute, which is thereby read."""
        return self._attributes.pop(name, default)

    def choice(self, name: str, default: str, known: tuple[str, ...]) -> str:
        """An attribute that has one of the `known` values."""
        value = self.attribute(name, default)
        if value not in known:
            raise self.unsupported(name, value, f"fastnn knows {', '.join(known)}")
        return value

    def wants(self, output: int) -> bool:
        """Whether the model uses that output."""
        return len(self.outputs) > output and bool(self.outputs[output])

    def check_dtype(self, dtype: np.dtype) -> None:
        """UnsupportedModel unless the operator takes a first input of that dtype."""
        if self.floats and dtype not in FLOATS:
            why = "fastnn computes in float32 and float64"
            if dtype.itemsize < 4 and dtype.kind in "fV":  # V: what NumPy itself does not know, as bfloat16
                why += ": export the model in float32"
            raise self.unsupported(f"input {self.inputs[0]}", dtype, why)

    def unsupported(self, attribute: str, value: Any, why: str) -> UnsupportedModel:
        """The exception for an attribute, or whatever else has a name and a value."""
        text = f"{value}" if isinstance(value, np.dtype) else f"{value!r}"
        message = f"{self.operator} (node {self.label!r}) with {attribute}={text} is not supported: {why}"
        return self._refused(message, attribute=attribute, value=value)

    def _refused(self, message: str, **about: Any) -> UnsupportedModel:
        return UnsupportedModel(message, operator=self.operator, node=self.label, **about)


def _value(attribute: onnx.AttributeProto) -> Any:
    """An attribute's value, with str for the bytes that ONNX keeps."""
    value = onnx.helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value


def check_inside(tensor: onnx.TensorProto, what: str) -> None:
    """ValueError where the values of a tensor lie in a file: it must not be whatever path a model names."""
    if onnx.external_data_helper.uses_external_data(tensor):
        raise ValueError(
            f"the values of {what} lie in another file: onnx.load(path) reads them beside the model"
        )
