"""Matrix product with bias and activation, and its gradients, on the register tile of ``tile.py``.

Work is cut into blocks of rows of the result; every element is reduced by one task from first to last term, so its value depends on
neither the cut nor the threads. The gradient of the weight reduces over the batch in chunks of `_BATCH` samples: the rows of
`x` that a task walks through again for every tile then stay in the cache.
"""

from __future__ import annotations

import numpy as np

from . import activation as activations
from ._jit import inline, jit
from ._memory import plain
from .threads import parallel_for, pool
from .tile import multiply, panels

_BATCH = 512
_ROWS = 24  # of a result in one task at least: two tiles of 12 rows, three of 8, four of 6
_FLOPS = 400_000  # in one task at least, about 2 µs: four times what handing out a task costs
_NO_OFFSET = np.zeros(1, np.int64)


@inline
def rows_per_task(rows, flops_per_row):
    """How many rows of a result make one task: a multiple of `_ROWS` with enough arithmetic to pay for handing it out."""
    wanted = _FLOPS / max(flops_per_row, 1)
    return max(1, int(wanted / _ROWS + 0.5)) * _ROWS


@inline
def _forward_rows(t, block, tiles, x, weight, bias, out, offsets, relu):
    size = x.itemsize
    first = t * block
    rows = min(block, x.shape[0] - first)
    K, N = weight.shape
    bias_at = bias.ctypes.data if bias.size else 0
    multiply(tiles, out.ctypes.data + first * N * size, 0, N, x.ctypes.data + first * K * size, 0, K, 1, offsets.ctypes.data,
             1, K, weight.ctypes.data, N, bias_at, 1, rows, N, 0, relu, size)  # fmt: skip


@jit
def _forward(pool, tiles, x, weight, bias, out, offsets, relu):
    block = rows_per_task(x.shape[0], 2 * weight.size)
    count = (x.shape[0] + block - 1) // block
    parallel_for(pool, count, _forward_rows, (block, tiles, x, weight, bias, out, offsets, relu))


@inline
def _weight_rows(t, block, tiles, x, grad, grad_weight, offsets):
    size = x.itemsize
    first = t * block
    rows = min(block, x.shape[1] - first)
    samples, features = x.shape
    N = grad.shape[1]
    for start in range(0, samples, _BATCH):
        count = min(_BATCH, samples - start)
        multiply(tiles, grad_weight.ctypes.data + first * N * size, 0, N, x.ctypes.data + (start * features + first) * size, 0, 1,
                 features, offsets.ctypes.data, 1, count, grad.ctypes.data + start * N * size, N, 0, 1, rows, N,
                 1 if start else 0, 0, size)  # fmt: skip


@inline
def column_sums(matrix, sums):
    """``sums[j] = matrix[0, j] + matrix[1, j] + ...``, row after row."""
    for j in range(sums.size):
        sums[j] = 0
    for i in range(matrix.shape[0]):
        for j in range(sums.size):
            sums[j] += matrix[i, j]


@jit
def _weight_gradient(pool, tiles, x, grad, grad_weight, grad_bias, offsets):
    if x.shape[0] == 0:
        grad_weight[:] = 0
    block = rows_per_task(x.shape[1], 2 * grad.size)
    count = (x.shape[1] + block - 1) // block
    parallel_for(pool, count, _weight_rows, (block, tiles, x, grad, grad_weight, offsets))
    column_sums(grad, grad_bias)


def linear(x, weight, bias, activation):
    x, weight = plain(x), plain(weight)
    out = np.empty((x.shape[0], weight.shape[1]), x.dtype)
    bias = _none(x.dtype) if bias is None else plain(bias)
    _forward(pool(), panels(x.itemsize), x, weight, bias, out, _NO_OFFSET, activation == "relu")
    return activations.apply(out, activation)


def linear_backward(grad, x, weight, input_grad, out=None):
    grad, x = plain(grad), plain(x)
    tiles = panels(x.itemsize)
    grad_weight, grad_bias = out or (np.empty(weight.shape, x.dtype), np.empty(weight.shape[1], x.dtype))
    if grad_weight.flags.carray:
        _weight_gradient(pool(), tiles, x, grad, grad_weight, grad_bias, _NO_OFFSET)
    else:
        dense = np.empty(weight.shape, x.dtype)
        _weight_gradient(pool(), tiles, x, grad, dense, grad_bias, _NO_OFFSET)
        grad_weight[:] = dense
    grad_x = None
    if input_grad:
        grad_x = np.empty(x.shape, x.dtype)
        _forward(pool(), tiles, grad, np.array(weight.T, order="C"), _none(x.dtype), grad_x, _NO_OFFSET, False)
    return grad_x, grad_weight, grad_bias


_NONE = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}


def _none(dtype: np.dtype) -> np.ndarray:
    """An empty array in the place of an absent bias: kernels are compiled for arrays, not for None."""
    return _NONE[dtype]
