"""A GPU that is not there: a module that is called cupy, whose arrays lie in main memory.

It is as strict as CuPy, so that what mixes host and device fails here too: its arrays are no NumPy arrays, do
not turn into one unless by ``get()``, and go with none into an operation. What CuPy has not, it has not. The
kernels run as in ``emulation.py``; events read the processor's clock.

:func:`pretended` puts it in CuPy's place, under which ``fastnn.set_backend("cupy")`` works. As a plugin,
``pytest -p tests.pretended``, it does so for a whole session of tests.
"""

from __future__ import annotations

import ctypes
import functools
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from fastnn import backend
from fastnn.kernels.cuda import device
from tests import emulation

try:
    import cupy as real  # for its names: no call of it needs a GPU
except ImportError:
    WHY_NOT: str | None = "CuPy is not installed, whose names this has"
else:
    WHY_NOT = emulation.WHY_NOT


MEMORY = 4 << 30  # bytes
_one_kernel = threading.Lock()  # the emulation runs one at a time
_this_thread = threading.local()


def capture() -> list[Callable[[], Any]] | None:
    """What this thread has captured so far, where it captures instead of doing."""
    return getattr(_this_thread, "captured", None)


def capturable(action: Callable[[], Any]) -> None:
    """Do it now; or, while this thread captures what it does, at each launch of the graph."""
    captured = capture()
    if captured is None:
        action()
    else:
        captured.append(action)


def waits() -> None:
    """Raises, as CUDA does, where the host would wait for what is captured."""
    if capture() is not None:
        raise RuntimeError("cudaErrorStreamCaptureUnsupported")


class ndarray(NDArrayOperatorsMixin):
    """An array "on the device"."""

    __module__ = "cupy"  # for messages that name the class

    def __init__(self, host: np.ndarray) -> None:
        self.host = host

    def get(self) -> np.ndarray:
        waits()
        return self.host.copy()

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.host.__array_interface__["data"][0])

    @property
    def flags(self) -> Any:
        flags = self.host.flags
        return SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous)

    @property
    def T(self) -> ndarray:
        return ndarray(self.host.T)

    def take(self, indices: Any, axis: int | None = None, out: Any = None) -> Any:
        if out is None:
            return on_device(self.host.take)(indices, axis)
        return on_device(self.host.take)(indices, axis, out=out, mode="clip")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(real.ndarray, name):
            raise AttributeError(f"cupy.ndarray has no {name}")
        value = getattr(self.host, name)
        return on_device(value) if callable(value) else wrapped(value)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return on_device(getattr(ufunc, method))(*inputs, **options)

    def __array_function__(self, function: Any, types: Any, inputs: Any, options: Any) -> Any:
        return getattr(sys.modules["cupy"], function.__name__)(*inputs, **options)

    def __getitem__(self, key: Any) -> Any:
        return wrapped(self.host[host(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        key, value = host(key), host(value)
        capturable(lambda: self.host.__setitem__(key, value))

    def __len__(self) -> int:
        return len(self.host)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())

    def __repr__(self) -> str:
        return f"device {self.host!r}"


def host(x: Any) -> Any:
    """What NumPy is given for an argument of CuPy; TypeError for an array of NumPy's."""
    if isinstance(x, np.ndarray) and x.ndim:
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, ndarray):
        return x.host
    if isinstance(x, tuple | list):
        return type(x)(map(host, x))
    return x


def wrapped(x: Any) -> Any:
    """What CuPy returns where NumPy returns `x`: numbers too come as arrays."""
    if isinstance(x, np.ndarray | np.generic) and not isinstance(x, np.dtype):
        return ndarray(np.asarray(x))
    return type(x)(map(wrapped, x)) if type(x) in (tuple, list) and any(map(_is_array, x)) else x


def _is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray)


def on_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy's as CuPy has it."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        plain = host(arguments), {key: host(value) for key, value in options.items()}
        out = options.get("out")
        if isinstance(out, ndarray):
            capturable(lambda: function(*plain[0], **plain[1]))
            return out
        result = function(*plain[0], **plain[1])
        if isinstance(result, np.generic):
            result = np.asarray(result)
        if capture() is not None and _is_array(result) and result.base is None:  # a view needs nothing done
            capturable(lambda: np.copyto(result, function(*plain[0], **plain[1])))
        return wrapped(result)

    return call


def _array(x: Any, dtype: Any = None, copy: bool = True, order: str = "K", **_: Any) -> ndarray:
    if isinstance(x, ndarray):
        return on_device(np.array)(x, dtype, copy=copy or None, order=order)
    waits()  # as for the memory that CuPy sends from, which later gets other numbers
    order = order if order not in "KA" else "F" if np.asarray(x).flags.fnc else "C"  # as CuPy sends arrays
    return ndarray(np.array(x, dtype, order=order))


