"""What a layer trains: an array and its gradient, each one buffer for life.

Both lie in memory in the same order, the one that kernels read fastest: kernels write gradients into the one,
optimisers update the other, and neither asks for an array of its own. So assignments copy values.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import numpy as np

from fastnn import backend as _backend
from fastnn import init as _init
from fastnn._memory import zeros, zeros_beside
from fastnn.functional._check import place


class Parameter:
    """An array that is trained, and its gradient.

    Parameters
    ----------
    name : str
    data : float32 or float64 array
        Copied. Four-dimensional ones are convolution filters: they lie in (KH, KW, I, O) memory,
        the order in which the convolutions read them.

    Attributes
    ----------
    name : str
        Unique in the outermost :class:`~fastnn.layers.Sequential`: ``"0.weight"``.
    data, grad : array
        Both may be written in place or assigned to. An assignment copies the values into the array that is
        there: layers and optimisers hold on to it. Data of the other float dtype make both arrays anew in
        that dtype.
    """

    __slots__ = ("_data", "_grad", "name")

    def __init__(self, name: str, data: Any) -> None:
        self.name = name
        self._make(data)

    def _make(self, data: Any) -> None:
        _, (data,) = place((self.name,), data)
        xp, filters = _backend.backend_of(data).xp, data.ndim == 4
        shape = data.transpose(2, 3, 1, 0).shape if filters else data.shape
        first = zeros(xp, shape, data.dtype)
        arrays = first, zeros_beside(first, 1)
        self._data, self._grad = [a.transpose(3, 2, 0, 1) for a in arrays] if filters else arrays
        self._data[...] = data

    def _set_data(self, data: Any) -> None:
        if data is self._data:  # the end of ``p.data -= ...``
            return
        self._check(data, "data")
        if data.dtype == self._data.dtype:
            self._data[...] = data
        else:
            self._make(data)

    def _set_grad(self, grad: Any) -> None:
        if grad is self._grad:
            return
        self._check(grad, "grad")
        if grad.dtype != self._data.dtype:
            dtype = self._data.dtype
            raise TypeError(
                f"grad of parameter {self.name} must be {dtype} too: cast it, .astype(np.{dtype})"
            )
        self._grad[...] = grad

    def _check(self, array: Any, what: str) -> None:
        what = f"{what} of parameter {self.name}"
        beside = _backend.is_device_array(array) == _backend.is_device_array(self._data)
        if not beside or not hasattr(array, "dtype"):
            kind = f"{type(self._data).__module__}.ndarray"
            given = f"{type(array).__module__}.{type(array).__name__}"
            raise TypeError(f"{what} must be a {kind}, where the parameter is, got a {given}")
        if array.shape != self._data.shape:
            raise ValueError(f"{what} must have shape {self._data.shape}, got {array.shape}")

    data = property(attrgetter("_data"), _set_data)
    grad = property(attrgetter("_grad"), _set_grad)

    def __reduce__(self) -> Any:
        # Pickling forgets the order in memory; making the parameter anew restores it.
        return _restore_parameter, (self.name, self._data, self._grad)

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, shape={self._data.shape}, dtype={self._data.dtype})"


def _restore_parameter(name: str, data: Any, grad: Any) -> Parameter:
    parameter = Parameter(name, data)
    parameter._grad[...] = grad
    return parameter


def new_parameter(
    name: str, init: str | _init.Initializer, shape: tuple[int, ...], fan_in: int, fan_out: int, dtype: Any
) -> Parameter:
    """A parameter drawn by `init` from :func:`fastnn.backend.rng`, on the device of the backend in force.

    Raises
    ------
    TypeError
        `dtype` is neither float32 nor float64.
    ValueError
        There is no such `init`, or it gives another shape.
    """
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"a layer's dtype must be float32 or float64, got {dtype}")
    values = np.asarray(_init.find(init)(_backend.rng(), shape, fan_in, fan_out, dtype), dtype)
    if values.shape != shape:
        raise ValueError(f"init gave shape {values.shape} for a {name} of shape {shape}")
    return Parameter(name, _backend.get_backend().asarray(values))
