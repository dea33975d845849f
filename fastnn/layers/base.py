"""What every layer is: parameters, a forward, a backward, and the room's rules.

* ``forward(x, training=True)`` keeps what ``backward`` needs in ``_saved``; with ``training=False`` it keeps nothing, so a model at
  inference may be called from many threads, and a backward after it raises.
* ``backward(grad)`` *overwrites* the parameters' gradients (it does not add to them) and returns the gradient of the input.
* A parameter's gradient is one buffer for life, laid out in memory as the parameter is: kernels write into it, optimisers hold on to it.
* Layers own arrays on one device, that of the backend in force where they were made. They never move them in silence.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import numpy as np

from fastnn import backend as _backend
from fastnn import init as _init
from fastnn import optim
from fastnn.layers import serialize


def hwio(array: Any) -> Any:
    """The same logical (O, I, KH, KW) filters over (KH, KW, I, O) memory, the order in which the convolutions read them."""
    xp = _backend.backend_of(array).xp
    return xp.ascontiguousarray(array.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)


class Parameter:
    """An array that is trained, and its gradient.

    Parameters
    ----------
    name : str
    data : float32 or float64 array
        Copied. Four-dimensional ones are convolution filters and lie in memory as :func:`hwio` says.

    Attributes
    ----------
    name : str
        Unique in the outermost :class:`~fastnn.layers.Sequential`: ``"0.weight"``.
    data, grad : array
        Both may be written in place or assigned to. An assignment copies the values into the array that is there: layers and
        optimisers hold on to it. Data of the other float dtype make both arrays anew in that dtype.
    """

    __slots__ = ("_data", "_grad", "name")

    def __init__(self, name: str, data: Any) -> None:
        self.name = name
        self._make(data)

    def _make(self, data: Any) -> None:
        if data.dtype not in (np.float32, np.float64):
            raise TypeError(f"parameter {self.name} must be float32 or float64, got {data.dtype}: cast it with .astype(np.float32)")
        xp = _backend.backend_of(data).xp
        self._data = hwio(data.copy()) if data.ndim == 4 else xp.array(data, order="C")
        self._grad = xp.zeros_like(self._data)

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
        self._grad[...] = grad

    def _check(self, array: Any, what: str) -> None:
        if type(array) is not type(self._data):
            raise TypeError(
                f"{what} of parameter {self.name} must be a {_kind(self._data)} as the parameter is, got {_kind(array)}"
            )
        if array.shape != self._data.shape:
            raise ValueError(f"{what} of parameter {self.name} has shape {self._data.shape}, cannot become {array.shape}")

    data = property(attrgetter("_data"), _set_data)
    grad = property(attrgetter("_grad"), _set_grad)

    def __reduce__(self) -> Any:  # pickling forgets the order in memory; making the parameter anew restores it
        return _restore_parameter, (self.name, self._data, self._grad)

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, shape={self._data.shape}, dtype={self._data.dtype})"


def _restore_parameter(name: str, data: Any, grad: Any) -> Parameter:
    parameter = Parameter(name, data)
    parameter._grad[...] = grad
    return parameter


def _kind(x: Any) -> str:
    return f"{type(x).__module__}.{type(x).__name__}"


class Layer:
    """The base of all layers.

    A layer of your own defines ``forward`` and ``backward``; what it has as attributes of type :class:`Parameter` it trains, what
    it names in ``buffers`` it saves along with them.
    """

    #: Names of attributes that are arrays to be saved, but not trained.
    buffers: tuple[str, ...] = ()
    _saved: Any = None
    _optimizer: optim.SGD | None = None

    def forward(self, x: Any, training: bool = False) -> Any:
        """The layer's output for a batch `x`; with `training`, what the backward needs is kept."""
        raise NotImplementedError

    def backward(self, grad: Any, input_grad: bool = True) -> Any:
        """Fill the parameters' gradients from `grad`, that of the last training forward's output.

        Returns
        -------
        array or None
            The gradient of the input; None without `input_grad`, which saves computing it.

        Raises
        ------
        RuntimeError
            The last forward was not one with ``training=True``, or there was none.
        """
        raise NotImplementedError

    def __call__(self, x: Any, training: bool = False) -> Any:
        return self.forward(x, training)

    def _children(self) -> Iterator[tuple[str, Layer]]:
        """Layers inside this one, with their names."""
        return iter(())

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Every parameter with its key in :meth:`state_dict`."""
        for name, value in vars(self).items():
            if type(value) is Parameter:
                yield prefix + name, value
        for name, child in self._children():
            yield from child.named_parameters(f"{prefix}{name}.")

    def parameters(self) -> list[Parameter]:
        """Every parameter, in the order of the layers."""
        return [parameter for _, parameter in self.named_parameters()]

    def _arrays(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Every array that makes up the layer's state, with its key."""
        for name, value in vars(self).items():
            if type(value) is Parameter:
                yield prefix + name, value._data
            elif name in self.buffers:
                yield prefix + name, value
        for name, child in self._children():
            yield from child._arrays(f"{prefix}{name}.")

    def step(self, step_size: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        """One update by stochastic gradient descent: an :class:`fastnn.optim.SGD` that this layer keeps, velocity included."""
        if self._optimizer is None:
            self._optimizer = optim.SGD(self.parameters(), step_size, momentum, weight_decay)
        group = self._optimizer.groups[0]
        group.lr, group.momentum, group.weight_decay = step_size, momentum, weight_decay
        self._optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Copies of all parameters and buffers, by name."""
        return {name: array.copy() for name, array in self._arrays()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the values of `state`, NumPy arrays or arrays of the layer's device, rounded to the layer's dtype.

        Raises
        ------
        ValueError
            Names are missing or unknown, or shapes differ; the message lists them all, and nothing has been changed.
        """
        own = dict(self._arrays())
        serialize.check(own, {name: (array.shape, array.dtype) for name, array in state.items()}, "the state")
        for name, array in own.items():
            array[...] = _backend.backend_of(array).xp.asarray(state[name])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all parameters and buffers, by name, to an ``.npz`` or ``.safetensors`` file.

        The file is written under another name and renamed: a save that is cut off leaves what was there before.
        """
        host = {name: _backend.get_backend().to_numpy(array) for name, array in self._arrays()}
        serialize.save(path, host)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Read what :meth:`save` wrote, from ``.npz`` or ``.safetensors``. Nothing in the file is executed.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            It is damaged or no weights file, or its names or shapes are not this layer's. Nothing has been changed.
        """
        self.load_state_dict(serialize.load(path, dict(self._arrays())))

    def _need_saved(self) -> Any:
        saved = self._saved
        if saved is None:
            raise RuntimeError(
                f"{self!r}.backward() needs a forward(x, training=True) before it: there was none, or the last forward was one for "
                "inference (training=False), which keeps nothing for a backward"
            )
        return saved

    def _here(self, x: Any, weight: Any) -> Any:
        """`x` on the device of the layer's parameters, where the backend in force is that device's, else the error that says so.

        Reached only where the types of `x` and `weight` differ.
        """
        on_device = _backend.is_device_array(weight)
        if on_device == _backend.is_device_array(x):
            return x
        if on_device and _backend.get_backend().name == "cupy" and isinstance(x, np.ndarray):
            return _backend.get_backend().asarray(x)
        raise _misplaced(self, weight)

    def __getstate__(self) -> dict[str, Any]:
        """Without what the last forward kept: a copied or pickled layer starts between two steps."""
        return {name: value for name, value in vars(self).items() if name != "_saved"}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _misplaced(layer: Layer, weight: Any) -> RuntimeError:
    place, needed = ("a GPU", '"cupy"') if _backend.is_device_array(weight) else ("the host", '"numpy" or "numba"')
    return RuntimeError(
        f"the parameters of {layer!r} are on {place}, but the backend in force is {_backend.get_backend().name!r} or the input is "
        f"elsewhere: use the model under {needed}, or make it anew under the other backend and load_state_dict() into it"
    )


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


def pair(value: int | tuple[int, int], name: str, least: int) -> tuple[int, int]:
    """An int or a pair of them as a pair, each at least `least`."""
    both = (value, value) if isinstance(value, (int, np.integer)) else tuple(value)
    if len(both) != 2 or not all(isinstance(v, (int, np.integer)) and v >= least for v in both):
        raise ValueError(f"{name} must be an int >= {least}, or a pair of them, got {value!r}")
    return int(both[0]), int(both[1])
