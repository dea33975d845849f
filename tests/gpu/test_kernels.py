"""Every kernel on the GPU against the reference, over the drawn calls of ``drawn.py``."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import fastnn.functional as F
from tests import layouts
from tests.drawn import KERNELS
from tests.gpu.moving import to_gpu, to_host
from tests.rooms import CUDA, REFERENCE, agree, made

EACH = int(os.environ.get("FASTNN_GPU_CALLS", 12))  # calls of each operation and dtype
pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", layouts.DTYPES)
@pytest.mark.parametrize("name", KERNELS)
def test_kernel_matches_the_reference_and_repeats_its_bits(name: str, dtype: Any) -> None:
    for i in range(EACH):
        seed = [i, *name.encode()]
        theirs = made(REFERENCE, name, seed, dtype)
        ours, again = (to_host(made(CUDA, name, seed, dtype, to_gpu)) for _ in range(2))
        agree(ours, theirs, dtype, f"{name}, call {i}")
        for a, b in zip(ours, again, strict=True):
            np.testing.assert_array_equal(a, b, f"{name}, call {i}, made twice")


@pytest.mark.parametrize("layout", [name for name in layouts.LAYOUTS if name not in ("readonly", "record")])
def test_operands_are_moved_with_their_strides(layout: str) -> None:
    for shape in ((3, 4), (2, 3, 4, 5), (7,)):
        x = layouts.floats(1, shape, np.float32, layout)
        moved = to_gpu(x)
        assert moved.strides == x.strides
        np.testing.assert_array_equal(moved.get(), x)


ACTIVATIONS = {
    "relu": (),
    "leaky_relu": (0.1,),
    "sigmoid": (),
    "tanh": (),
    "gelu": ("none",),
    "softmax": (1,),
    "log_softmax": (1,),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_and_infinity_pass_as_in_the_reference(name: str) -> None:
    x = layouts.plant(layouts.floats(3, (9, 37), np.float32), 4)
    grad = layouts.floats(5, x.shape, np.float32)
    for suffix, operands in (("", (x,)), ("_backward", (grad, x)), ("_backward", (x, grad))):
        run, expected = (getattr(room.activation, name + suffix) for room in (CUDA, REFERENCE))
        with np.errstate(all="ignore"):
            theirs = expected(*operands, *ACTIVATIONS[name])
        ours = to_host(run(*to_gpu(operands), *ACTIVATIONS[name]))
        np.testing.assert_allclose(ours, theirs, 1e-5, 1e-6, err_msg=f"{name}{suffix}")


def test_losses_of_what_is_not_finite_are_those_of_the_reference() -> None:
    x, target = layouts.floats(1, (6, 11), np.float32), np.abs(layouts.floats(2, (6, 11), np.float32))
    for planted in (x, layouts.plant(x, 3), x * np.float32(1e4)):
        for name, wanted in (
            ("mse", target),
            ("sigmoid_cross_entropy", target),
            ("softmax_cross_entropy", np.arange(6)),
        ):
            with np.errstate(all="ignore"):
                theirs = getattr(REFERENCE.loss, name)(planted, wanted, 0.5)
            ours = to_host(getattr(CUDA.loss, name)(*to_gpu((planted, wanted)), 0.5))
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(a, b, 1e-5, 1e-5, err_msg=name)


def test_an_empty_batch_launches_nothing_and_has_the_shapes_of_the_reference() -> None:
    x, weight, images, filters = (
        np.ones(shape, np.float32) for shape in ((0, 5), (5, 4), (0, 3, 8, 8), (6, 3, 3, 3))
    )
    calls = {
        "linear": lambda *a: F.linear(*a, activation="relu"),
        "conv2d": F.conv2d,
        "max_pool2d": lambda a: F.max_pool2d(a, 2),
        "avg_pool2d": lambda a: F.avg_pool2d(a, 2),
        "gelu": F.gelu,
        "softmax": F.softmax,
    }
    operands = {"linear": (x, weight), "conv2d": (images, filters), "gelu": (x,), "softmax": (x,)}
    shapes = {
        "linear": (0, 4),
        "conv2d": (0, 6, 6, 6),
        "max_pool2d": (0, 3, 4, 4),
        "avg_pool2d": (0, 3, 4, 4),
        "gelu": (0, 5),
        "softmax": (0, 5),
    }
    for name, call in calls.items():
        assert to_host(call(*to_gpu(operands.get(name, (images,))))).shape == shapes[name], name


LARGE = 3 * 2**20 + 5  # elements: three for each thread of the largest grid, and some


@pytest.mark.large
@pytest.mark.parametrize("name", ["relu", "sigmoid", "dropout", "softmax", "mse", "softmax_cross_entropy"])
def test_more_work_than_one_grid_is_done_in_strides(name: str) -> None:
    x = layouts.floats(1, (LARGE // 8, 8), np.float32)
    y = np.abs(layouts.floats(2, x.shape, np.float32))
    stem, operands = {
        "relu": ("activation", (x,)),
        "sigmoid": ("activation", (x,)),
        "dropout": ("random", (x, 0.4, 3, 5)),
        "softmax": ("activation", (x, 1)),
        "mse": ("loss", (x, y, 0.5)),
        "softmax_cross_entropy": ("loss", (x, np.arange(len(x)) % 8, 0.5)),
    }[name]
    theirs, ours = (getattr(getattr(room, stem), name) for room in (REFERENCE, CUDA))
    ours, theirs = to_host(ours(*to_gpu(operands))), theirs(*operands)
    pair = ours if isinstance(ours, tuple) else (ours,), theirs if isinstance(theirs, tuple) else (theirs,)
    agree(*map(list, pair), np.float32, name)


@pytest.mark.large
@pytest.mark.parametrize(
    ("n", "k", "m"), [(1024, 1024, 1024), (4096, 784, 64), (50, 3072, 200), (333, 999, 555)]
)
def test_large_products_match_those_in_double_precision(n: int, k: int, m: int) -> None:
    x, weight = (layouts.floats(seed, shape, np.float32) for seed, shape in ((1, (n, k)), (2, (k, m))))
    grad = layouts.floats(3, (n, m), np.float32)
    wide = [a.astype(np.float64) for a in (x, weight, grad)]
    ours = to_host((F.linear(x, weight), *F.linear_backward(grad, x, weight)))
    theirs = (wide[0] @ wide[1], wide[2] @ wide[1].T, wide[0].T @ wide[2], wide[2].sum(axis=0))
    for a, b in zip(ours, theirs, strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


@pytest.mark.large
@pytest.mark.parametrize("n", [50, 1024])
def test_the_convolutions_of_cifar10_cnn_match_the_reference(n: int) -> None:
    for channels, filters, size in ((3, 32, 32), (32, 64, 16), (64, 64, 8)):
        x = layouts.floats(1, (n, channels, size, size), np.float32, "channels_last")
        weight = layouts.floats(2, (filters, channels, 3, 3), np.float32)
        grad = layouts.floats(3, (n, filters, size, size), np.float32, "channels_last")
        geometry = (1, 1), (1, 1), (1, 1), 1
        theirs = REFERENCE.conv.conv2d(x, weight, None, *geometry, None)
        back = REFERENCE.conv.conv2d_backward(grad, x, weight, *geometry, True)
        ours = to_host(F.conv2d(x, weight, padding=1))
        for a, b in zip(
            (ours, *to_host(F.conv2d_backward(grad, x, weight, padding=1))), (theirs, *back), strict=True
        ):
            assert np.linalg.norm(a - b) <= 2e-5 * np.linalg.norm(b)
