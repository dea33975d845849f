"""The interface that ``onnx.backend.base`` describes: models are prepared, then run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx.onnx_cpp2py_export.checker as onnx_checker
from onnx.backend.base import Backend, BackendRep

from fastnn.backend import available_backends, is_device_array
from fastnn.onnx_backend.node import TRAINING, UnsupportedModel, check_inside
from fastnn.onnx_backend.program import Program, Values

Shape = tuple[int | str, ...]  # declared: a number for a length that is fixed, a name or "?" for another


class PreparedModel(BackendRep):
    """A model that can be run: what :func:`prepare` returns.

    Attributes
    ----------
    inputs, outputs : tuple of str
        The names of what :meth:`run` takes and returns. An input that has a default is not among them, but
        may be given by name.
    """

    def __init__(self, model: onnx.ModelProto, device: str) -> None:
        for tensor in model.graph.initializer:
            check_inside(tensor, f"initializer {tensor.name!r}")
        # Not with full_check: the shapes that infers of poolings with ceil_mode are wrong before opset 22.
        onnx.checker.check_model(model)
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        graph = model.graph
        if graph.sparse_initializer:
            name = graph.sparse_initializer[0].values.name
            raise UnsupportedModel(f"initializer {name!r} is sparse, which fastnn has not", node=name)
        constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        self._declared = {i.name: _declared(i) for i in graph.input}
        self.inputs = tuple(name for name in self._declared if name not in constants)
        self.outputs = tuple(o.name for o in graph.output)
        opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
        dtypes = {name: dtype for name, (dtype, _) in self._declared.items()}
        self._program = Program(graph.node, opsets, constants, dtypes, self.outputs, device)

    def run(self, inputs: Sequence[Any] | Mapping[str, Any], **_: Any) -> Any:
        """The model's outputs.

        Parameters
        ----------
        inputs : arrays in the order of :attr:`inputs`, or a dict of them by name

        Returns
        -------
        tuple of arrays, which can be indexed by name too
            NumPy arrays, unless an input is a CuPy array. None shares memory with an input or the model.

        Raises
        ------
        TypeError, ValueError
            An input is missing or unknown, or has not the dtype or shape that the model declares.
        UnsupportedModel
            An operator got what it does not support: what :func:`prepare` could not know.
        """
        if isinstance(inputs, Mapping):
            given = dict(inputs)
        elif isinstance(inputs, Sequence) and len(inputs) == len(self.inputs):
            given = dict(zip(self.inputs, inputs, strict=True))
        else:
            got = f"a list of {len(inputs)}" if isinstance(inputs, Sequence) else type(inputs).__name__
            raise TypeError(f"inputs must be a list ({', '.join(self.inputs)}) or a dict, not {got}")
        wrong = [f"{name} is missing" for name in self.inputs if name not in given]
        wrong += [f"{name} is unknown" for name in given if name not in self._declared]
        if wrong:
            raise ValueError(f"the inputs are {', '.join(self.inputs)}, but {', '.join(wrong)}")
        return self._program.run({name: self._checked(name, value) for name, value in given.items()})

    def _checked(self, name: str, value: Any) -> Any:
        """`value` as an array; TypeError or ValueError unless it is as declared."""
        value = _as_array(value)
        dtype, shape = self._declared[name]
        if value.dtype != dtype:
            raise TypeError(
                f"input {name} has dtype {value.dtype}, but the model declares {dtype}: "
                f"cast it, {name}.astype(np.{dtype})"
            )
        if shape is not None and not _fits(value.shape, shape):
            raise ValueError(f"input {name} has shape {value.shape}, but the model declares {shape}")
        return value


def _as_array(value: Any) -> Any:
    return value if is_device_array(value) else np.asarray(value)


def _declared(value: onnx.ValueInfoProto) -> tuple[np.dtype, Shape | None]:
    """The dtype and shape that an input is declared with; None for a shape that may be any."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        kind = kind.removesuffix("_type")
        message = f"input {value.name!r} is no tensor (its type: {kind}), and fastnn has only these"
        raise UnsupportedModel(message, node=value.name, attribute="type", value=kind)
    tensor = value.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if not tensor.HasField("shape"):
        return dtype, None
    lengths = (d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim)
    return dtype, tuple(lengths)


def _fits(shape: tuple[int, ...], declared: Shape) -> bool:
    return len(shape) == len(declared) and all(
        isinstance(want, str) or want == length for length, want in zip(shape, declared, strict=True)
    )


class FastnnBackend(Backend):
    """fastnn as an ``onnx.backend.base.Backend``; its methods are the functions of the package."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> PreparedModel:
        """Check a model, and make it ready to be run many times.

        Parameters
        ----------
        model : onnx.ModelProto
            As ``onnx.load("model.onnx")`` gives it.
        device : {"CPU", "CUDA"}
            "CPU" leaves the choice to fastnn's switch, as that is when the model runs. "CUDA" takes the cupy
            backend, whatever the switch says.

        Returns
        -------
        PreparedModel

        Raises
        ------
        UnsupportedModel
            fastnn has not an operator of the model, or not all that the model asks of it.
        onnx.checker.ValidationError
            The model is no valid one.
        ValueError
            Its weights lie in another file and have not been read.
        fastnn.BackendUnavailable
            `device` is "CUDA", and there is none; the message says what to install.
        """
        return PreparedModel(model, device)

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **_: Any) -> Any:
        """``prepare(model, device).run(inputs)``."""
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Sequence[Any],
        device: str = "CPU",
        outputs_info: Any = None,
        **options: Any,
    ) -> Any:
        """The outputs of one node.

        Parameters
        ----------
        node : onnx.NodeProto
        inputs : arrays
            One for each input that the node does not leave out.
        device : as :func:`prepare` takes it
        outputs_info : ignored
        **options
            ``opset_version=n`` is the opset in which the node is written; without it, the newest that the
            installed onnx knows.

        Returns
        -------
        tuple of arrays, which can be indexed by name too

        Raises
        ------
        UnsupportedModel, onnx.checker.ValidationError, fastnn.BackendUnavailable
            As by :func:`prepare`.
        """
        opsets = {"": options.get("opset_version") or onnx.defs.onnx_opset_version(), TRAINING: 1}
        context = onnx_checker.CheckerContext()
        context.ir_version, context.opset_imports = onnx.IR_VERSION, opsets
        onnx.checker.check_node(node, context)
        names = [name for name in node.input if name]
        if len(names) != len(inputs):
            raise TypeError(f"the node has the inputs {', '.join(names)}, but {len(inputs)} are given")
        given: Values = {name: _as_array(value) for name, value in zip(names, inputs, strict=True)}
        dtypes = {name: value.dtype for name, value in given.items()}
        outputs = [name for name in node.output if name]
        return Program([node], opsets, {}, dtypes, outputs, device).run(given)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether models can run on "CPU" or "CUDA" here; asking for the latter probes the CUDA driver."""
        return device == "CPU" or (device in ("CUDA", "CUDA:0") and available_backends()["cupy"] is None)

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> bool:
        """Whether :func:`prepare` takes the model: whether fastnn has all its operators."""
        try:
            cls.prepare(model, "CPU")
        except UnsupportedModel:
            return False
        return cls.supports_device(device)
