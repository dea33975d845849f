"""What every layer is: parameters, a forward, a backward, and the room's rules.

* ``forward(x, training=True)`` keeps what ``backward`` needs in ``_saved``; with ``training=False`` it keeps
  nothing, so a model at inference may be called from many threads, and a backward after it raises.
* ``backward(grad)`` *overwrites* the parameters' gradients (it does not add to them) and returns the gradient
  of the input.
* Layers own arrays on one device, that of the backend in force where they were made. They never move them in
  silence.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn import backend as _backend
from fastnn import optim
from fastnn.functional._check import place
from fastnn.layers import serialize
from fastnn.layers.parameter import Parameter


class Layer:
    """The base of all layers.

    A layer of your own defines ``forward`` and ``backward``; what it has as attributes of type
    :class:`Parameter` it trains, what it names in ``buffers`` it saves along with them.
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
            if isinstance(value, Parameter):
                yield prefix + name, value
        for name, child in self._children():
            yield from child.named_parameters(f"{prefix}{name}.")

    def parameters(self) -> list[Parameter]:
        """Every parameter, in the order of the layers."""
        return [parameter for _, parameter in self.named_parameters()]

    def _arrays(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Every array that makes up the layer's state, with its key."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield prefix + name, value._data
            elif name in self.buffers:
                yield prefix + name, value
        for name, child in self._children():
            yield from child._arrays(f"{prefix}{name}.")

    def step(self, step_size: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        """One update by stochastic gradient descent: an :class:`fastnn.optim.SGD` that this layer keeps,
        velocity included.
        """
        optimizer = self._optimizer
        if optimizer is None:
            parameters = self.parameters()
            if not parameters:
                return
            optimizer = self._optimizer = optim.SGD(parameters, step_size)
        group = optimizer.groups[0]
        optimizer.lr, group.momentum, group.weight_decay = step_size, momentum, weight_decay
        optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Copies of all parameters and buffers, by name."""
        return {name: array.copy() for name, array in self._arrays()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the values of `state`, NumPy arrays or arrays of the layer's device, rounded to the
        layer's dtype.

        Raises
        ------
        ValueError
            Names are missing or unknown, or shapes differ; the message lists them all, and nothing has been
            changed.
        """
        own = dict(self._arrays())
        serialize.check(own, {name: (array.shape, array.dtype) for name, array in state.items()}, "the state")
        for name, array in own.items():
            on_gpu, backend = _backend.is_device_array(array), _backend.backend_of(array)
            array[...] = backend.asarray(state[name]) if on_gpu else backend.to_numpy(state[name])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all parameters and buffers, by name, to an ``.npz`` or ``.safetensors`` file.

        The file is written under another name and renamed: a save that is cut off leaves what was there
        before.
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
            It is damaged or no weights file, or its names or shapes are not this layer's. Nothing has been
            changed.
        """
        self.load_state_dict(serialize.load(path, dict(self._arrays())))

    def _no_forward(self) -> RuntimeError:
        return RuntimeError(
            f"{self!r}.backward() needs a forward(x, training=True) before it: there was none, or the last "
            "forward was one for inference (training=False), which keeps nothing for a backward"
        )

    def _here(self, x: Any, weight: Any) -> Any:
        """`x` beside the layer's parameters where the backend in force is theirs; else the error that says
        so.

        For calls where the types of `x` and `weight` differ: what is no array at all goes on to the function
        that will refuse it.
        """
        on_device = _backend.is_device_array(weight)
        if on_device == _backend.is_device_array(x) or (not isinstance(x, np.ndarray) and on_device):
            return x
        if on_device and _backend.get_backend().name == "cupy":
            return _backend.get_backend().asarray(x)
        raise misplaced(self, weight)

    def __getstate__(self) -> dict[str, Any]:
        """Without what the last forward kept: a copied or pickled layer starts between two steps."""
        return {name: value for name, value in vars(self).items() if name != "_saved"}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class PassThrough(Layer):
    """A layer that may hand on its very input: :class:`~fastnn.layers.Sequential` takes that, everyone else
    gets a copy.
    """

    def pass_on(self, x: Any, training: bool) -> Any:
        """The forward; the result may share memory with `x`."""
        raise NotImplementedError

    def pass_back(self, grad: Any) -> Any:
        """The backward; the result may share memory with `grad`."""
        raise NotImplementedError

    def forward(self, x: Any, training: bool = False) -> Any:
        return _apart(self.pass_on(x, training), x)

    def backward(self, grad: Any, input_grad: bool = True) -> Any:
        return _apart(self.pass_back(grad), grad) if input_grad else None


def _apart(out: Any, x: Any) -> Any:
    """`out`, or a copy of it where it may share memory with `x`."""
    _, (out,) = place(("x",), out)
    shares = type(out) is type(x) and _backend.backend_of(out).xp.may_share_memory(out, x)
    return out.copy(order="K") if shares else out


def misplaced(layer: Layer, weight: Any) -> RuntimeError:
    """The error of a layer whose parameters (`weight` is one) are on another device than its input."""
    on_gpu = _backend.is_device_array(weight)
    where, needed = ("a GPU", '"cupy"') if on_gpu else ("the host", '"numpy" or "numba"')
    return RuntimeError(
        f"the parameters of {layer!r} are on {where}, but the backend in force is "
        f"{_backend.get_backend().name!r} or the input is elsewhere: use it under {needed}, or make it "
        "anew under the other backend and load_state_dict() into it"
    )


def shown(options: dict[str, Any], usual: dict[str, Any]) -> str:
    """Those of `options` that are not as `usual`, for a layer's repr."""
    return "".join(
        f", {name}={short(value)!r}" for name, value in options.items() if value != usual.get(name)
    )


def short(value: Any) -> Any:
    """A pair of equal numbers as that number."""
    return value[0] if isinstance(value, tuple) and value[0] == value[1] else value
