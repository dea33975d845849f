"""Nodes in order, and the constants they need: what is left of a model once it is prepared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import namedtupledict

from fastnn.backend import get_backend, is_device_array, use_backend
from fastnn.onnx_backend.node import FLOATS, Array, Node

Values = dict[str, Any]  # by name


class Program:
    """What :func:`run` does.

    Parameters
    ----------
    nodes : in an order in which they can be computed
    opsets : the opset of each domain
    constants : arrays by name
    dtypes : of inputs, by name, as far as they are known
    outputs : names
    device : "CPU" or "CUDA"
    """

    def __init__(
        self,
        nodes: Iterable[onnx.NodeProto],
        opsets: Mapping[str, int],
        constants: Mapping[str, np.ndarray],
        dtypes: Mapping[str, np.dtype],
        outputs: Sequence[str],
        device: str,
    ) -> None:
        check_device(device)
        self._device = device
        self._constants: dict[str, Values] = {"host": dict(constants)}  # by where they lie
        self._nodes: list[Node] = []
        self._outputs = outputs
        host = self._constants["host"]
        for proto in nodes:
            node = Node(proto, opsets)
            if not node.inputs:
                host[node.outputs[0]] = node.compute()
                continue
            first = node.inputs[0]
            if first in host or first in dtypes:
                node.check_dtype(host[first].dtype if first in host else dtypes[first])
            self._nodes.append(node)
        self._result = namedtupledict("Outputs", list(outputs))
        # After its last use a value is let go, so that no more memory is held than is needed.
        self._last: list[list[str]] = []
        needed = {"", *outputs}
        for node in reversed(self._nodes):
            names = {*node.inputs, *node.outputs} - needed
            self._last.insert(0, sorted(names))
            needed |= names

    def run(self, given: Values) -> Any:
        """The outputs, a tuple that is indexed by name too: NumPy arrays, unless a CuPy array is given."""
        on_gpu = any(map(is_device_array, given.values()))
        name = "cupy" if on_gpu or self._device != "CPU" else get_backend().name
        with use_backend(name) as backend:
            out = self._compute(given)
            return self._result(*(out if on_gpu else map(backend.to_numpy, out)))

    def _compute(self, given: Values) -> list[Array]:
        fixed = self._placed_constants() | {name: _placed(value) for name, value in given.items()}
        values = {"": None, **fixed}
        with np.errstate(all="ignore"):  # as in the kernels: inf and NaN are results, not accidents
            for node, last in zip(self._nodes, self._last, strict=True):
                arrays = [values[name] for name in node.inputs]
                node.check_dtype(arrays[0].dtype)
                try:
                    results = node.compute(*arrays)
                except Exception as error:
                    error.add_note(f"This was {node.operator}, node {node.label!r}, of the ONNX model.")
                    raise
                results = results if isinstance(results, tuple) else (results,)
                values.update(zip(node.outputs, results, strict=False))
                for name in last:
                    del values[name]
        out: list[Array] = []
        for name in self._outputs:
            out.append(_unshared(values[name], (*fixed.values(), *out)))
        return out

    def _placed_constants(self) -> Values:
        """The constants where the backend in force wants them; moved there once."""
        where = "gpu" if get_backend().room == "cuda" else "host"
        if where not in self._constants:
            self._constants[where] = {name: _placed(value) for name, value in self._constants["host"].items()}
        return self._constants[where]


def check_device(device: str) -> None:
    """ValueError unless `device` is one, BackendUnavailable where it is not here."""
    if device not in ("CPU", "CUDA", "CUDA:0"):
        raise ValueError(f"unknown device {device!r}: choose 'CPU' or 'CUDA'")
    if device != "CPU":
        with use_backend("cupy"):
            pass


def _placed(value: Array) -> Array:
    """What is computed with goes to the device; labels and shapes stay, to be looked at."""
    return get_backend().asarray(value) if value.dtype in FLOATS else value


def _unshared(value: Array, others: Sequence[Array]) -> Array:
    """`value`, or a copy of it where it is, or is a view of, one of the `others`."""
    if not is_device_array(value):
        value = np.asarray(value)  # a sum may be a NumPy scalar
    xp = get_backend().xp if is_device_array(value) else np
    beside = (other for other in others if isinstance(other, type(value)))
    return value.copy() if any(xp.may_share_memory(value, other) for other in beside) else value
