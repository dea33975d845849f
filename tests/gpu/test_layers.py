"""Every layer on the GPU against the same on plain NumPy: outputs, gradients, weights after training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import layers as ly
from fastnn import losses, optim
from tests import layouts
from tests.gpu.moving import to_gpu, to_host

pytestmark = pytest.mark.gpu

IMAGES, ROWS = (4, 3, 9, 7), (6, 10)
LAYERS: dict[str, tuple[tuple[int, ...], Callable[[Any], Any]]] = {
    "Linear": (ROWS, lambda dtype: ly.Linear(10, 7, dtype=dtype)),
    "Conv2d": (IMAGES, lambda dtype: ly.Conv2d(3, 5, 3, stride=2, padding=1, dtype=dtype)),
    "Conv2d, groups": (IMAGES, lambda dtype: ly.Conv2d(3, 6, (3, 2), dilation=2, groups=3, dtype=dtype)),
    "MaxPool2d": (IMAGES, lambda dtype: ly.MaxPool2d(3, 2, padding=1)),
    "AvgPool2d": (IMAGES, lambda dtype: ly.AvgPool2d((2, 3))),
    "Flatten": (IMAGES, lambda dtype: ly.Flatten()),
    "Dropout": (ROWS, lambda dtype: ly.Dropout(0.3)),
    "BatchNorm1d": (ROWS, lambda dtype: ly.BatchNorm1d(10, dtype=dtype)),
    "BatchNorm2d": (IMAGES, lambda dtype: ly.BatchNorm2d(3, dtype=dtype)),
    "ReLU": (IMAGES, lambda dtype: ly.ReLU()),
    "LeakyReLU": (ROWS, lambda dtype: ly.LeakyReLU(0.2)),
    "Sigmoid": (ROWS, lambda dtype: ly.Sigmoid()),
    "Tanh": (ROWS, lambda dtype: ly.Tanh()),
    "GELU": (ROWS, lambda dtype: ly.GELU()),
    "Softmax": (ROWS, lambda dtype: ly.Softmax()),
    "Sequential": (
        IMAGES,
        lambda dtype: ly.Sequential(
            *(ly.Conv2d(3, 4, 3, padding=1, dtype=dtype), ly.ReLU(), ly.MaxPool2d(2), ly.Flatten()),
            *(ly.Linear(48, 8, dtype=dtype), ly.Sigmoid(), ly.Linear(8, 5, dtype=dtype)),
        ),
    ),
}


def both(work: Callable[[], Any]) -> tuple[Any, Any]:
    """What `work` gives on the GPU, moved to the host, and on plain NumPy."""
    results = []
    for backend in ("cupy", "numpy"):
        with fastnn.use_backend(backend):
            fastnn.seed(3)
            results.append(work())
    return to_host(results[0]), results[1]


def close(ours: Any, theirs: Any, dtype: Any, label: str) -> None:
    assert len(ours) == len(theirs), label
    bound = 1e-4 if dtype == np.float32 else 1e-11
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        size = np.abs(b).max(initial=1)
        np.testing.assert_allclose(a, b, bound, bound * size, err_msg=f"{label}, array {i}")


def test_no_layer_is_left_out() -> None:
    kinds = {
        name
        for name, value in vars(fastnn).items()
        if isinstance(value, type) and issubclass(value, ly.Layer)
    }
    assert kinds - {"Layer"} == {name.split(",")[0] for name in LAYERS}


@pytest.mark.parametrize("dtype", layouts.DTYPES)
@pytest.mark.parametrize("name", LAYERS)
def test_layer_gives_what_it_gives_on_the_reference(name: str, dtype: Any) -> None:
    shape, make = LAYERS[name]
    x, more = (layouts.floats(seed, shape, dtype) for seed in (1, 2))

    def work() -> list[Any]:
        layer = make(dtype)
        xp = fastnn.get_backend()
        out = layer.forward(xp.asarray(x), training=True)
        grad = layouts.floats(3, out.shape, dtype)
        back = layer.backward(xp.asarray(grad))
        gradients = [p.grad.copy() for p in layer.parameters()]
        layer.step(0.1)
        return [out, back, *gradients, *(p.data for p in layer.parameters()), layer(xp.asarray(more))]

    close(*both(work), dtype, name)


LOSSES = {
    "SoftmaxCrossEntropy": (losses.SoftmaxCrossEntropy, np.arange(6) % 4),
    "SigmoidCrossEntropy": (losses.SigmoidCrossEntropy, np.eye(6, 4, dtype=np.float32)),
    "MSE": (losses.MSE, np.eye(6, 4, dtype=np.float32)),
}
OPTIMISERS = {
    "SGD": lambda p: optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-3, nesterov=True),
    "Adam": lambda p: optim.Adam(p, 0.01),
    "AdamW": lambda p: optim.AdamW(p, 0.01, weight_decay=0.1),
    "RMSprop": lambda p: optim.RMSprop(p, 0.01, momentum=0.5),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_training_steps_follow_those_on_the_reference(optimiser: str, loss: str) -> None:
    kind, targets = LOSSES[loss]
    x = layouts.floats(1, (6, 10), np.float32)

    def work() -> list[Any]:
        net = fastnn.Sequential(fastnn.Linear(10, 8), fastnn.Tanh(), fastnn.Dropout(0.2), fastnn.Linear(8, 4))
        criterion, rule = kind(), OPTIMISERS[optimiser](net.parameters())
        values = []
        for _ in range(5):
            values.append(float(criterion.forward(net.forward(x, training=True), targets)))
            net.backward(criterion.backward(), input_grad=False)
            rule.step()
        return [np.array(values) if fastnn.get_backend().name == "numpy" else to_gpu(np.array(values))] + [
            p.data for p in net.parameters()
        ]

    close(*both(work), np.float32, f"{optimiser}, {loss}")


def test_masks_of_dropout_are_those_of_the_reference_to_the_bit() -> None:
    x = np.ones((37, 53), np.float32)
    ours, theirs = both(lambda: [F.dropout(x, 0.4, 7, 2**40 + 3)])
    np.testing.assert_array_equal(ours[0], theirs[0])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_weights_are_saved_from_the_gpu_and_loaded_onto_it(suffix: str, tmp_path: Any) -> None:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    _, make = LAYERS["Sequential"]
    first, second = make(np.float32), make(np.float32)
    first.save(tmp_path / f"w{suffix}")
    second.load(tmp_path / f"w{suffix}")
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        np.testing.assert_array_equal(to_host(a.data), to_host(b.data))
