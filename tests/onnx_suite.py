"""The ONNX project's own tests of backends, and which of them are not for fastnn.

They come with the package onnx: models with inputs and the outputs expected. Nothing is downloaded; the tests
of kind "real", which would be, are not among them.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import onnx
from onnx.backend.test import BackendTest, loader
from onnx.reference.ops import op_pool_common

from fastnn.onnx_backend import FastnnBackend
from fastnn.onnx_backend.node import OPERATORS

Key = tuple[str, str]  # domain and type of an operator

# Of the models whose operators are all fastnn's, those that it refuses: what of a node must be named
# as the reason, a pattern too, and why that is so.
REFUSED = {
    r"^(maxpool|averagepool)_3d|^(Conv|AvgPool|MaxPool)3d": (
        "shape of input|dilations",
        "volumes, with three spatial axes: fastnn has images and sequences",
    ),
    r"^averagepool_2d_dilations$": ("dilations", "F.avg_pool2d has no dilation, nor have the layers"),
    r"^(add|sub|mul|div)_u?int|^maxpool_2d_uint8$|^operator_non_float_params$": (
        "input",
        "arithmetic of integers: fastnn computes in float32 and float64",
    ),
    r"^identity_(sequence|opt)$": ("type", "a sequence or an optional value: fastnn has tensors"),
}
# And those that it runs, to another result than is expected.
DIFFERENT = {
    r"^training_dropout(_default)?(_mask)?$": (
        "the mask is drawn from fastnn's random stream, and not, as expected there, from NumPy's for the seed"
    ),
}


class Case(NamedTuple):
    name: str
    operators: frozenset[Key]
    model: onnx.ModelProto
    run: Callable[[], None]  # raises where outputs are not as expected

    def matches(self, table: dict[str, Any]) -> list[str]:
        return [pattern for pattern in table if re.search(pattern, self.name)]


class Watched(FastnnBackend):
    """fastnn as the suite sees it."""

    runs = 0  # of models: a test that did not run one has not passed

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"  # for "CUDA" the suite lists every test again

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> bool:
        return True  # what is not, the suite would skip

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> Any:
        prepared = super().prepare(model, device)

        def run(inputs: Any) -> Any:
            cls.runs += 1
            return prepared.run(inputs)

        return SimpleNamespace(run=run)


@cache
def cases() -> dict[str, Case]:
    """The tests of fastnn's operators, and some of others, by name."""
    with (
        warnings.catch_warnings(),
        mock.patch.object(loader, "import_recursive", _import_some, create=True),
        mock.patch.object(op_pool_common, "pool", _pool),
    ):
        warnings.simplefilter("ignore")  # from how the suite works out what it expects
        functions = {
            name: function
            for group in BackendTest(Watched, __name__).test_cases.values()
            for name, function in vars(group).items()
        }
        found = {}
        for kind in ("node", "simple", "pytorch-converted", "pytorch-operator"):
            for case in loader.load_model_tests(kind=kind):
                assert case.url is None  # of a download
                model = case.model or onnx.load(Path(case.model_dir, "model.onnx"))
                name = case.name.removeprefix("test_")
                function = functions[f"{case.name}_cpu"]
                found[name] = Case(name, _operators(model), model, lambda f=function: f(None))
    return found


def run_cases() -> list[str]:
    """The names of the tests that fastnn must pass: all models of its operators but those in the tables."""
    known = set(OPERATORS)
    return [
        name
        for name, case in cases().items()
        if case.operators <= known and not case.matches(REFUSED) and not case.matches(DIFFERENT)
    ]


def _operators(model: onnx.ModelProto) -> frozenset[Key]:
    return frozenset(("" if n.domain == "ai.onnx" else n.domain, n.op_type) for n in model.graph.node)


def _import_some(package: ModuleType) -> None:
    """The modules of the suite that are named after fastnn's operators: all of them take half a minute.

    (Older releases of onnx have the tests in files, and do not come here.)
    """
    wanted = {name.lower() for _, name in OPERATORS} | {"convtranspose"}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.replace("_", "") in wanted:
            importlib.import_module(f"{package.__name__}.{module.name}")


def _pool(
    padded: np.ndarray, x_shape: Any, kernel: Any, strides: Any, out_shape: Any, *rest: Any, **more: Any
) -> Any:
    """The suite's own pooling, but for volumes, which take it seconds: fastnn refuses these anyhow."""
    if len(out_shape) == 3:
        return np.zeros((*padded.shape[:2], *out_shape), padded.dtype)
    return _suite_pool(padded, x_shape, kernel, strides, out_shape, *rest, **more)


_suite_pool = op_pool_common.pool
