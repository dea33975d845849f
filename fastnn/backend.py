"""The switch: which implementation of the kernels runs.

Two rules hold everywhere. *Where an array lives says the device*: a CuPy array always goes to the ``cupy``
backend. *The switch says the implementation*: host arrays go to the backend chosen by :func:`set_backend`
(the process default, initially ``FASTNN_BACKEND`` or ``"numba"``) or, inside it, by :func:`use_backend`.
Nothing ever falls back silently.

Kernel modules are imported when first touched, so that importing the package needs neither Numba nor CuPy.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import numpy as np

STEMS = ("linear", "activation", "conv", "pool", "conv_pool", "loss", "norm", "random", "update")


class BackendUnavailable(RuntimeError):
    """The backend exists but cannot run here; the message says what to install or what is missing."""


class Backend:
    """One implementation of every kernel, and the array module whose arrays it works on.

    Attributes
    ----------
    name : str
        ``"numpy"``, ``"numba"`` or ``"cupy"``.
    xp : module
        The array module: ``numpy``, or ``cupy`` on a GPU.
    linear, activation, conv, pool, conv_pool, loss, norm, random, update : module
        The kernels, one module a stem, imported at first use.
    """

    def __init__(self, name: str, room: str) -> None:
        self.name = name
        self.room = room

    def __getattr__(self, attribute: str) -> Any:
        # Reached once per attribute: what is found is stored on the instance, so later reads cost a dict
        # lookup.
        value: ModuleType
        if attribute in STEMS:
            value = importlib.import_module(f"fastnn.kernels.{self.room}.{attribute}")
        elif attribute == "xp":
            value = importlib.import_module("cupy") if self.room == "cuda" else np
        else:
            raise AttributeError(f"Backend has no attribute {attribute!r}")
        setattr(self, attribute, value)
        return value

    def __repr__(self) -> str:
        return f"<fastnn backend {self.name!r}>"

    def asarray(self, x: Any, dtype: Any = None) -> Any:
        """`x` as an array on this backend's device; copies only where it must, keeps channels-last memory."""
        if self.room == "cuda":
            from fastnn.kernels.cuda import device

            return device.asarray(self.xp, x, dtype)
        return self.xp.asarray(x.get() if is_device_array(x) else x, dtype=dtype)

    def to_numpy(self, x: Any) -> np.ndarray:
        """`x` as a NumPy array on the host; waits for the device where there is one."""
        return x.get() if is_device_array(x) else np.asarray(x)

    def synchronize(self) -> None:
        """Wait until all work issued so far is done (at once on a CPU, where calls return finished)."""
        if self.room == "cuda":
            self.xp.cuda.get_current_stream().synchronize()


_backends = {
    b.name: b for b in (Backend("numpy", "reference"), Backend("numba", "cpu"), Backend("cupy", "cuda"))
}
_override: ContextVar[Backend | None] = ContextVar("fastnn_backend", default=None)
_default: Backend | None = None


