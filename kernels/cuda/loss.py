"""Losses on a GPU: ``loss.cu``. The loss stays there, as an array without axes: float() of it waits."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._launch import grid_for, lanes_for, launch, xp
from ._memory import arranged, cast, dense, flat, plain


def _run(name: str, work: int, like: Any, arrays: tuple, sizes: tuple[int, ...], scale: float) -> Any:
    blocks = grid_for(work)
    parts, loss = xp().empty(blocks, np.float64), xp().empty((), np.float64)
    launch("loss", name, like.dtype, work, *arrays, parts, *sizes, scale, grid=blocks)
    launch("loss", "total", like.dtype, 1, parts, loss, blocks[0], scale, grid=(1,))
    return loss


def softmax_cross_entropy(logits, targets, scale):
    logits, targets = plain(logits), plain(targets)
    grad = xp().empty_like(logits)
    name = "cross_entropy_of_shares" if targets.ndim == 2 else "cross_entropy_of_labels"
    if targets.ndim == 1:
        targets = cast(targets, np.int64)
    rows, classes = logits.shape
    lanes = lanes_for(classes)
    sizes = rows, classes, lanes
    return _run(name, lanes * rows, logits, (logits, targets, grad), sizes, float(scale)), grad


def _elementwise(name, x, y, scale):
    x = dense(x)
    y, grad = arranged(y, x), xp().empty_like(x)
    arrays = flat(x), flat(y), flat(grad)
    return _run(name, x.size, x, arrays, (x.size,), float(scale)), grad


def sigmoid_cross_entropy(logits, targets, scale):
    return _elementwise("sigmoid_cross_entropy", logits, targets, scale)


def mse(pred, target, scale):
    return _elementwise("mse", pred, target, scale)
