"""Parameter updates: one call walks all parameters of a network, each element once.

`bind` checks the arrays and writes their addresses into a table; after that an update is one kernel call
whatever the number of parameters. The table holds references, so the memory lives as long as it does. What an
update is told besides, and may be another each time, are the ``..._numbers`` of its arguments.
"""

from __future__ import annotations

import math

import numpy as np

from fastnn.kernels.reference._shared import check_companions

from ._jit import inline, jit
from ._math import itemsize, like
from ._memory import address_of, floats_at, memory_order
from ._slots import add_up, slots
from .threads import parallel_for, pool

_CHUNK, _LESS = 8192, 2048  # elements in a task
_MANY = 64 * _CHUNK  # in all, from which on tasks have _CHUNK: below, cores would share them out unevenly


class Table:
    """`addresses[p, k]` of parameter p and its k-th companion; `chunks[t]` = (parameter, begin, end) of
    task t."""

    __slots__ = ("addresses", "arrays", "chunks", "dtype")

    def __init__(self, columns: tuple) -> None:
        self.arrays = columns
        params = columns[0]
        self.dtype = params[0].dtype if params else np.dtype(np.float32)
        rows = [[address_of(a) for a in row] for row in zip(*columns, strict=True)]
        self.addresses = np.array(rows, np.int64).reshape(len(params), len(columns))
        chunk = _CHUNK if sum(a.size for a in params) >= _MANY else _LESS
        chunks = [
            (p, begin, min(begin + chunk, a.size))
            for p, a in enumerate(params)
            for begin in range(0, a.size, chunk)
        ]
        self.chunks = np.array(chunks, np.int64).reshape(-1, 3)


def bind(params, *lists):
    check_companions(params, lists, lambda a: a.transpose(memory_order(a)).flags.carray)
    return Table((params, *lists))


@inline
def _part(table, chunks, t, column, real):
    """The elements of task t in the arrays of `column`, which are of the type of `real`."""
    address = table[chunks[t, 0], column] + chunks[t, 1] * itemsize(real)
    return floats_at(address, chunks[t, 2] - chunks[t, 1], real)


@inline
def _slope(g, decay, w):
    """The gradient with weight decay: not always, since 0 times an infinite parameter would be NaN."""
    return g + decay * w if decay != 0 else g


@inline
def _sgd_chunk(t, table, chunks, lr, momentum, keep, decay, nesterov, first):
    w, g = _part(table, chunks, t, 0, lr), _part(table, chunks, t, 1, lr)
    if table.shape[1] == 2:
        for i in range(w.size):
            w[i] -= lr * _slope(g[i], decay, w[i])
        return
    v = _part(table, chunks, t, 2, lr)
    if first:  # the first velocity is the step itself, whatever the buffer held
        v[:] = 0
    old, new = (like(lr, 0), like(lr, 1)) if first else (momentum, keep)
    if nesterov:
        for i in range(w.size):
            step = _slope(g[i], decay, w[i])
            v[i] = old * v[i] + new * step
            w[i] -= lr * (step + momentum * v[i])
    else:
        for i in range(w.size):
            v[i] = old * v[i] + new * _slope(g[i], decay, w[i])
            w[i] -= lr * v[i]


@jit
def _sgd(pool, table, chunks, lr, momentum, keep, decay, nesterov, first):
    parallel_for(
        pool, chunks.shape[0], _sgd_chunk, (table, chunks, lr, momentum, keep, decay, nesterov, first)
    )


def _rounded(table, numbers):
    """In the dtype of the parameters."""
    return [table.dtype.type(number) for number in numbers]


def sgd(table, lr, momentum, dampening, weight_decay, nesterov, first):
    numbers = sgd_numbers(lr, momentum, dampening, weight_decay, nesterov, first)
    _sgd(pool(), table.addresses, table.chunks, *_rounded(table, numbers), bool(nesterov), bool(first))


def sgd_numbers(lr, momentum, dampening, weight_decay, nesterov, first):
    return lr, momentum, 1 - dampening, weight_decay


