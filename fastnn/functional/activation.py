"""Activations and their backwards.

A backward takes the gradient with respect to the output, and the array its forward saved: the output, but for
gelu and leaky_relu the input. Results lie in memory as `x`, or as the saved array.
"""

from __future__ import annotations

import operator

from fastnn.backend import Backend
from fastnn.functional._check import Array, place, same_shape


def _one(x: Array) -> tuple[Backend, Array]:
    backend, (x,) = place(("x",), x)
    return backend, x


def _two(grad: Array, name: str, saved: Array) -> tuple[Backend, Array, Array]:
    backend, (grad, saved) = place(("grad", name), grad, saved)
    if grad.shape != saved.shape:
        same_shape("grad", grad, name, saved)
    return backend, grad, saved


def _axis(axis: int, x: Array) -> int:
    """`axis` counted from the front."""
    axis = operator.index(axis)
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis {axis} does not exist in shape {x.shape}")
    return axis % x.ndim


def _approximation(approximate: str) -> None:
    if approximate not in ("none", "tanh"):
        raise ValueError(f'approximate must be "none" or "tanh", not {approximate!r}')


def relu(x: Array) -> Array:
    """Rectifier ``max(x, 0)``; NaN stays NaN.

    Parameters
    ----------
    x : array of any shape

    Returns
    -------
    array, as x

    Raises
    ------
    TypeError
        `x` is not a float32 or float64 array. So it is for every function here.

    References
    ----------
    Nair & Hinton (2010), "Rectified linear units improve restricted Boltzmann machines".
    """
    backend, x = _one(x)
    return backend.activation.relu(x)


def relu_backward(grad: Array, out: Array) -> Array:
    """Gradient of :func:`relu`: 0 where the output is 0, else `grad`.

    Parameters
    ----------
    grad : array
    out : array of the same shape
        What the forward returned.

    Returns
    -------
    array, as out

    Raises
    ------
    TypeError
        The arrays are not both float32 or both float64.
    ValueError
        Their shapes differ. So it is for every backward here.
    """
    backend, grad, out = _two(grad, "out", out)
    return backend.activation.relu_backward(grad, out)


def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """Leaky rectifier: ``x`` where ``x > 0``, else ``negative_slope · x``.

    Parameters
    ----------
    x : array of any shape
    negative_slope : float

    Returns
    -------
    array, as x

    References
    ----------
    Maas, Hannun & Ng (2013), "Rectifier nonlinearities improve neural network acoustic models".
    """
    backend, x = _one(x)
    return backend.activation.leaky_relu(x, float(negative_slope))


def leaky_relu_backward(grad: Array, x: Array, negative_slope: float = 0.01) -> Array:
    """Gradient of :func:`leaky_relu`: ``grad`` where ``x > 0``, else ``negative_slope · grad``.

    Parameters
    ----------
    grad : array
    x : array of the same shape
        What the forward was given.
    negative_slope : float

    Returns
    -------
    array, as x
    """
    backend, grad, x = _two(grad, "x", x)
    return backend.activation.leaky_relu_backward(grad, x, float(negative_slope))


def sigmoid(x: Array) -> Array:
    """Logistic function ``1 / (1 + exp(−x))``, stable for any x.

    Parameters
    ----------
    x : array of any shape

    Returns
    -------
    array, as x
    """
    backend, x = _one(x)
    return backend.activation.sigmoid(x)


def sigmoid_backward(grad: Array, out: Array) -> Array:
    """Gradient of :func:`sigmoid`: ``grad · out · (1 − out)``.

    Parameters
    ----------
    grad : array
    out : array of the same shape
        What the forward returned.

    Returns
    -------
    array, as out
    """
    backend, grad, out = _two(grad, "out", out)
    return backend.activation.sigmoid_backward(grad, out)


def tanh(x: Array) -> Array:
    """Hyperbolic tangent.

    Parameters
    ----------
    x : array of any shape

    Returns
    -------
    array, as x
    """
    backend, x = _one(x)
    return backend.activation.tanh(x)


def tanh_backward(grad: Array, out: Array) -> Array:
    """Gradient of :func:`tanh`: ``grad · (1 − out²)``.

    Parameters
    ----------
    grad : array
    out : array of the same shape
        What the forward returned.

    Returns
    -------
    array, as out
    """
    backend, grad, out = _two(grad, "out", out)
    return backend.activation.tanh_backward(grad, out)


def gelu(x: Array, approximate: str = "none") -> Array:
    """Gaussian error linear unit ``x · Φ(x)``, Φ the standard normal distribution function.

    Parameters
    ----------
    x : array of any shape
    approximate : {"none", "tanh"}
        "tanh" takes ``x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`` in its place.

    Returns
    -------
    array, as x

    References
    ----------
    Hendrycks & Gimpel (2016), "Gaussian error linear units (GELUs)".
    """
    _approximation(approximate)
    backend, x = _one(x)
    return backend.activation.gelu(x, approximate)


def gelu_backward(grad: Array, x: Array, approximate: str = "none") -> Array:
    """Gradient of :func:`gelu`: ``grad · (Φ(x) + x φ(x))``, φ the normal density, or that of the tanh form.

    Parameters
    ----------
    grad : array
    x : array of the same shape
        What the forward was given.
    approximate : {"none", "tanh"}

    Returns
    -------
    array, as x
    """
    _approximation(approximate)
    backend, grad, x = _two(grad, "x", x)
    return backend.activation.gelu_backward(grad, x, approximate)


def softmax(x: Array, axis: int = -1) -> Array:
    """``exp(x) / Σ exp(x)`` along an axis, stable for any finite x.

    Parameters
    ----------
    x : array of at least one axis
    axis : int

    Returns
    -------
    array, as x

    Raises
    ------
    ValueError
        `x` has no such axis.
    """
    backend, x = _one(x)
    return backend.activation.softmax(x, _axis(axis, x))


def softmax_backward(grad: Array, out: Array, axis: int = -1) -> Array:
    """Gradient of :func:`softmax`: ``out · (grad − Σ grad · out)``, the sum along `axis`.

    Parameters
    ----------
    grad : array
    out : array of the same shape
        What the forward returned.
    axis : int

    Returns
    -------
    array, as out
    """
    backend, grad, out = _two(grad, "out", out)
    return backend.activation.softmax_backward(grad, out, _axis(axis, out))


def log_softmax(x: Array, axis: int = -1) -> Array:
    """``x − log Σ exp(x)`` along an axis: the logarithm of softmax, exact even where that underflows to 0.

    Parameters
    ----------
    x : array of at least one axis
    axis : int

    Returns
    -------
    array, as x

    Raises
    ------
    ValueError
        `x` has no such axis.
    """
    backend, x = _one(x)
    return backend.activation.log_softmax(x, _axis(axis, x))


def log_softmax_backward(grad: Array, out: Array, axis: int = -1) -> Array:
    """Gradient of :func:`log_softmax`: ``grad − exp(out) · Σ grad``, the sum along `axis`.

    Parameters
    ----------
    grad : array
    out : array of the same shape
        What the forward returned.
    axis : int

    Returns
    -------
    array, as out
    """
    backend, grad, out = _two(grad, "out", out)
    return backend.activation.log_softmax_backward(grad, out, _axis(axis, out))
