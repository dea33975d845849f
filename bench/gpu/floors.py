"""What the device can do, measured; and each kernel's time, to be held against it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
from bench.gpu.clock import Clock, timed, torch_clock
from bench.kernels import Sizes, kernels
from fastnn.kernels.cuda import _launch

_THREADS, _BLOCKS, _STEPS = 256, 1 << 13, 1 << 11
_SUMS = 16  # of a thread in peak.cu
_REPEATS = 10  # of a kernel in one graph


def copy_rate(clock: Clock, elements: int, seconds: float) -> float:
    """Bytes read and written a second."""
    xp = fastnn.get_backend().xp
    source, target = xp.ones(elements, np.float32), xp.empty(elements, np.float32)
    spent = timed(lambda: target.__setitem__(..., source), clock, seconds)
    return 2 * source.nbytes / spent["median"]


def multiply_add_rate(clock: Clock, seconds: float, blocks: int = _BLOCKS, steps: int = _STEPS) -> float:
    """Operations of float32 a second, by ``peak.cu``; a multiply-add is two."""
    text = (Path(__file__).parent / "peak.cu").read_text()
    module = _launch.toolkit.compile("peak", text, _launch.options(np.dtype(np.float32)))
    kernel = module.get_function("multiply_add")
    out = fastnn.get_backend().xp.empty(blocks * _THREADS, np.float32)
    spent = timed(lambda: kernel((blocks,), (_THREADS,), (out, np.int64(steps))), clock, seconds)
    return 2 * _SUMS * steps * out.size / spent["median"]


def matmul_rate(seconds: float, precision: str, side: int = 8192) -> float:
    """Operations a second of PyTorch's product of square matrices."""
    import torch

    from bench.gpu.torch_steps import set_precision

    set_precision(precision)
    a, b = (torch.randn(side, side, device="cuda") for _ in range(2))
    return 2 * side**3 / timed(lambda: a @ b, torch_clock(), seconds)["median"]


def limits(clock: Clock, elements: int, seconds: float) -> dict[str, float]:
    """Rates, in bytes or operations a second."""
    found = {
        "copy": copy_rate(clock, elements, seconds),
        "multiply-add": multiply_add_rate(clock, seconds),
    }
    if importlib.util.find_spec("torch"):
        for name, precision in (("matmul", "highest"), ("matmul, TF32", "high")):
            found[name] = matmul_rate(seconds, precision)
    return found


def kernel_times(clock: Clock, family: str, sizes: Sizes, seconds: float) -> Iterator[dict[str, Any]]:
    """Of each kernel of that family what it does and how long a call takes, as part of a CUDA graph."""
    for kernel in kernels(sizes, [family]):
        entry = {key: getattr(kernel, key) for key in ("name", "family", "operations", "traffic")}
        spent = _seconds(kernel.call, clock, seconds)
        if kernel.without is not None:
            spent -= _seconds(kernel.without, clock, seconds)
        yield {**entry, "seconds": spent}


def _seconds(call: Callable[[], Any], clock: Clock, seconds: float) -> float:
    """Of one call: many in one graph, so that the device does not wait for the host."""

    def repeated() -> None:
        for _ in range(_REPEATS):
            call()

    call()  # compiles what a capture must not
    return timed(_launch.toolkit.record(repeated), clock, seconds)["median"] / _REPEATS
