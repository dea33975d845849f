"""Which backend a call goes to, and which of its arrays move: with a stand-in for CuPy, so without a GPU."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable

import numpy as np
import pytest

import fastnn.functional as F
from fastnn import backend, use_backend


@pytest.fixture(autouse=True)
def _numpy_backend():
    with use_backend("numpy"):
        yield


class Device:
    """Stands in for an array on a GPU: shape and dtype can be seen, the numbers cannot."""

    def __init__(self, host: np.ndarray) -> None:
        self.dtype, self.shape, self.ndim, self.size = host.dtype, host.shape, host.ndim, host.size


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """A stand-in for CuPy and its kernels; the list collects what the kernels are called with."""
    module = types.ModuleType("cupy")
    module.ndarray = Device  # type: ignore[attr-defined]
    to_device = lambda x, dtype=None: x if isinstance(x, Device) else Device(x)  # noqa: E731
    module.asarray = to_device  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", module)
    device, calls = backend._backends["cupy"], []

    class Kernels:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *arguments: calls.append(arguments)

    # Into the dictionary: setattr would look for the attribute first, and so import and keep the stand-in.
    monkeypatch.setitem(vars(device), "xp", module)
    for stem in backend.STEMS:
        monkeypatch.setitem(vars(device), stem, Kernels())
    return calls


def arrays_of(call: tuple) -> list[type]:
    return [type(a) for a in call if isinstance(a, np.ndarray | Device)]


def test_one_device_array_takes_the_call_and_its_host_arrays_to_the_gpu(cupy: list[tuple]) -> None:
    host = np.ones((3, 3), np.float32)
    F.linear(host, Device(host))
    F.linear(Device(host), host, host[0])
    F.mse(host, Device(host))
    F.softmax_cross_entropy(host, Device(np.zeros(3, np.int64)))
    F.softmax_cross_entropy(Device(host), np.zeros(3, np.int64))
    F.max_pool2d_backward(host.reshape(1, 1, 3, 3), Device(np.zeros((1, 1, 3, 3), np.int32)), (1, 1, 3, 3))
    image, places = host.reshape(1, 1, 3, 3), Device(np.zeros((1, 1, 3, 3), np.int32))
    F.conv2d_max_pool2d(image, Device(image[:, :, :1, :1]), pool_size=1)
    F.conv2d_max_pool2d_backward(image, places, image, image[:, :, :1, :1])
    assert [arrays_of(call) for call in cupy] == [[Device] * n for n in (2, 3, 2, 2, 2, 2, 2, 4)]
    with pytest.raises(TypeError, match=r"out\[0\] is written to on the GPU"):
        F.conv2d_max_pool2d_backward(image, places, image, image, out=(image.copy(), host[0]))


def test_with_the_switch_at_cupy_host_arrays_are_moved(cupy: list[tuple]) -> None:
    token = backend._override.set(backend._backends["cupy"])
    host = np.ones((3, 3), np.float32)
    try:
        F.relu(host)
        F.softmax_cross_entropy(host, np.zeros(3, np.uint8))
        with pytest.raises(ValueError, match="holds the label 3"):
            F.softmax_cross_entropy(host, np.full(3, 3))
        with pytest.raises(TypeError, match="running_mean is written to on the GPU"):
            F.batch_norm(host, *[host[0]] * 4, training=True)
        with pytest.raises(TypeError, match=r"out\[0\] is written to on the GPU"):
            F.linear_backward(host, host, host, out=(host, host[0]))
    finally:
        backend._override.reset(token)
    assert [arrays_of(call) for call in cupy] == [[Device], [Device, Device]]


def test_host_arrays_alone_stay_with_the_host_backend(cupy: list[tuple]) -> None:
    assert type(F.relu(np.ones(3, np.float32))) is np.ndarray
    assert cupy == []
