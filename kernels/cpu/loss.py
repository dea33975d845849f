"""Losses, each in one pass with its gradient. A task handles some rows (elements) and leaves its part of the loss in a slot of
its own, in float64; the slots are added in order, so that the sum does not depend on the threads."""

from __future__ import annotations

import numpy as np

from ._jit import inline, jit
from ._math import exp
from ._memory import empty, plain
from .activation import rows_per_chunk, softmax_row
from .threads import parallel_for, pool

_CHUNK = 16384  # elements in a task


@inline
def _cross_entropy_rows(t, rows, logits, targets, grad, parts, scale):
    real = logits.dtype.type
    total = 0.0
    for i in range(t * rows, min((t + 1) * rows, logits.shape[0])):
        peak, log_total = softmax_row(logits[i], grad[i])
        label = targets[i]
        total += np.float64((peak - logits[i, label]) + log_total)
        for j in range(grad.shape[1]):
            grad[i, j] *= scale
        grad[i, label] = grad[i, label] - scale * real(1)
    parts[t] = total


@jit
def _cross_entropy(pool, logits, targets, grad, parts, scale, rows):
    parallel_for(pool, parts.size, _cross_entropy_rows, (rows, logits, targets, grad, parts, scale))
    return parts.sum()


@inline
def _soft_cross_entropy_rows(t, rows, logits, targets, grad, parts, scale):
    total = 0.0
    for i in range(t * rows, min((t + 1) * rows, logits.shape[0])):
        peak, log_total = softmax_row(logits[i], grad[i])
        mass = logits.dtype.type(0)
        for j in range(grad.shape[1]):
            mass += targets[i, j]
            total += np.float64(targets[i, j] * ((peak - logits[i, j]) + log_total))
        for j in range(grad.shape[1]):
            grad[i, j] = scale * (grad[i, j] * mass - targets[i, j])
    parts[t] = total


@jit
def _soft_cross_entropy(pool, logits, targets, grad, parts, scale, rows):
    parallel_for(pool, parts.size, _soft_cross_entropy_rows, (rows, logits, targets, grad, parts, scale))
    return parts.sum()


@inline
def _sigmoid_chunk(t, x, z, grad, parts, scale):
    # softplus(x) - z x, as max(x, 0) - z x + log(1 + e^-|x|): no intermediate overflows
    one = x.dtype.type(1)
    total = 0.0
    for i in range(t * _CHUNK, min((t + 1) * _CHUNK, x.size)):
        e = exp(-abs(x[i]))
        total += np.float64((x[i] if x[i] > 0 else x.dtype.type(0)) - z[i] * x[i] + np.log1p(e))
        grad[i] = scale * ((one if x[i] >= 0 else e) / (one + e) - z[i])
    parts[t] = total


@jit
def _sigmoid(pool, x, z, grad, parts, scale):
    parallel_for(pool, parts.size, _sigmoid_chunk, (x, z, grad, parts, scale))
    return parts.sum()


@inline
def _mse_chunk(t, pred, target, grad, parts, scale):
    twice = scale + scale
    total = 0.0
    for i in range(t * _CHUNK, min((t + 1) * _CHUNK, pred.size)):
        difference = pred[i] - target[i]
        total += np.float64(difference) * np.float64(difference)
        grad[i] = twice * difference
    parts[t] = total


@jit
def _mse(pool, pred, target, grad, parts, scale):
    parallel_for(pool, parts.size, _mse_chunk, (pred, target, grad, parts, scale))
    return parts.sum()


def softmax_cross_entropy(logits, targets, scale):
    logits, targets = plain(logits), plain(targets)
    grad = empty(logits.shape, logits.dtype)
    rows = max(1, _CHUNK // (4 * logits.shape[1]))
    parts = np.empty(-(-logits.shape[0] // rows))
    kernel = _cross_entropy
    if targets.ndim == 2:
        kernel = _soft_cross_entropy
    elif targets.dtype != np.int64:
        targets = targets.astype(np.int64)
    return kernel(pool(), logits, targets, grad, parts, logits.dtype.type(scale), rows) * scale, grad


def _elementwise(kernel, x, y, scale):
    x, y = plain(x), plain(y)
    grad = empty(x.shape, x.dtype)
    parts = np.empty(-(-x.size // _CHUNK))
    total = kernel(pool(), x.reshape(-1), y.reshape(-1), grad.reshape(-1), parts, x.dtype.type(scale))
    return total * scale, grad


def sigmoid_cross_entropy(logits, targets, scale):
    return _elementwise(_sigmoid, logits, targets, scale)


def mse(pred, target, scale):
    return _elementwise(_mse, pred, target, scale)