def is_device_array(x: Any) -> bool:
    """Whether `x` is a CuPy array; never imports CuPy to find out."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(x, cupy.ndarray)


def _why_not(name: str) -> str | None:
    """Why backend `name` cannot run here, or None if it can."""
    if name == "numba":
        if importlib.util.find_spec("numba") is None:
            return "Numba is not installed: pip install numba"
        return None
    if name == "cupy":
        if importlib.util.find_spec("fastnn.kernels.cuda.linear") is None:
            return "this build of fastnn has no CUDA kernels"
        if importlib.util.find_spec("cupy") is None:
            return (
                "CuPy is not installed: pip install 'fastnn-kernels[cuda13x]' (driver below 580: [cuda12x])"
            )
        from fastnn.kernels.cuda import device  # probes the driver: only now, since it initialises CUDA

        return device.why_not()
    return None


def available_backends() -> dict[str, str | None]:
    """Each backend's name with None where it can run here, else with the reason and what to install.

    Asking probes the CUDA driver where CuPy is installed; a process that forks later should ask first in a
    child.
    """
    return {name: _why_not(name) for name in _backends}


def _find(name: str) -> Backend:
    if name not in _backends:
        raise ValueError(f"unknown backend {name!r}: choose one of {', '.join(map(repr, _backends))}")
    reason = _why_not(name)
    if reason is not None:
        raise BackendUnavailable(f"backend {name!r} is not available: {reason}")
    return _backends[name]


def set_backend(name: str) -> None:
    """Make backend `name` the default of this process, for every thread.

    Parameters
    ----------
    name : {"numpy", "numba", "cupy"}

    Raises
    ------
    ValueError
        `name` is not a backend.
    BackendUnavailable
        It is one, but cannot run here; the message says why and what to install.
    """
    global _default
    _default = _find(name)


def get_backend() -> Backend:
    """The backend in force here: that of the innermost :func:`use_backend`, else the process default."""
    override = _override.get()
    if override is not None:
        return override
    if _default is None:
        set_backend(os.environ.get("FASTNN_BACKEND", "numba"))
    assert _default is not None
    return _default


@contextmanager
def use_backend(name: str) -> Iterator[Backend]:
    """Use backend `name` inside a ``with`` block; only this thread (or asyncio task) sees it."""
    token = _override.set(_find(name))
    try:
        yield get_backend()
    finally:
        _override.reset(token)


def backend_of(x: Any) -> Backend:
    """The backend that must handle array `x`: cupy for a CuPy array, else the one in force."""
    if type(x) is not np.ndarray and is_device_array(x):
        return _backends["cupy"]
    return get_backend()


_rng = np.random.default_rng()
_stream = [int(_rng.integers(2**63)), 0]


def seed(n: int) -> None:
    """Restart every source of randomness in fastnn (initial weights, dropout, shuffling) from `n`, 0 <= n <
    2**63."""
    global _rng
    if not 0 <= n < 2**63:
        raise ValueError(f"seed must be in 0 ... 2**63 - 1, got {n}")
    _rng = np.random.default_rng(n)
    _stream[:] = [n, 0]


def rng() -> np.random.Generator:
    """The generator that initial weights and shuffles are drawn from."""
    return _rng


def next_stream() -> tuple[int, int]:
    """``(seed, offset)`` of a fresh counter-based random stream; each call gives one never given since
    :func:`seed`."""
    _stream[1] += 1
    return _stream[0], _stream[1]


def give_back_streams(streams: Sequence[tuple[int, int]]) -> None:
    """Undo the last calls of :func:`next_stream`, which returned `streams`, unless others came after them."""
    if streams and _stream == list(streams[-1]):
        _stream[1] -= len(streams)


def skip_streams(count: int) -> None:
    """Leave `count` streams out that a GPU uses without asking; a negative number undoes calls of
    :func:`next_stream`."""
    _stream[1] += count


def stream_state() -> dict[str, Any]:
    """The state of all randomness, JSON-able, for checkpoints."""
    return {"generator": _rng.bit_generator.state, "stream": list(_stream)}


def set_stream_state(state: dict[str, Any]) -> None:
    """Restore what :func:`stream_state` returned."""
    _rng.bit_generator.state = state["generator"]
    _stream[:] = state["stream"]


def set_num_threads(n: int) -> None:
    """Let the numba backend use `n` threads at most, this one included; results do not depend on `n`."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"the number of threads must be an int, got {n!r}")
    if n < 1:
        raise ValueError(f"the number of threads must be at least 1, got {n}")
    from fastnn.kernels.cpu import threads

    threads.set_num_threads(int(n))


def get_num_threads() -> int:
    """How many threads the numba backend uses: ``FASTNN_NUM_THREADS``, else the CPUs this process may run
    on."""
    from fastnn.kernels.cpu import threads

    return threads.get_num_threads()


def set_float32_precision(precision: str) -> None:
    """How exactly the cupy backend multiplies float32 matrices, in linear layers and convolutions.

    The names are those of ``torch.set_float32_matmul_precision``. It holds for the process, from the next
    call on. What is float64, and what runs on a CPU, is not affected.

    Parameters
    ----------
    precision : {"highest", "high"}
        ``"highest"``, the default: in float32. ``"high"``: on tensor cores, which round each factor to TF32,
        11 significant bits instead of 24, and add the products in float32.

    Raises
    ------
    ValueError
        There is no such precision.
    """
    from fastnn.kernels.cuda import precision as room

    if precision not in room.PRECISIONS:
        names = " or ".join(map(repr, room.PRECISIONS))
        raise ValueError(f"unknown precision {precision!r}: choose {names}")
    room.float32_precision = precision


def get_float32_precision() -> str:
    """What :func:`set_float32_precision` was given last, initially ``"highest"``."""
    from fastnn.kernels.cuda import precision as room

    return room.float32_precision
