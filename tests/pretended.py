"""A GPU that is not there: a module that is called cupy, whose arrays lie in main memory.

It is as strict as CuPy, so that what mixes host and device fails here too: its arrays are no NumPy arrays, do
not turn into one unless by ``get()``, and go with none into an operation. What CuPy has not, it has not. The
kernels run as in ``emulation.py``; events read the processor's clock.

:func:`pretended` puts it in CuPy's place, under which ``fastnn.set_backend("cupy")`` works. As a plugin,
``pytest -p tests.pretended``, it does so for a whole session of tests.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from tests import emulation

try:
    import cupy as real  # for its names: no call of it needs a GPU
except ImportError:
    WHY_NOT: str | None = "CuPy is not installed, whose names this has"
else:
    WHY_NOT = emulation.WHY_NOT


class ndarray(NDArrayOperatorsMixin):
    """An array "on the device"."""

    def __init__(self, host: np.ndarray) -> None:
        self.host = host

    def get(self) -> np.ndarray:
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
            return wrapped(self.host.take(host(indices), axis))
        return wrapped(self.host.take(host(indices), axis, host(out), mode="clip"))

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
        self.host[host(key)] = host(value)

    def __len__(self) -> int:
        return len(self.host)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __float__(self) -> float:
        return float(self.host)

    def __int__(self) -> int:
        return int(self.host)

    def __bool__(self) -> bool:
        return bool(self.host)

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
        given = options.get("out")
        result = function(*host(arguments), **{key: host(value) for key, value in options.items()})
        return given if isinstance(given, ndarray) else wrapped(result)

    return call


def _array(x: Any, dtype: Any = None, copy: bool = True, order: str = "K", **_: Any) -> ndarray:
    if isinstance(x, ndarray):
        return ndarray(np.array(x.host, dtype, copy=copy or None, order=order))
    order = order if order not in "KA" else "F" if np.asarray(x).flags.fnc else "C"  # as CuPy sends arrays
    return ndarray(np.array(x, dtype, order=order))


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
        self.compute_capability, self.mem_info = "90", (3 << 30, 4 << 30)

    def synchronize(self) -> None:
        pass


def _properties(device: int) -> dict[str, Any]:
    return {
        "name": b"Pretended GPU",
        "totalGlobalMem": 4 << 30,
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
        self.xp = xp

    @staticmethod
    def address(array: Any) -> int:
        return array.data.ptr

    def compile(self, stem: str, source: str, options: tuple[str, ...]) -> Any:
        compiled = super().compile(stem, source, options)

        def get_function(name: str) -> Any:
            kernel = compiled.get_function(name)
            return lambda grid, block, arguments: kernel(grid, block, host(arguments))

        return SimpleNamespace(get_function=get_function)


@contextmanager
def pretended(folder: Path) -> Iterator[Toolkit]:
    """A GPU for whoever asks CuPy for one; `folder` is for what is built."""
    from fastnn import backend

    modules = module()
    before = {name: sys.modules.get(name) for name in modules}
    device = vars(backend._backends["cupy"])
    had = device.pop("xp", None)
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
        device.pop("xp", None)
        if had is not None:
            device["xp"] = had


# pytest's hooks, where this module is a plugin


def pytest_configure(config: Any) -> None:
    folder = os.environ.get("FASTNN_PRETENDED") or tempfile.mkdtemp(prefix="fastnn-pretended-")
    config.pretended = pretended(Path(folder))
    config.pretended.__enter__()


def pytest_unconfigure(config: Any) -> None:
    config.pretended.__exit__(None, None, None)
