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
from ._rows import LABELS, PEAKS, TOTALS
from ._slots import add_up, slots
from ._softmax import log_of_total, log_share, numbers_of, rows_in_task, softmax_of_rows, vectors_of
from .threads import parallel_for, pool
from .tile import lanes

_CHUNK = 16384  # elements in a task
_BLOCK = (
    1024  # elements added up in their own precision, in vector lanes, before their sum is added in float64
)


@inline
def _sign(label, columns):
    """Negative for what is not a label of so many `columns`."""
    return label | (columns - 1 - label)


def _make_of_labels(vectors, itemsize):
    """The function (x, labels, out, scale) for the loss of some rows of so many vectors, which leaves their
    gradient in `out`, and the name of its way. A label that is none makes the loss NaN: a step that is
    repeated has no other look at them."""
    softmax, name = softmax_of_rows(vectors, itemsize, "gradient" if vectors else "shares")
    reach, integer = vectors * lanes(itemsize), np.int32 if itemsize == 4 else np.int64

    @inline
    def of_short_rows(x, labels, out, scale):
        wide_vectors()
        numbers, taken = numbers_of(x, 2 * reach)
        taken[:] = 0
        taken[reach] = -scale
        signs, places = 0, numbers[LABELS].view(integer)
        places[:] = 0
        for i in range(labels.size):
            sign = _sign(labels[i], x.shape[1])
            signs |= sign
            places[i] = labels[i] if sign >= 0 else 0
        softmax(x, out, numbers, scale, taken.ctypes.data + reach * itemsize)
        loss = 0.0
        for i in range(labels.size):
            loss += np.float64(log_of_total(numbers[TOTALS, i])) - np.float64(numbers[PEAKS, i])
        return loss if signs >= 0 else np.nan

    @inline(fastmath=EXACT)  # of the whole sum, or its terms would be taken apart
    def of_long_rows(x, labels, out, scale):
        numbers, _ = numbers_of(x, 0)
        softmax(x, out, numbers, scale, 0)
        signs = 0
        for i in range(labels.size):
            signs |= _sign(labels[i], x.shape[1])
        if signs < 0:
            return np.nan
        loss = 0.0
        for i in range(labels.size):
            log_total = log_of_total(numbers[TOTALS, i])
            loss -= np.float64(log_share(x[i, labels[i]], numbers[PEAKS, i], log_total))
            out[i, labels[i]] -= scale
        return loss

    return of_short_rows if vectors else of_long_rows, name


def _make_of_shares(vectors, itemsize):
    """The same for shares of all classes in the place of labels."""
    softmax, name = softmax_of_rows(vectors, itemsize, "shares")

    @inline
    def of_shares(x, goal, out, scale):
        numbers, _ = numbers_of(x, 0)
        softmax(x, out, numbers, like(scale, 1), 0)
        loss = 0.0
        for i in range(x.shape[0]):
            mass, log_total = like(scale, 0), log_of_total(numbers[TOTALS, i])
            for j in range(x.shape[1]):
                mass += goal[i, j]
                loss -= np.float64(goal[i, j] * log_share(x[i, j], numbers[PEAKS, i], log_total))
            for j in range(x.shape[1]):
                out[i, j] = scale * (out[i, j] * mass - goal[i, j])
        return loss

    return of_shares, name


@functools.cache
def _cross_entropy(shares, vectors, itemsize):
    """The kernel for labels or `shares`, with so many vectors a row."""
    loss_of, name = (_make_of_shares if shares else _make_of_labels)(vectors, itemsize)

    @inline
    def task(t, rows, logits, targets, grad, parts, scale):
        begin, end = t * rows, (t + 1) * rows
        parts[t] = loss_of(logits[begin:end], targets[begin:end], grad[begin:end], scale)

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
