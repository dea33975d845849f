"""The checks that every function makes: arrays of one dtype on one device, ints or pairs, buffers to fill.

A small network's training step passes here ten times, so each check tests the common case first and words
nothing until something is wrong.
"""

from __future__ import annotations

import operator
from typing import Any, NoReturn

import numpy as np

from fastnn.backend import Backend, backend_of, get_backend, is_device_array

Array = Any  #: numpy.ndarray or cupy.ndarray
Pair = tuple[int, int]

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
ACTIVATIONS = (None, "relu", "leaky_relu", "sigmoid", "tanh", "gelu")


def place(names: tuple[str, ...], *arrays: Array) -> tuple[Backend, tuple[Array, ...]]:
    """The backend for `arrays`, and them on its device; TypeError unless all are float32 or all float64."""
    dtype = getattr(arrays[0], "dtype", None)
    if dtype is _FLOAT32 or dtype is _FLOAT64:
        for array in arrays:
            if type(array) is not np.ndarray or array.dtype is not dtype:
                break
        else:
            backend = get_backend()
            if backend.room == "cuda":
                return backend, tuple([backend.asarray(array) for array in arrays])
            return backend, arrays
    return _place_slowly(names, arrays)


def place_affine(x: Array, weight: Array, bias: Array | None) -> tuple[Backend, Array, Array, Array | None]:
    """:func:`place` for the operands of a map that may have no bias."""
    if bias is None:
        backend, (x, weight) = place(("x", "weight"), x, weight)
    else:
        backend, (x, weight, bias) = place(("x", "weight", "bias"), x, weight, bias)
    return backend, x, weight, bias


def _place_slowly(names: tuple[str, ...], arrays: tuple[Array, ...]) -> tuple[Backend, tuple[Array, ...]]:
    arrays = tuple([as_array(name, array) for name, array in zip(names, arrays, strict=True)])
    first = arrays[0].dtype
    for name, array in zip(names, arrays, strict=True):
        if array.dtype != _FLOAT32 and array.dtype != _FLOAT64:
            target = "np.float64" if first == _FLOAT64 else "np.float32"
            raise TypeError(
                f"{name} has dtype {array.dtype}, not float32 or float64: cast it, {name}.astype({target})"
            )
        if array.dtype != first:
            raise TypeError(
                f"{names[0]} has dtype {first} but {name} has {array.dtype}: cast one of them, "
                f"for example {name}.astype(np.{first})"
            )
    backend = common_backend(*arrays)
    return backend, tuple([backend.asarray(array) for array in arrays])


def as_array(name: str, value: Any) -> Array:
    """`value` as a plain array (a view, if it is of a subclass such as memmap); TypeError if it is none."""
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if is_device_array(value):
        return value
    raise TypeError(
        f"{name} must be a NumPy or CuPy array, not {type(value).__name__}: "
        f"convert it, np.asarray({name}, np.float32)"
    )


def common_backend(*arrays: Array) -> Backend:
    """The backend of the first array that lives on a GPU, else the one in force."""
    return backend_of(next((array for array in arrays if is_device_array(array)), arrays[0]))


def pair(name: str, value: Any, least: int) -> Pair:
    """`value`, an int or a pair of ints, as a pair of ints that are at least `least`."""
    try:
        if isinstance(value, tuple | list):
            first, second = value
            result = operator.index(first), operator.index(second)
        else:
            result = (operator.index(value),) * 2
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be an int or a pair of ints, not {value!r}") from None
    if min(result) < least:
        raise ValueError(f"{name} must be at least {least}, not {value!r}")
    return result


def same_shape(first_name: str, first: Array, second_name: str, second: Array) -> None:
    """ValueError unless two arrays have one shape."""
    if first.shape != second.shape:
        raise ValueError(
            f"{first_name} has shape {first.shape} but {second_name} has {second.shape}: "
            "they must be the same"
        )


def known_activation(activation: str | None) -> None:
    """ValueError unless `activation` can be fused into linear and conv2d."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(map(repr, ACTIVATIONS))}, not {activation!r}")


def fits_out(
    out: tuple[Array, Array | None], weight: Array, bias_length: int, backend: Backend
) -> tuple[Array, Array]:
    """`out` as arrays (grad_weight, grad_bias) that a backward can fill, None replaced by one."""
    grad_weight, grad_bias = out
    if grad_bias is None:
        grad_bias = backend.xp.empty(bias_length, weight.dtype)
    for name, array, shape in (("[0]", grad_weight, weight.shape), ("[1]", grad_bias, (bias_length,))):
        if array.shape != shape or array.dtype != weight.dtype:
            raise ValueError(
                f"out{name} is {array.dtype} of shape {array.shape}, "
                f"but that gradient is {weight.dtype} of shape {shape}"
            )
        if backend.room == "cuda":
            stays(f"out{name}", array)
    return grad_weight, grad_bias


def stays(name: str, array: Array) -> None:
    """TypeError unless `array`, which is written to, is on the GPU: a moved copy would get the result."""
    if not is_device_array(array):
        raise TypeError(
            f"{name} is written to on the GPU, so it must be a CuPy array: {name} = cupy.asarray({name})"
        )


def bad_shapes(function: str, want: str, **arrays: Array) -> NoReturn:
    """ValueError that names the shape of every array."""
    shapes = ", ".join(f"{name} {tuple(array.shape)}" for name, array in arrays.items())
    raise ValueError(f"{function} got {shapes}, but wants {want}")
