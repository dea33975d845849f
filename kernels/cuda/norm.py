"""Batch normalisation on a GPU: ``norm.cu``."""

from __future__ import annotations

from typing import Any

from ._launch import launch, xp
from ._memory import deliver, fillable, plain


def _rows(x: Any) -> Any:
    """(N, C) or (N, C, H, W) as (M, C): one column a channel."""
    return plain(x) if x.ndim == 2 else plain(x.transpose(0, 2, 3, 1)).reshape(-1, x.shape[1])


def _shaped(rows: Any, shape: tuple[int, ...]) -> Any:
    """The inverse of :func:`_rows`, channels-last in memory."""
    if len(shape) == 2:
        return rows
    n, channels, height, width = shape
    return rows.reshape(n, height, width, channels).transpose(0, 3, 1, 2)


def _columns(C: int) -> tuple[int]:
    """A grid with a block for 32 columns."""
    return (-(-C // 32),)


def batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps):
    rows, weight, bias = _rows(x), plain(weight), plain(bias)
    M, C = rows.shape
    out = xp().empty_like(rows)
    if training and M:
        mean, inv_std = xp().empty(C, x.dtype), xp().empty(C, x.dtype)
        means, variances = plain(running_mean), plain(running_var)
        arrays = rows, mean, inv_std, means, variances
        launch("norm", "statistics", x.dtype, C, *arrays, M, C, float(momentum), float(eps), grid=_columns(C))
        deliver((means, running_mean), (variances, running_var))
    else:
        mean, inv_std = running_mean.copy(), 1 / xp().sqrt(running_var + x.dtype.type(eps))
    arrays = rows, out, plain(mean), plain(inv_std), weight, bias
    launch("norm", "normalise", x.dtype, out.size, *arrays, out.size, C)
    return _shaped(out, x.shape), mean, inv_std


def batch_norm_backward(grad, x, weight, mean, inv_std, training, input_grad, out=None):
    rows, grads, weight, mean, inv_std = _rows(x), _rows(grad), plain(weight), plain(mean), plain(inv_std)
    M, C = rows.shape
    grad_weight, grad_bias = out or (xp().empty(C, x.dtype), xp().empty(C, x.dtype))
    slopes, sums = fillable(grad_weight), fillable(grad_bias)
    arrays = grads, rows, mean, inv_std, slopes, sums
    launch("norm", "grad_parameters", x.dtype, C, *arrays, M, C, grid=_columns(C))
    grad_x = None
    if input_grad:
        back = xp().empty_like(rows)
        arrays = grads, rows, mean, inv_std, weight, slopes, sums, back
        launch("norm", "grad_input", x.dtype, back.size, *arrays, M, C, int(training))
        grad_x = _shaped(back, x.shape)
    deliver((slopes, grad_weight), (sums, grad_bias))
    return grad_x, grad_weight, grad_bias
