"""kernels/cuda against kernels/reference without a GPU: its source runs on the CPU, see ``emulation.py``.

The calls are those of ``drawn.py``, which tests the CPU kernels: shapes, strides and dtypes at random, many
with more than one tile or a part of one.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnn.backend import STEMS
from fastnn.kernels.cuda import _launch
from tests import emulation, parity
from tests.drawn import KERNELS
from tests.emulation import Toolkit, emulated
from tests.nonfinite import assert_same
from tests.rooms import CUDA, REFERENCE, agree, made

EACH = 12  # calls of each operation and dtype
pytestmark = pytest.mark.skipif(emulation.WHY_NOT is not None, reason=str(emulation.WHY_NOT))


@pytest.fixture(scope="module")
def toolkit(built: Path) -> Iterator[Toolkit]:
    with emulated(Toolkit(built)) as toolkit:
        yield toolkit


def room(name: str) -> dict[str, Any]:
    return {stem: importlib.import_module(f"fastnn.kernels.{name}.{stem}") for stem in STEMS}


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("name", KERNELS)
def test_kernel_matches_the_reference(name: str, dtype: Any, toolkit: Toolkit) -> None:
    for i in range(EACH):
        seed = [i, *name.encode()]
        theirs, ours = (made(room, name, seed, dtype) for room in (REFERENCE, CUDA))
        agree(ours, theirs, dtype, f"{name}, call {i}")


@pytest.mark.parametrize(
    "name", ["relu", "gelu_backward", "softmax", "dropout", "max_pool2d", "mse", "softmax_cross_entropy"]
)
def test_more_work_than_one_grid_is_done_in_strides(name: str, toolkit: Toolkit, monkeypatch: Any) -> None:
    monkeypatch.setattr(_launch, "_MOST_BLOCKS", 1)
    for i in range(EACH):
        seed = [i, 2, *name.encode()]
        theirs, ours = (made(room, name, seed, np.float32) for room in (REFERENCE, CUDA))
        agree(ours, theirs, np.float32, f"{name}, call {i}")


@pytest.mark.parametrize("name", KERNELS)
def test_what_is_not_finite_comes_out_where_the_reference_has_it(name: str, toolkit: Toolkit) -> None:
    for i in range(6):
        assert_same(CUDA, name, [i, *name.encode()], np.float32)


ACTIVATIONS = {
    "relu": (),
    "leaky_relu": (0.1,),
    "sigmoid": (),
    "tanh": (),
    "gelu": ("none",),
    "softmax": (1,),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_and_infinity_pass_as_in_the_reference(name: str, toolkit: Toolkit) -> None:
    reference, cuda = room("reference")["activation"], room("cuda")["activation"]
    x = parity.plant(parity.floats(3, (9, 37), np.float32), 4)
    grad = parity.floats(5, x.shape, np.float32)
    for suffix, operands in (("", (x,)), ("_backward", (grad, x)), ("_backward", (x, grad))):
        run, expected = (getattr(module, name + suffix) for module in (cuda, reference))
        with np.errstate(all="ignore"):
            theirs = expected(*operands, *ACTIVATIONS[name])
        ours = run(*operands, *ACTIVATIONS[name])
        np.testing.assert_allclose(ours, theirs, 1e-5, 1e-6, err_msg=f"{name}{suffix}")


def test_losses_of_what_is_not_finite_are_those_of_the_reference(toolkit: Toolkit) -> None:
    reference, cuda = room("reference")["loss"], room("cuda")["loss"]
    x, t = parity.floats(1, (6, 11), np.float32), np.abs(parity.floats(2, (6, 11), np.float32))
    for planted in (x, parity.plant(x, 3), x * np.float32(1e4)):
        for name, target in (
            ("mse", t),
            ("sigmoid_cross_entropy", t),
            ("softmax_cross_entropy", np.arange(6)),
        ):
            with np.errstate(all="ignore"):
                theirs = getattr(reference, name)(planted, target, 0.5)
            ours = getattr(cuda, name)(planted, target, 0.5)
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(a, b, 1e-5, 1e-5, err_msg=name)


def test_an_empty_batch_launches_nothing_and_has_the_shapes_of_the_reference(toolkit: Toolkit) -> None:
    ones = {shape: np.ones(shape, np.float32) for shape in ((0, 5), (5, 4), (4,), (0, 4))}
    x, weight, bias, grad = ones.values()
    images, filters, slopes = (np.ones(s, np.float32) for s in ((0, 3, 8, 8), (6, 3, 3, 3), (0, 6, 6, 6)))
    one, none = (1, 1), (0, 0)
    calls = {
        "linear": {"linear": (x, weight, bias, "relu"), "linear_backward": (grad, x, weight, True)},
        "conv": {
            "conv2d": (images, filters, None, one, none, one, 1, None),
            "conv2d_backward": (slopes, images, filters, one, none, one, 1, True),
        },
        "pool": {
            "max_pool2d": (images, (2, 2), (2, 2), none, one, False),
            "avg_pool2d": (images, (2, 2), (2, 2), none, False, True),
        },
        "activation": {"gelu": (x, "tanh"), "softmax": (x, 1)},
    }
    reference, cuda = room("reference"), room("cuda")
    for stem, listed in calls.items():
        for name, operands in listed.items():
            theirs, ours = (getattr(modules[stem], name)(*operands) for modules in (reference, cuda))
            theirs, ours = (r if isinstance(r, tuple) else (r,) for r in (theirs, ours))
            for a, b in zip(ours, theirs, strict=True):
                assert a.shape == b.shape, name
                np.testing.assert_array_equal(a, b, name)


def test_layers_train_on_the_kernels_as_on_the_reference(toolkit: Toolkit, monkeypatch: Any) -> None:
    import fastnn
    from fastnn import backend
    from fastnn.functional import _check, norm

    def trained(name: str) -> list[np.ndarray]:
        token = backend._override.set(backend._backends[name])
        try:
            fastnn.seed(1)
            net = fastnn.Sequential(
                *(fastnn.Conv2d(1, 4, 3), fastnn.ReLU(), fastnn.MaxPool2d(2), fastnn.BatchNorm2d(4)),
                *(fastnn.Flatten(), fastnn.Linear(36, 8), fastnn.Tanh(), fastnn.Dropout(0.3)),
                fastnn.Linear(8, 3),
            )
            sgd = fastnn.optim.SGD(net.parameters(), 0.1, momentum=0.9)
            for step in range(3):
                x = np.random.default_rng(step).random((5, 1, 8, 8), dtype=np.float32)
                _, grad = fastnn.functional.softmax_cross_entropy(net(x, training=True), np.arange(5) % 3)
                net.backward(grad, input_grad=False)
                sgd.step()
            return [p.data for p in net.parameters()]
        finally:
            backend._override.reset(token)

    with monkeypatch.context() as here:  # host arrays stand for those of a GPU
        here.setitem(vars(backend._backends["cupy"]), "xp", np)
        here.setattr(backend, "is_device_array", lambda x: isinstance(x, np.ndarray))
        for module in (_check, norm):
            here.setattr(module, "stays", lambda name, array: None)
        ours = trained("cupy")
    for a, b in zip(ours, trained("numpy"), strict=True):
        np.testing.assert_allclose(a, b, 1e-4, 1e-5)
