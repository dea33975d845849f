"""The GPU: whether it can be used here, what it is, and what went wrong where it cannot go on."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_INSUFFICIENT_DRIVER, _NO_DEVICE = 35, 100  # of cudaError_t
_INSTALL = "pip install 'fastnn-kernels[cuda13x]' (driver < 580: [cuda12x])"
_DRIVERS = {12: 525, 13: 580}  # the oldest for each CUDA, from NVIDIA's "CUDA Compatibility"
_ALLOCATING = frozenset({"array", "asarray", "empty", "empty_like", "zeros", "zeros_like"})


class OutOfMemory(MemoryError):
    """The GPU has not the memory that was asked for; the message has the sizes."""


class KernelsNotBuilt(RuntimeError):
    """NVRTC does not compile a kernel file for this GPU, or the driver does not load what it made."""


def why_not() -> str | None:
    """Why CuPy cannot work here, and what to do; None if it can. Asks the driver, so it initialises CUDA."""
    try:
        import cupy
    except Exception as error:  # a broken installation raises whatever it likes
        return f"CuPy does not import ({error}): {_INSTALL}"
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if error.status == _INSUFFICIENT_DRIVER:
            return _driver_lacks(runtime.driverGetVersion(), runtime.runtimeGetVersion())
        if error.status != _NO_DEVICE:
            return f"CUDA does not start: {error}"
        count = 0
    if count == 0:
        return "the driver shows no CUDA device (CUDA_VISIBLE_DEVICES may hide it)"
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except Exception as error:
        return f"NVRTC, which compiles the kernels, cannot be loaded ({error}): {_INSTALL}"
    return None


def _driver_lacks(driver: int, runtime: int) -> str:
    """Why CUDA finds the driver insufficient; of both, the CUDA version as CUDA numbers it."""
    if driver == 0:
        return "there is no NVIDIA driver (libcuda): install one; no package for Python brings it"
    needed = runtime // 1000
    update = f"update it to {_DRIVERS[needed]} or newer" if needed in _DRIVERS else "update it"
    older = f", or install cupy-cuda{driver // 1000}x in its place" if 12 <= driver // 1000 < needed else ""
    has, wants = (f"{version // 1000}.{version % 1000 // 10}" for version in (driver, runtime))
    return f"the NVIDIA driver is of CUDA {has}, but this CuPy is of CUDA {wants}: {update}{older}"


def describe() -> dict[str, str]:
    """The GPU in use, in words, for people; asks the driver."""
    import cupy

    runtime = cupy.cuda.runtime
    found = runtime.getDeviceProperties(runtime.getDevice())
    free, total = runtime.memGetInfo()
    cuda = runtime.driverGetVersion()
    own = driver_version()
    return {
        "gpu": found["name"].decode(errors="replace"),
        "gpu memory": f"{_size(total)}, {_size(free)} free",
        "compute capability": f"{found['major']}.{found['minor']}",
        "gpu driver": f"CUDA {cuda // 1000}.{cuda % 1000 // 10}" + (f", {own}" if own else ""),
        "gpu kernel cache": os.environ.get("CUPY_CACHE_DIR", os.path.expanduser("~/.cupy/kernel_cache")),
    }


def driver_version() -> str | None:
    """The number that NVIDIA gives the driver, such as 580.95.05; None where nothing says it."""
    listed = Path("/proc/driver/nvidia/version")
    text = listed.read_text(errors="replace") if listed.exists() else ""
    if found := re.search(r"\b\d{3}\.\d+(\.\d+)?\b", text):
        return found[0]
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.splitlines()[0].strip() if said.strip() else None


def asarray(xp: Any, x: Any, dtype: Any = None) -> Any:
    """`x` as an array of module `xp`, CuPy; what comes from the host keeps its axes' order in memory."""
    if isinstance(x, xp.ndarray) and dtype is None:
        return x
    move = explaining(xp.asarray)
    if not isinstance(x, np.ndarray) or x.ndim < 2 or x.flags.c_contiguous:
        return move(x, dtype=dtype)
    # CuPy would make it C-contiguous, and images would no longer be channels-last
    slowest_first = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    back = [slowest_first.index(axis) for axis in range(x.ndim)]
    return move(x.transpose(slowest_first), dtype=dtype).transpose(back)


class Arrays:
    """The module of arrays, CuPy, for the kernels: where memory runs out, it says how much there was."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy

    def __getattr__(self, name: str) -> Any:
        # Reached once per attribute: what is found is stored.
        value = getattr(self._cupy, name)
        if name in _ALLOCATING:
            value = explaining(value)
        setattr(self, name, value)
        return value


def explaining(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, with :class:`OutOfMemory` for a MemoryError."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except MemoryError as error:
            raise _out_of_memory(error) from error

    return call


def _out_of_memory(error: MemoryError) -> OutOfMemory:
    import cupy

    asked = re.search(r"allocating ([\d,]+) bytes", str(error))
    wanted = f"{_size(int(asked[1].replace(',', '')))} were asked for" if asked else str(error)
    free, total = cupy.cuda.runtime.memGetInfo()
    return OutOfMemory(
        f"the GPU is out of memory: {wanted}, {_size(free)} are free of {_size(total)}; "
        "smaller batches need less, and so does a smaller data set"
    )


def not_built(stem: str, error: Exception) -> Exception:
    """What to raise where building ``<stem>.cu`` raised `error`."""
    if isinstance(error, MemoryError):
        return _out_of_memory(error)
    import cupy
    from cupy.cuda import nvrtc

    *major, minor = cupy.cuda.Device().compute_capability
    version = ".".join(map(str, nvrtc.getVersion()))
    return KernelsNotBuilt(
        f"NVRTC {version} does not build {stem}.cu for compute capability {''.join(major)}.{minor}, "
        f"or the driver does not load it: {error}"
    )


def _size(count: int) -> str:
    """Bytes in the unit they read best in."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value >= 1024:
            value, unit = value / 1024, larger
    return f"{value:.{0 if unit == 'B' else 1}f} {unit}"
