"""Losses, each in one pass with its gradient.

A task handles some rows (elements) and leaves its part of the loss in a slot of its own, in float64
(``_slots.py``). No loop both sums and stores: the compiler would choose between vector and scalar code by
whether the arrays lie close together in memory, and with it the last bit of the sum.
"""

from __future__ import annotations

import functools

import numpy as np

from ._each import each
from ._jit import EXACT, inline, jit, wide_vectors
from ._math import exp_nonpositive, like, log1p
from ._memory import empty, plain
from ._slots import add_up, slots
from ._softmax import log_of_total, log_share, one_a_row, rows_in_task, softmax_of_rows, vectors_of
from .threads import parallel_for, pool

_CHUNK = 16384  # elements in a task
_BLOCK = (
    1024  # elements added up in their own precision, in vector lanes, before their sum is added in float64
)


@inline(fastmath=EXACT)  # of the whole sum, or its terms would be taken apart
def _of_labels(x, labels, out, peaks, totals, scale):
    """The loss of some rows; `out`, ``scale * softmax(x)`` before, becomes their gradient. NaN where a label
    is none: a step that is repeated has no other look at them."""
    wide_vectors()
    strays = 0
    for i in range(x.shape[0]):
        strays += labels[i] < 0 or labels[i] >= x.shape[1]
    if strays:
        return np.nan
    for i in range(x.shape[0]):
        totals[i] = log_of_total(totals[i])
    loss = 0.0
    for i in range(x.shape[0]):
        loss -= np.float64(log_share(x[i, labels[i]], peaks[i], totals[i]))
        out[i, labels[i]] -= scale
    return loss


@inline
def _of_shares(x, goal, out, peaks, totals, scale):
    """The same for a share of each class; `out` was ``softmax(x)``."""
    loss = 0.0
    for i in range(x.shape[0]):
        mass, log_total = like(scale, 0), log_of_total(totals[i])
        for j in range(x.shape[1]):
            mass += goal[i, j]
            loss -= np.float64(goal[i, j] * log_share(x[i, j], peaks[i], log_total))
        for j in range(x.shape[1]):
            out[i, j] = scale * (out[i, j] * mass - goal[i, j])
    return loss


@functools.cache
def _cross_entropy(shares, vectors, itemsize):
    """The kernel for labels or `shares`, with so many vectors a row."""
    loss_of = _of_shares if shares else _of_labels
    softmax, name = softmax_of_rows(vectors, itemsize, logarithm=False)

    @inline
    def task(t, rows, logits, targets, grad, parts, scale):
        begin, end = t * rows, (t + 1) * rows
        x, out = logits[begin:end], grad[begin:end]
        peaks, totals = one_a_row(x), one_a_row(x)
        softmax(x, out, peaks, totals, like(scale, 1) if shares else scale)
        parts[t] = loss_of(x, targets[begin:end], out, peaks, totals, scale)

    @functools.partial(jit, variant=f"{name}, {'shares' if shares else 'labels'}")
    def kernel(pool, logits, targets, grad, parts, scale, factor, doubt, rows):
        parallel_for(pool, parts.size - 1, task, (rows, logits, targets, grad, parts, scale))
        add_up(parts, factor, doubt)

    return kernel


@inline(fastmath=EXACT)
def _of_logit(x, z, power):
    """softplus(x) - z x as max(x, 0) - z x + log(1 + e^-|x|), with `power` for e^-|x|: no intermediate
    overflows, and where the first two cancel, nothing has been added to them."""
    positive = x if x > 0 else like(x, 0)
    return (positive - z * x) + log1p(power)


@inline
def _decay(x):
    return exp_nonpositive(-abs(x))


@inline
def _sigmoid_slope(x, z, power, scale):
    one = like(scale, 1)
    return scale * ((one if x >= 0 else power) / (one + power) - z)


@inline
def _sigmoid_chunk(t, x, z, grad, parts, scale):
    wide_vectors()
    loss = 0.0
    for begin in range(t * _CHUNK, min((t + 1) * _CHUNK, x.size), _BLOCK):
        logit, goal, slope = (
            x[begin : begin + _BLOCK],
            z[begin : begin + _BLOCK],
            grad[begin : begin + _BLOCK],
        )
        total = like(scale, 0)
        each(_decay, slope, (logit,))
        for i in range(logit.size):
            total += _of_logit(logit[i], goal[i], slope[i])
        each(_sigmoid_slope, slope, (logit, goal, slope, scale))
        loss += np.float64(total)
    parts[t] = loss


@jit
def _sigmoid(pool, x, z, grad, parts, scale, factor, doubt):
    parallel_for(pool, parts.size - 1, _sigmoid_chunk, (x, z, grad, parts, scale))
    add_up(parts, factor, doubt)


@inline
def _mse_chunk(t, pred, target, grad, parts, scale):
    twice = scale + scale
    loss = 0.0
    for begin in range(t * _CHUNK, min((t + 1) * _CHUNK, pred.size), _BLOCK):
        p, goal, slope = (
            pred[begin : begin + _BLOCK],
            target[begin : begin + _BLOCK],
            grad[begin : begin + _BLOCK],
        )
        total = like(scale, 0)
        for i in range(p.size):
            total += (p[i] - goal[i]) * (p[i] - goal[i])
        for i in range(p.size):
            slope[i] = twice * (p[i] - goal[i])
        loss += np.float64(total)
    parts[t] = loss


@jit
def _mse(pool, pred, target, grad, parts, scale, factor, doubt):
    parallel_for(pool, parts.size - 1, _mse_chunk, (pred, target, grad, parts, scale))
    add_up(parts, factor, doubt)


def softmax_cross_entropy(logits, targets, scale):
    logits, targets = plain(logits), plain(targets)
    grad = empty(logits.shape, logits.dtype)
    rows = rows_in_task(logits.shape[1])
    parts, doubt = slots(-(-logits.shape[0] // rows))
    shares = targets.ndim == 2
    if not shares and targets.dtype != np.int64:
        targets = targets.astype(np.int64)
    kernel = _cross_entropy(shares, vectors_of(logits.shape[1], logits.itemsize), logits.itemsize)
    kernel(pool(), logits, targets, grad, parts, logits.dtype.type(scale), float(scale), doubt, rows)
    return parts.item(-1), grad


def _elementwise(kernel, x, y, scale):
    x, y = plain(x), plain(y)
    grad = empty(x.shape, x.dtype)
    parts, doubt = slots(-(-x.size // _CHUNK))
    flat = x.reshape(-1), y.reshape(-1), grad.reshape(-1)
    kernel(pool(), *flat, parts, x.dtype.type(scale), float(scale), doubt)
    return parts.item(-1), grad


def sigmoid_cross_entropy(logits, targets, scale):
    return _elementwise(_sigmoid, logits, targets, scale)


def mse(pred, target, scale):
    return _elementwise(_mse, pred, target, scale)
