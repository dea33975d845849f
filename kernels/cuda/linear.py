"""Fully connected layers on a GPU: ``linear.cu``, by the tiles of ``product.cuh``."""

from __future__ import annotations

import math
from typing import Any

from ._launch import launch, xp
from ._memory import deliver, fillable, plain

TILE = 64  # as in product.cuh
_BLOCKS = 264  # that keep a large GPU busy; one number for all, so that no result depends on the GPU
_TERMS = 128  # of the reduction in a part, at least
_MOST_PARTS = 64
CODES = {None: 0, "relu": 1, "leaky_relu": 2, "sigmoid": 3, "tanh": 4, "gelu": 5}


def parts_for(rows: int, columns: int, terms: int) -> int:
    """Into how many parts to cut a reduction, so that a small result keeps the GPU busy too."""
    tiles = -(-rows // TILE) * -(-columns // TILE)
    return max(1, min(_BLOCKS // max(tiles, 1), terms // _TERMS, _MOST_PARTS))


def finish_parts(stem: str, parts: Any, out: Any, bias: Any, code: int) -> None:
    """``out = activation(parts[0] + parts[1] + ... + bias)``."""
    columns = 0 if bias is None else bias.size
    arrays = parts, out, out.size, len(parts), parts if bias is None else bias
    launch(stem, "add_parts", out.dtype, out.size, *arrays, columns, code)


def _product(
    a: Any, a_strides: tuple, b: Any, b_strides: tuple, out: Any, terms: int, bias: Any, code: int
) -> None:
    """Fill `out` (M, N) with the product of matrices of those strides, in elements."""
    M, N = out.shape
    if out.size == 0:
        return
    parts = parts_for(M, N, terms)
    split = parts > 1
    target = xp().empty((parts, M, N), out.dtype) if split else out
    has_bias = bias is not None and not split
    launch(
        "linear", "matmul", out.dtype, out.size, a, *a_strides, b, *b_strides, target, M, N, terms, parts,
        bias if has_bias else target, has_bias, 0 if split else code,
        grid=(-(-M // TILE), -(-N // TILE), parts),
    )  # fmt: skip
    if split:
        finish_parts("linear", target, out, bias, code)


def column_sums(stem: str, matrix: Any, out: Any) -> None:
    """``out[j] = matrix[0, j] + matrix[1, j] + ...``"""
    rows, columns = matrix.shape
    launch(stem, "column_sums", out.dtype, columns, matrix, out, rows, columns, grid=(-(-columns // 32),))


def linear(x, weight, bias, activation):
    x, weight = plain(x), plain(weight)
    bias = None if bias is None else plain(bias)
    (M, K), N = x.shape, weight.shape[1]
    out = xp().empty((M, N), x.dtype)
    _product(x, (K, 1), weight, (N, 1), out, K, bias, CODES[activation])
    return out


def linear_backward(grad, x, weight, input_grad, out=None):
    grad, x, weight = plain(grad), plain(x), plain(weight)
    (M, K), N = x.shape, weight.shape[1]
    grad_weight, grad_bias = out or (xp().empty((K, N), x.dtype), xp().empty(N, x.dtype))
    dense, sums = fillable(grad_weight), fillable(grad_bias)
    _product(x, (1, K), grad, (N, 1), dense, M, None, 0)
    column_sums("linear", grad, sums)
    grad_x = None
    if input_grad:
        grad_x = xp().empty((M, K), x.dtype)
        _product(grad, (N, 1), weight, (1, N), grad_x, N, None, 0)
    deliver((dense, grad_weight), (sums, grad_bias))
    return grad_x, grad_weight, grad_bias


def flatten(x):
    N, features = len(x), math.prod(x.shape[1:])
    memory = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
    if x.flags.c_contiguous or x.size == 0 or x.ndim != 4 or not memory.flags.c_contiguous:
        return x.reshape(N, features)
    memory = plain(memory)
    _, H, W, C = memory.shape
    out = xp().empty((N, features), x.dtype)
    for first in range(0, N, 65535):  # images in one launch at most
        part = memory[first : first + 65535]
        grid = (-(-H * W // 32), -(-C // 32), len(part))
        rows = out[first : first + len(part)]
        launch("linear", "flatten", x.dtype, x.size, part, rows, H * W, C, grid=grid)
    return out
