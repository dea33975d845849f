"""Fully connected layers on a GPU: ``linear.cu``, by the tiles of ``product.cuh``."""

from __future__ import annotations

import math
from typing import Any

from ._launch import launch, xp
from ._memory import deliver, fillable, plain
from ._products import CODES, add_parts, pieces, plan
from .precision import stem_for


def _by_rows(kernel: str, a: Any, b: Any, out: Any, bias: Any = None, code: int = 0) -> None:
    """Fill `out` (M, N) with the product of `a` (M, terms) and `b`, finished by a bias and an activation."""
    (M, terms), N, size = a.shape, out.shape[1], out.itemsize
    stem = stem_for("linear", out.dtype)
    for rows in pieces(M):
        left, target = a[rows], out[rows]
        by = plan(len(left), N, terms, 1, True, size)
        split = by.parts > 1
        result = xp().empty((by.parts, *target.shape), out.dtype) if split else target
        ending = (None, 0) if split else (bias, code)
        sizes = len(left), N, terms, by.chunk
        grid = by.blocks, 1, by.parts
        arguments = left, b, result, None, *sizes, *ending
        launch(stem, f"{kernel}_{by.name}", out.dtype, target.size, *arguments, grid=grid)
        if split:
            add_parts(stem, result, target, None, bias, code)


def linear(x, weight, bias, activation):
    x, weight = plain(x), plain(weight)
    bias = None if bias is None else plain(bias)
    out = xp().empty((len(x), weight.shape[1]), x.dtype)
    _by_rows("forward", x, weight, out, bias, CODES[activation])
    return out


def linear_backward(grad, x, weight, input_grad, out=None):
    grad, x, weight = plain(grad), plain(x), plain(weight)
    (M, K), N = x.shape, weight.shape[1]
    grad_weight, grad_bias = out or (xp().empty((K, N), x.dtype), xp().empty(N, x.dtype))
    dense, sums = fillable(grad_weight), fillable(grad_bias)
    stem = stem_for("linear", x.dtype)
    by = plan(K, N, M, 1, True, x.itemsize)
    result = xp().empty((by.parts, (K + 1) * N), x.dtype) if by.parts > 1 else dense
    arguments = x, grad, result, sums, K, N, M, by.chunk, None, 0
    grid = by.blocks, 1, by.parts
    launch(stem, f"grad_weight_{by.name}", x.dtype, dense.size, *arguments, grid=grid)
    if by.parts > 1:
        add_parts(stem, result, dense, sums, None, 0)
    grad_x = None
    if input_grad:
        grad_x = xp().empty((M, K), x.dtype)
        _by_rows("grad_input", grad, weight, grad_x)
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
