"""Operands on their way to the GPU, and results on their way back."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.backend import get_backend, is_device_array
from fastnn.kernels.cuda._launch import _ALIGNMENT


def to_gpu(x: Any) -> Any:
    """`x`, or what is in it, on the GPU: under the strides it has here, and as far from an aligned address.

    What a GPU cannot have, numbers at odd addresses, gets memory of its own.
    """
    if isinstance(x, tuple | list):
        return type(x)(map(to_gpu, x))
    if not isinstance(x, np.ndarray):
        return x
    cupy, item = get_backend().xp, x.itemsize
    if x.ndim == 0 or x.size == 0 or any(stride % item for stride in (*x.strides, address(x))):
        return cupy.asarray(np.ascontiguousarray(x).reshape(x.shape))
    spans = [(size - 1) * stride // item for size, stride in zip(x.shape, x.strides, strict=True)]
    before = -sum(span for span in spans if span < 0)
    lowest = x[tuple(slice(-1, None) if stride < 0 else slice(1) for stride in x.strides)]
    memory = np.lib.stride_tricks.as_strided(lowest, (sum(map(abs, spans)) + 1,), (item,))
    ahead = address(memory) % _ALIGNMENT // item
    block = cupy.empty(ahead + memory.size, x.dtype)
    block[ahead:] = cupy.asarray(np.array(memory))
    return cupy.lib.stride_tricks.as_strided(block[ahead + before :], x.shape, x.strides)


def address(x: np.ndarray) -> int:
    return x.__array_interface__["data"][0]


def to_host(x: Any) -> Any:
    """`x`, or what is in it, back here: AssertionError for an array that was here all along."""
    if isinstance(x, tuple | list):
        return type(x)(map(to_host, x))
    assert not isinstance(x, np.ndarray), "a result is not on the GPU"
    return x.get() if is_device_array(x) else x
