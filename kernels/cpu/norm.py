"""Batch normalisation over a (rows, channels) matrix: samples, or all pixels of channels-last images.

Sums over rows are taken in parts fixed by the shape, each by one task in float64, and added in order.
"""

from __future__ import annotations

import numpy as np

from ._jit import inline, jit
from ._memory import empty, nhwc, plain
from .threads import parallel_for, pool

_PARTS = 16


@inline
def _sum_rows(t, a, b, shift, sums):
    """``sums[t, 0] = sum (a - shift)`` and ``sums[t, 1] = sum (a - shift) b`` over part t of the rows."""
    rows, channels = a.shape
    parts = sums.shape[0]
    for c in range(channels):
        sums[t, 0, c] = 0
        sums[t, 1, c] = 0
    for i in range(t * rows // parts, (t + 1) * rows // parts):
        for c in range(channels):
            value = np.float64(a[i, c]) - shift[c]
            sums[t, 0, c] += value
            sums[t, 1, c] += value * np.float64(b[i, c])


@inline
def _squares(t, a, shift, sums):
    rows, channels = a.shape
    parts = sums.shape[0]
    for c in range(channels):
        sums[t, 0, c] = 0
    for i in range(t * rows // parts, (t + 1) * rows // parts):
        for c in range(channels):
            value = np.float64(a[i, c]) - shift[c]
            sums[t, 0, c] += value * value


@inline
def _total(sums, which, out):
    for c in range(out.size):
        out[c] = 0
        for t in range(sums.shape[0]):
            out[c] += sums[t, which, c]


@jit
def _statistics(pool, x, sums, mean, variance):
    """Mean and mean squared deviation of each column: two passes, since a difference of squares would
    cancel."""
    rows = x.shape[0]
    mean[:] = 0
    parallel_for(pool, sums.shape[0], _sum_rows, (x, x, mean, sums))
    _total(sums, 0, mean)
    mean /= rows
    parallel_for(pool, sums.shape[0], _squares, (x, mean, sums))
    _total(sums, 0, variance)
    variance /= rows


# The mean is taken off each number first: off its multiple, one infinity might be taken off another.
@inline
def _affine_rows(t, parts, x, out, mean, scale, bias):
    rows = x.shape[0]
    for i in range(t * rows // parts, (t + 1) * rows // parts):
        for c in range(x.shape[1]):
            out[i, c] = (x[i, c] - mean[c]) * scale[c] + bias[c]


@jit
def _affine(pool, parts, x, out, mean, scale, bias):
    parallel_for(pool, parts, _affine_rows, (parts, x, out, mean, scale, bias))


@inline
def _gradient_rows(t, parts, grad, x, out, mean, scale, slope, shift):
    rows = x.shape[0]
    for i in range(t * rows // parts, (t + 1) * rows // parts):
        for c in range(x.shape[1]):
            out[i, c] = ((grad[i, c] - shift[c]) - (x[i, c] - mean[c]) * slope[c]) * scale[c]


@jit
def _gradient(pool, parts, grad, x, out, mean, scale, slope, shift):
    parallel_for(pool, parts, _gradient_rows, (parts, grad, x, out, mean, scale, slope, shift))


@jit
def _sums(pool, a, b, shift, sums, first, second):
    parallel_for(pool, sums.shape[0], _sum_rows, (a, b, shift, sums))
    _total(sums, 0, first)
    _total(sums, 1, second)


def _matrix(x):
    """`x` as a (rows, channels) matrix, and the function that gives such a matrix the shape and memory
    format of the result."""
    if x.ndim == 2:
        return plain(x), lambda matrix: matrix
    memory = nhwc(x)
    return memory.reshape(-1, memory.shape[3]), lambda matrix: matrix.reshape(memory.shape).transpose(
        0, 3, 1, 2
    )


def batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps):
    matrix, restore = _matrix(x)
    rows, channels = matrix.shape
    if training and rows:
        mean, variance = np.empty(channels), np.empty(channels)
        _statistics(pool(), matrix, np.empty((_PARTS, 2, channels)), mean, variance)
        running_mean += momentum * (mean - running_mean)
        running_var += momentum * (variance * (rows / max(rows - 1, 1)) - running_var)
    else:
        mean, variance = running_mean.astype(np.float64), running_var.astype(np.float64)
    inv_std = 1 / np.sqrt(variance + eps)
    dtype = x.dtype
    mean, scale = mean.astype(dtype), (inv_std * weight).astype(dtype)
    out = empty(matrix.shape, dtype)
    _affine(pool(), _PARTS, matrix, out, mean, scale, plain(bias))
    return restore(out), mean, inv_std.astype(dtype)


def batch_norm_backward(grad, x, weight, mean, inv_std, training, input_grad, out=None):
    (matrix, restore), (grad_matrix, _) = _matrix(x), _matrix(grad)
    rows, channels = matrix.shape
    dtype = x.dtype
    grad_weight, grad_bias = out or (np.empty(channels, dtype), np.empty(channels, dtype))
    total, product = np.empty(channels), np.empty(channels)  # sum dy, sum dy (x - mean) / std
    moved = np.empty(channels)
    _sums(
        pool(), matrix, grad_matrix, mean.astype(np.float64), np.empty((_PARTS, 2, channels)), moved, product
    )
    zeros = np.zeros(channels)
    _sums(pool(), grad_matrix, grad_matrix, zeros, np.empty((_PARTS, 2, channels)), total, moved)
    product *= inv_std
    grad_weight[...] = product
    grad_bias[...] = total
    if not input_grad:
        return None, grad_weight, grad_bias
    # dx = w/std (dy - mean dy - xhat mean(dy xhat)), the means only where the batch made the statistics
    scale = (inv_std.astype(np.float64) * weight).astype(dtype)
    result = empty(matrix.shape, dtype)
    if training:
        slope, shift = ((v / max(rows, 1)).astype(dtype) for v in (inv_std * product, total))
        _gradient(pool(), _PARTS, grad_matrix, matrix, result, plain(mean), scale, slope, shift)
    else:
        nothing = np.zeros(channels, dtype)
        _affine(pool(), _PARTS, grad_matrix, result, nothing, scale, nothing)
    return restore(result), grad_weight, grad_bias
