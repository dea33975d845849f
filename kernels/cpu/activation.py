"""Activations and their gradients. The elementwise ones are one-line functions; the loop around them is
written once. (Softmax, which is not elementwise, is in ``_softmax.py``.)

Arrays are walked in memory order whatever their axes: an elementwise result does not depend on where an
element belongs, so channels-last memory costs nothing.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numba import types

from ._each import each
from ._jit import EXACT, call_code, inline, jit, native, wide_vectors
from ._math import like
from ._math import sigmoid as sigmoid_of
from ._math import tanh as tanh_of
from ._memory import arranged, empty_like, flat, floats_at
from ._normal import bell, normal_cdf, normal_density
from ._softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from .threads import parallel_for, pool

__all__ = [
    "gelu",
    "gelu_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "log_softmax",
    "log_softmax_backward",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "tanh",
    "tanh_backward",
]

_CHUNK = 8192  # elements in a task: one to three µs of work
_ROOT_2_OVER_PI, _CUBIC = math.sqrt(2 / math.pi), 0.044715


# y = f(x, s), s a parameter of some
@inline
def _relu(x, s):
    return like(x, 0) if x < 0 else x  # a NaN is not less than zero: it stays


@inline
def _leaky_relu(x, s):
    return x if x > 0 else x * s


@inline
def _sigmoid(x, s):
    return sigmoid_of(x)


@inline
def _tanh(x, s):
    return tanh_of(x)


@inline
def _gelu(x, s):
    return x * normal_cdf(x, bell(x))


@inline
def _gelu_tanh(x, s):
    inner = like(x, _ROOT_2_OVER_PI) * (x + like(x, _CUBIC) * x * x * x)
    return x * like(x, 0.5) * (like(x, 1) + tanh_of(inner))


# dx = g(dy, saved, s), saved the output, or for the leaky ReLU and the GELUs the input
@inline
def _relu_slope(g, y, s):
    return like(g, 0) if y <= 0 else g  # a NaN in y lets the gradient through


@inline
def _leaky_relu_slope(g, x, s):
    return g if x > 0 else g * s


@inline
def _sigmoid_slope(g, y, s):
    return g * y * (like(g, 1) - y)


@inline
def _tanh_slope(g, y, s):
    return g * (like(g, 1) - y * y)


@inline(fastmath=EXACT)  # in this order: an infinity times the density, which is zero, is NaN
def _gelu_slope(g, x, s):
    height = bell(x)
    return g * (normal_cdf(x, height) + x * normal_density(x, height))


@inline
def _gelu_tanh_slope(g, x, s):
    half, one = like(g, 0.5), like(g, 1)
    t = tanh_of(like(g, _ROOT_2_OVER_PI) * (x + like(g, _CUBIC) * x * x * x))
    inner = like(g, _ROOT_2_OVER_PI) * (one + like(g, 3 * _CUBIC) * x * x)
    return g * (half * (one + t) + half * x * (one - t * t) * inner)


@functools.cache
def _map(name):
    """The kernel ``out[i] = f(x[i], s)`` for the function called `name` above."""
    function = globals()[name]

    @inline
    def chunk(t, x, out, s):
        wide_vectors()
        begin, end = t * _CHUNK, (t + 1) * _CHUNK
        each(function, out[begin:end], (x[begin:end], s))

    @functools.partial(jit, variant=name)
    def kernel(pool, x, out, s):
        parallel_for(pool, (out.size + _CHUNK - 1) // _CHUNK, chunk, (x, out, s))

    return kernel


@functools.cache
def _map_backward(name):
    """The kernel ``out[i] = g(grad[i], saved[i], s)``."""
    function = globals()[name]

    @inline
    def chunk(t, grad, saved, out, s):
        wide_vectors()
        begin, end = t * _CHUNK, (t + 1) * _CHUNK
        each(function, out[begin:end], (grad[begin:end], saved[begin:end], s))

    @functools.partial(jit, variant=name)
    def kernel(pool, grad, saved, out, s):
        parallel_for(pool, (out.size + _CHUNK - 1) // _CHUNK, chunk, (grad, saved, out, s))

    return kernel


def _forward(name, x, s=0.0):
    out = empty_like(x)  # in the memory order of x
    _map(name)(pool(), flat(x), flat(out), x.dtype.type(s))
    return out


def _backward(name, grad, saved, s=0.0):
    if grad.strides != saved.strides:
        grad = arranged(grad, saved)
    out = empty_like(saved)
    _map_backward(name)(pool(), flat(grad), flat(saved), flat(out), saved.dtype.type(s))
    return out


# How the kernels that end in an activation are told which: by a code, 0 for none, 1 for the ReLU, which the
# register tile itself does, and else the address of a compiled function. (Compiled into each of these
# kernels, all activations would cost every one of them a second.)
RELU = 1
_PARAMETER = {"leaky_relu": 0.01}


@functools.cache
def code_of(name, itemsize):
    """The code of an activation, for floats of `itemsize` bytes."""
    if name is None or name == "relu":
        return 0 if name is None else RELU
    function, real = globals()[f"_{name}"], np.float32 if itemsize == 4 else np.float64
    zero, parameter = real(0), real(_PARAMETER.get(name, 0))

    def in_place(address, count):
        wide_vectors()
        values = floats_at(address, count, zero)
        each(function, values, (values, parameter))

    return native(types.void(types.int64, types.int64), in_place, variant=f"{name}, {itemsize} bytes")


@functools.cache
def slope_code_of(name, itemsize):
    """The address of code (gradient, saved output, result, count) for the gradient of an activation."""
    function, zero = globals()[f"_{name}_slope"], (np.float32 if itemsize == 4 else np.float64)(0)

    def part(grad, saved, out, count):
        wide_vectors()
        grads, outputs = floats_at(grad, count, zero), floats_at(saved, count, zero)
        each(function, floats_at(out, count, zero), (grads, outputs, zero))

    return native(types.void(*[types.int64] * 4), part, variant=f"slope of {name}, {itemsize} bytes")


@inline
def finish(values, code):
    """Apply the activation of that code, unless it is the ReLU, in place to results still in the cache."""
    if code > RELU:
        call_code(code, (values.ctypes.data, values.size))


@inline
def apply(values, code):
    """:func:`finish` where no register tile has done the ReLU."""
    if code == RELU:
        for i in range(values.size):
            values[i] = _relu(values[i], values[i])
    finish(values, code)


def relu(x):
    return _forward("_relu", x)


def leaky_relu(x, negative_slope):
    return _forward("_leaky_relu", x, negative_slope)


def sigmoid(x):
    return _forward("_sigmoid", x)


def tanh(x):
    return _forward("_tanh", x)


def gelu(x, approximate):
    return _forward("_gelu_tanh" if approximate == "tanh" else "_gelu", x)


def relu_backward(grad, out):
    return _backward("_relu_slope", grad, out)


def leaky_relu_backward(grad, x, negative_slope):
    return _backward("_leaky_relu_slope", grad, x, negative_slope)


def sigmoid_backward(grad, out):
    return _backward("_sigmoid_slope", grad, out)


def tanh_backward(grad, out):
    return _backward("_tanh_slope", grad, out)


def gelu_backward(grad, x, approximate):
    return _backward("_gelu_tanh_slope" if approximate == "tanh" else "_gelu_slope", grad, x)


#: The gradients of activations whose derivative follows from the output alone, by name.
SLOPES = {"relu": relu_backward, "sigmoid": sigmoid_backward, "tanh": tanh_backward}
