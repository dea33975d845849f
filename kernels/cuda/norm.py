"""Batch normalisation on a GPU: ``norm.cu``."""

from __future__ import annotations

from typing import Any, NamedTuple

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


_THREADS = 256  # of a block
_BLOCKS = 1056  # that keep a GPU busy: eight for each multiprocessor of a large one
_LEAST = 8  # rows of a thread


class _Cut(NamedTuple):
    """How kernels cut an (M, C) matrix: blocks of `width` columns and `chunk` rows, by the shape alone."""

    width: int
    chunk: int
    chunks: int
    across: int  # blocks

    @classmethod
    def of(cls, M: int, C: int) -> _Cut:
        width = min(32, 1 << (C - 1).bit_length())
        across, step = -(-C // width), _THREADS // width
        chunk = max(_LEAST * step, -(-M * across // _BLOCKS))
        return cls(width, chunk, -(-M // chunk), across)


def batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps):
    rows, weight, bias = _rows(x), plain(weight), plain(bias)
    (M, C), dtype = rows.shape, x.dtype
    out, cut = xp().empty_like(rows), _Cut.of(M, C)
    sizes, grid = (M, C, cut.width, cut.chunk), (cut.across, cut.chunks)
    if training and M:
        parts = xp().empty((2, cut.chunks, C), dtype)
        launch("norm", "moments", dtype, rows.size, rows, parts, *sizes, grid=grid)
        mean, inv_std = xp().empty(C, x.dtype), xp().empty(C, x.dtype)
        means, variances = plain(running_mean), plain(running_var)
        arrays, more = (parts, mean, inv_std, means, variances), (cut.chunks, float(momentum), float(eps))
        launch("norm", "statistics", dtype, C, *arrays, *sizes, *more, grid=(cut.across,))
        deliver((means, running_mean), (variances, running_var))
    else:
        mean, inv_std = running_mean.copy(), 1 / xp().sqrt(running_var + x.dtype.type(eps))
    arrays = rows, out, plain(mean), plain(inv_std), weight, bias
    launch("norm", "normalise", dtype, out.size, *arrays, *sizes, grid=grid)
    return _shaped(out, x.shape), mean, inv_std


def batch_norm_backward(grad, x, weight, mean, inv_std, training, input_grad, out=None):
    rows, grads, weight, mean, inv_std = _rows(x), _rows(grad), plain(weight), plain(mean), plain(inv_std)
    (M, C), dtype = rows.shape, x.dtype
    cut = _Cut.of(M, C)
    sizes, grid = (M, C, cut.width, cut.chunk), (cut.across, cut.chunks)
    grad_weight, grad_bias = out or (xp().empty(C, x.dtype), xp().empty(C, x.dtype))
    slopes, sums = fillable(grad_weight), fillable(grad_bias)
    parts = xp().empty((2, cut.chunks, C), dtype)
    launch("norm", "grad_sums", dtype, rows.size, grads, rows, mean, inv_std, parts, *sizes, grid=grid)
    ending = C, cut.width, cut.chunks
    launch("norm", "grad_parameters", dtype, C, parts, slopes, sums, *ending, grid=(cut.across,))
    grad_x = None
    if input_grad:
        back = xp().empty_like(rows)
        arrays = grads, rows, mean, inv_std, weight, slopes, sums, back
        launch("norm", "grad_input", dtype, back.size, *arrays, *sizes, int(training), grid=grid)
        grad_x = _shaped(back, x.shape)
    deliver((slopes, grad_weight), (sums, grad_bias))
    return grad_x, grad_weight, grad_bias
