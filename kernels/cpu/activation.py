"""Activations and their gradients. The elementwise ones are one-line functions; the loop around them is
written once.

Arrays are walked in memory order whatever their axes: an elementwise result does not depend on where an
element belongs, so channels-last memory costs nothing. Softmax works on rows, so its axis is brought to the
end first.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ._jit import inline, jit
from ._math import exp, like
from ._math import sigmoid as sigmoid_of
from ._math import tanh as tanh_of
from ._memory import empty_like, flat, plain
from .threads import parallel_for, pool

_CHUNK = 16384  # elements in a task: a few µs of work
_ROOT_HALF, _ROOT_2_OVER_PI, _ROOT_2PI, _CUBIC = (
    math.sqrt(0.5),
    math.sqrt(2 / math.pi),
    math.sqrt(2 * math.pi),
    0.044715,
)


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
    return x * like(x, 0.5) * (like(x, 1) + math.erf(x * like(x, _ROOT_HALF)))


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


@inline
def _gelu_slope(g, x, s):
    half = like(g, 0.5)
    density = exp(-half * x * x) * like(g, 1 / _ROOT_2PI)
    return g * (half * (like(g, 1) + math.erf(x * like(g, _ROOT_HALF))) + x * density)


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
        begin, end = t * _CHUNK, (t + 1) * _CHUNK
        part, result = x[begin:end], out[begin:end]
        for i in range(result.size):
            result[i] = function(part[i], s)

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
        begin, end = t * _CHUNK, (t + 1) * _CHUNK
        slope, kept, result = grad[begin:end], saved[begin:end], out[begin:end]
        for i in range(result.size):
            result[i] = function(slope[i], kept[i], s)

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
        aligned = empty_like(saved)
        aligned[...] = grad
        grad = aligned
    out = empty_like(saved)
    _map_backward(name)(pool(), flat(grad), flat(saved), flat(out), saved.dtype.type(s))
    return out


# How the kernels that end in an activation are told which; the register tile itself does the ReLU
CODES = {None: 0, "relu": 1, "sigmoid": 2, "tanh": 3, "leaky_relu": 4, "gelu": 5}


@inline
def finish(values, code):
    """Apply activation `code`, unless it is the ReLU, in place to results that are still in the cache.

    One array, since with an input and an output the compiler would have to fear that they overlap, which
    here they do.
    """
    if code == 2:
        for i in range(values.size):
            values[i] = sigmoid_of(values[i])
    elif code == 3:
        for i in range(values.size):
            values[i] = tanh_of(values[i])
    elif code == 4:
        for i in range(values.size):
            values[i] = _leaky_relu(values[i], like(values[i], 0.01))
    elif code == 5:
        for i in range(values.size):
            values[i] = _gelu(values[i], values[i])


@inline
def apply(values, code):
    """:func:`finish` where no register tile has done the ReLU."""
    if code == 1:
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


@inline
def softmax_of_rows(x, out, peaks, totals):
    """Write ``exp(x - max)`` of each row to `out`, the row's maximum to `peaks` and its sum to `totals`.

    The exponentials are taken over all rows at once: ten classes are fewer than a vector has lanes.
    """
    for i in range(x.shape[0]):
        peak = x[i, 0]
        for j in range(x.shape[1]):
            if x[i, j] > peak or x[i, j] != x[i, j]:  # a NaN wins, and then stays: nothing is greater
                peak = x[i, j]
        peaks[i] = peak
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] - peak
    powers = out.reshape(out.size)
    for i in range(powers.size):
        powers[i] = exp(powers[i])
    for i in range(x.shape[0]):
        total = like(x[i, 0], 0)
        for j in range(x.shape[1]):
            total += out[i, j]
        totals[i] = total


@inline
def _softmax_rows(t, rows, x, out):
    x, out = x[t * rows : (t + 1) * rows], out[t * rows : (t + 1) * rows]
    peaks, totals = np.empty(x.shape[0], x.dtype), np.empty(x.shape[0], x.dtype)
    softmax_of_rows(x, out, peaks, totals)
    for i in range(x.shape[0]):
        scale = like(totals[i], 1) / totals[i]
        for j in range(x.shape[1]):
            out[i, j] *= scale


@inline
def _log_softmax_rows(t, rows, x, out):
    x, out = x[t * rows : (t + 1) * rows], out[t * rows : (t + 1) * rows]
    peaks, totals = np.empty(x.shape[0], x.dtype), np.empty(x.shape[0], x.dtype)
    softmax_of_rows(x, out, peaks, totals)
    for i in range(x.shape[0]):
        log_total = np.log(totals[i])
        for j in range(x.shape[1]):
            out[i, j] = (x[i, j] - peaks[i]) - log_total


@inline
def _softmax_backward_rows(t, rows, grad, y, out):
    for i in range(t * rows, min((t + 1) * rows, y.shape[0])):
        dot = y.dtype.type(0)
        for j in range(y.shape[1]):
            dot += grad[i, j] * y[i, j]
        for j in range(y.shape[1]):
            out[i, j] = y[i, j] * (grad[i, j] - dot)


@inline
def _log_softmax_backward_rows(t, rows, grad, y, out):
    for i in range(t * rows, min((t + 1) * rows, y.shape[0])):
        total = y.dtype.type(0)
        for j in range(y.shape[1]):
            total += grad[i, j]
        for j in range(y.shape[1]):
            out[i, j] = grad[i, j] - exp(y[i, j]) * total


@inline
def rows_per_chunk(columns):
    """How many rows make one task."""
    return max(1, _CHUNK // max(4 * columns, 1))


@jit
def _softmax(pool, x, out, log):
    rows = rows_per_chunk(x.shape[1])
    count = (x.shape[0] + rows - 1) // rows
    if log:
        parallel_for(pool, count, _log_softmax_rows, (rows, x, out))
    else:
        parallel_for(pool, count, _softmax_rows, (rows, x, out))


@jit
def _softmax_backward(pool, grad, y, out, log):
    rows = rows_per_chunk(y.shape[1])
    count = (y.shape[0] + rows - 1) // rows
    if log:
        parallel_for(pool, count, _log_softmax_backward_rows, (rows, grad, y, out))
    else:
        parallel_for(pool, count, _softmax_backward_rows, (rows, grad, y, out))


def _rows(x, axis):
    """`x` as a C-contiguous matrix whose rows run along `axis`."""
    moved = np.moveaxis(x, axis, -1)
    return (
        plain(moved).reshape(-1, x.shape[axis]) if x.size else np.empty((0, max(x.shape[axis], 1)), x.dtype)
    )


def _along_rows(kernel, arrays, axis, log):
    out = empty_like(arrays[0])
    moved = np.moveaxis(out, axis, -1)
    memory = moved if moved.flags.carray else np.empty(moved.shape, out.dtype)
    if out.size:
        kernel(pool(), *(_rows(a, axis) for a in arrays), memory.reshape(-1, out.shape[axis]), log)
    if memory is not moved:
        moved[...] = memory
    return out


def softmax(x, axis):
    return _along_rows(_softmax, [x], axis, False)


def log_softmax(x, axis):
    return _along_rows(_softmax, [x], axis, True)


def softmax_backward(grad, out, axis):
    return _along_rows(_softmax_backward, [grad, out], axis, False)


def log_softmax_backward(grad, out, axis):
    return _along_rows(_softmax_backward, [grad, out], axis, True)