def _empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    size = math.prod(np.atleast_1d(shape).tolist()) * np.dtype(dtype).itemsize
    if size > MEMORY:
        raise real.cuda.memory.OutOfMemoryError(size, 0, 0)
    memory = np.empty(shape, dtype, order)
    if capture() is not None:  # a graph reuses its memory: whatever ran before left something else there
        capturable(lambda: ctypes.memset(memory.ctypes.data, 0xFF, memory.nbytes))
    return ndarray(memory)


class Event:
    """A moment of the processor's clock."""

    def record(self, stream: Any = None) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        pass


class Stream:
    """All is done at once here, in whatever stream."""

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        pass

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record()
        return event

    def wait_event(self, event: Event) -> None:
        pass


class Device:
    def __init__(self, device: int = 0) -> None:
        self.compute_capability, self.mem_info = "90", (3 << 30, MEMORY)

    def synchronize(self) -> None:
        pass


def _properties(device: int) -> dict[str, Any]:
    return {
        "name": b"Pretended GPU",
        "totalGlobalMem": MEMORY,
        "multiProcessorCount": 4,
        "major": 9,
        "minor": 0,
        "clockRate": 1_000_000,
    }


def module() -> dict[str, ModuleType]:
    """The modules that stand in for CuPy's, by name."""
    cupy, cuda, nvrtc = (ModuleType(name) for name in ("cupy", "cupy.cuda", "cupy.cuda.nvrtc"))
    cupy.__spec__ = ModuleSpec("cupy", None)

    def lookup(name: str) -> Any:
        if name.startswith("__") or not hasattr(real, name):
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")
        value = getattr(np, name)
        return on_device(value) if callable(value) and not isinstance(value, type) else value

    strided = on_device(np.lib.stride_tricks.as_strided)
    vars(cupy).update(
        __getattr__=lookup,
        ndarray=ndarray,
        array=_array,
        empty=_empty,
        asarray=lambda x, dtype=None, order="K": _array(x, dtype, copy=False, order=order),
        ascontiguousarray=lambda x, dtype=None: _array(x, dtype, copy=False, order="C"),
        asnumpy=lambda x: x.get(),
        lib=SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=strided)),
        cuda=cuda,
        __version__=real.__version__,
    )
    runtime = SimpleNamespace(
        CUDARuntimeError=real.cuda.runtime.CUDARuntimeError,
        getDeviceCount=lambda: 1,
        getDevice=lambda: 0,
        getDeviceProperties=_properties,
        driverGetVersion=lambda: 13_000,
        runtimeGetVersion=lambda: 13_000,
        memGetInfo=lambda: Device().mem_info,
        deviceSynchronize=lambda: None,
    )
    vars(nvrtc).update(getVersion=lambda: (13, 0))
    vars(cuda).update(
        runtime=runtime,
        nvrtc=nvrtc,
        memory=real.cuda.memory,
        Event=Event,
        Stream=Stream,
        Device=Device,
        get_current_stream=Stream,
        get_elapsed_time=lambda first, last: 1e3 * (last.at - first.at),
    )
    return {"cupy": cupy, "cupy.cuda": cuda, "cupy.cuda.nvrtc": nvrtc}


class Toolkit(emulation.Toolkit):
    """The emulation, on arrays of the module above."""

    def __init__(self, folder: Path, xp: Any) -> None:
        super().__init__(folder)
        self.xp = device.Arrays(xp)

    @staticmethod
    def address(array: Any) -> int:
        return array.data.ptr

    def do(self, action: Callable[[], Any], arguments: tuple[Any, ...]) -> None:
        def alone() -> None:
            with _one_kernel:
                action()

        capturable(alone)

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        actions = _this_thread.captured = []
        try:
            function()
        finally:
            _this_thread.captured = None
        return lambda: [action() for action in actions] and None

    def compile(self, stem: str, source: str, options: tuple[str, ...]) -> Any:
        compiled = super().compile(stem, source, options)

        def get_function(name: str) -> Any:
            kernel = compiled.get_function(name)
            return lambda grid, block, arguments: kernel(grid, block, host(arguments))

        return SimpleNamespace(get_function=get_function)


@contextmanager
def pretended(folder: Path) -> Iterator[Toolkit]:
    """A GPU for whoever asks CuPy for one; `folder` is for what is built."""
    modules = module()
    before = {name: sys.modules.get(name) for name in modules}
    found = vars(backend._backends["cupy"])
    had = found.pop("xp", None)
    sys.modules.update(modules)
    try:
        with emulation.emulated(Toolkit(folder, modules["cupy"])) as toolkit:
            yield toolkit  # type: ignore[misc]
    finally:
        for name, one in before.items():
            if one is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = one
        found.pop("xp", None)
        if had is not None:
            found["xp"] = had


# pytest's hooks, where this module is a plugin


def pytest_configure(config: Any) -> None:
    config.pretended = pretended(emulation.BUILT)
    config.pretended.__enter__()


def pytest_unconfigure(config: Any) -> None:
    config.pretended.__exit__(None, None, None)
