"""Which device a call works on, and what it says where it cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn.backend import is_device_array
from fastnn.kernels.cuda.device import OutOfMemory
from tests.calls import CALLS
from tests.gpu.moving import to_gpu, to_host

pytestmark = pytest.mark.gpu
ONES = np.ones((3, 3), np.float32)


def arrays_of(result: Any) -> list[Any]:
    return [r for r in (result if isinstance(result, tuple) else (result,)) if hasattr(r, "shape")]


def expected(name: str) -> list[Any]:
    with fastnn.use_backend("numpy"):
        result = CALLS[name]()
    return [
        r for r in (result if isinstance(result, tuple) else (result,)) if isinstance(r, (float, np.ndarray))
    ]


@pytest.mark.parametrize("switch", ["cupy", "numpy"])
@pytest.mark.parametrize("name", CALLS)
def test_arrays_on_the_gpu_give_arrays_on_the_gpu_whatever_the_switch(name: str, switch: str) -> None:
    moved = {key: to_gpu(array) for key, array in CALLS[name].arrays.items()}
    with fastnn.use_backend(switch):
        found = arrays_of(CALLS[name](**moved))
    assert found
    assert all(map(is_device_array, found))
    for ours, theirs in zip(found, expected(name), strict=True):
        np.testing.assert_allclose(ours.get(), theirs, 1e-4, 1e-5)


@pytest.mark.parametrize("name", CALLS)
def test_with_the_switch_at_cupy_arrays_of_the_host_are_moved(name: str) -> None:
    written_to = {
        key: to_gpu(CALLS[name].arrays[key]) for key in CALLS[name].arrays if key.startswith("running")
    }
    found = arrays_of(CALLS[name](**written_to))
    assert all(map(is_device_array, found))
    for ours, theirs in zip(found, expected(name), strict=True):
        np.testing.assert_allclose(ours.get(), theirs, 1e-4, 1e-5)


def test_a_network_made_on_the_gpu_takes_host_batches_and_keeps_its_results_there() -> None:
    net = fastnn.Sequential(fastnn.Linear(3, 4), fastnn.ReLU(), fastnn.Linear(4, 2))
    assert all(is_device_array(p.data) and is_device_array(p.grad) for p in net.parameters())
    loss, grad = F.softmax_cross_entropy(net.forward(ONES, training=True), np.zeros(3, int))
    net.backward(grad, input_grad=False)
    assert is_device_array(net(ONES))
    assert float(loss) > 0


def test_what_is_written_to_must_be_on_the_gpu() -> None:
    with pytest.raises(TypeError, match="running_mean is written to on the GPU"):
        F.batch_norm(to_gpu(ONES), *[np.ones(3, np.float32)] * 4, training=True)
    with pytest.raises(TypeError, match=r"out\[0\] is written to on the GPU"):
        F.linear_backward(to_gpu(ONES), ONES, ONES, out=(ONES.copy(), ONES[0].copy()))


def test_a_parameter_on_one_device_takes_no_array_of_the_other() -> None:
    layer = fastnn.Linear(3, 3)
    with pytest.raises(TypeError, match=r"must be a cupy\.ndarray, where the parameter is"):
        layer.parameters()[0].data = ONES
    with fastnn.use_backend("numpy"):
        layer = fastnn.Linear(3, 3)
    with pytest.raises(TypeError, match=r"must be a numpy\.ndarray, where the parameter is"):
        layer.parameters()[0].data = to_gpu(ONES)


def test_a_network_on_the_host_does_not_train_on_batches_of_the_gpu() -> None:
    with fastnn.use_backend("numpy"):
        net = fastnn.Sequential(fastnn.Linear(3, 4), fastnn.ReLU(), fastnn.Linear(4, 2))
    with pytest.raises(RuntimeError, match=r"the parameters of Linear\(3, 4\) are on the host"):
        net.forward(to_gpu(ONES), training=True)


def test_running_out_of_memory_says_how_much_was_asked_for_and_leaves_the_gpu_usable() -> None:
    column, row = to_gpu(np.ones((2_000_000, 1), np.float32)), to_gpu(np.ones((1, 2_000_000), np.float32))
    with pytest.raises(OutOfMemory, match=r"GiB were asked for, .* are free of .*GiB"):
        F.linear(column, row)
    np.testing.assert_array_equal(to_host(F.relu(ONES)), ONES)


def test_a_backend_says_where_its_arrays_are() -> None:
    backend = fastnn.get_backend()
    moved = backend.asarray(ONES)
    assert is_device_array(moved)
    assert type(backend.to_numpy(moved)) is np.ndarray
    backend.synchronize()
    with fastnn.use_backend("numpy") as host:
        assert type(host.asarray(moved)) is np.ndarray