@inline
def _adam_chunk(t, table, chunks, lr, beta1, beta2, rest1, rest2, eps, decay, shrink, root):
    w, g = _part(table, chunks, t, 0, lr), _part(table, chunks, t, 1, lr)
    m, v = _part(table, chunks, t, 2, lr), _part(table, chunks, t, 3, lr)
    for i in range(w.size):
        weight = w[i] * shrink
        slope = _slope(g[i], decay, weight)
        m[i] = beta1 * m[i] + rest1 * slope
        v[i] = beta2 * v[i] + rest2 * slope * slope
        w[i] = weight - lr * m[i] / (np.sqrt(v[i]) * root + eps)


@jit
def _adam(pool, table, chunks, lr, beta1, beta2, rest1, rest2, eps, decay, shrink, root):
    numbers = (lr, beta1, beta2, rest1, rest2, eps, decay, shrink, root)
    parallel_for(pool, chunks.shape[0], _adam_chunk, (table, chunks, *numbers))


def adam(table, lr, beta1, beta2, eps, weight_decay, decoupled, step):
    numbers = adam_numbers(lr, beta1, beta2, eps, weight_decay, decoupled, step)
    _adam(pool(), table.addresses, table.chunks, *_rounded(table, numbers))


def adam_numbers(lr, beta1, beta2, eps, weight_decay, decoupled, step):
    rate = lr / (1 - beta1**step)
    root = 1 / math.sqrt(1 - beta2**step)
    decay, shrink = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    return rate, beta1, beta2, 1 - beta1, 1 - beta2, eps, decay, shrink, root


@inline
def _rmsprop_chunk(t, table, chunks, lr, alpha, rest, eps, decay, momentum):
    w, g, v = _part(table, chunks, t, 0, lr), _part(table, chunks, t, 1, lr), _part(table, chunks, t, 2, lr)
    if table.shape[1] == 3:
        for i in range(w.size):
            slope = _slope(g[i], decay, w[i])
            v[i] = alpha * v[i] + rest * slope * slope
            w[i] -= lr * slope / (np.sqrt(v[i]) + eps)
        return
    b = _part(table, chunks, t, 3, lr)
    for i in range(w.size):
        slope = _slope(g[i], decay, w[i])
        v[i] = alpha * v[i] + rest * slope * slope
        b[i] = momentum * b[i] + slope / (np.sqrt(v[i]) + eps)
        w[i] -= lr * b[i]


@jit
def _rmsprop(pool, table, chunks, lr, alpha, rest, eps, decay, momentum):
    parallel_for(
        pool, chunks.shape[0], _rmsprop_chunk, (table, chunks, lr, alpha, rest, eps, decay, momentum)
    )


def rmsprop(table, lr, alpha, eps, weight_decay, momentum):
    numbers = rmsprop_numbers(lr, alpha, eps, weight_decay, momentum)
    _rmsprop(pool(), table.addresses, table.chunks, *_rounded(table, numbers))


def rmsprop_numbers(lr, alpha, eps, weight_decay, momentum):
    return lr, alpha, 1 - alpha, eps, weight_decay, momentum


@inline
def _l2_chunk(t, table, chunks, twice, sums):
    w, g = _part(table, chunks, t, 0, twice), _part(table, chunks, t, 1, twice)
    total = like(twice, 0)
    for i in range(w.size):
        g[i] += twice * w[i]
        total += w[i] * w[i]
    sums[t] = total


@jit
def _l2_penalty(pool, table, chunks, twice, sums, factor, doubt):
    parallel_for(pool, chunks.shape[0], _l2_chunk, (table, chunks, twice, sums))
    add_up(sums, factor, doubt)


def l2_penalty(table, factor):
    sums, doubt = slots(len(table.chunks))
    twice = table.dtype.type(2 * factor)
    _l2_penalty(pool(), table.addresses, table.chunks, twice, sums, float(factor), doubt)
    return sums.item(-1)
