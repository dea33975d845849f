"""Batch normalisation (Ioffe & Szegedy 2015), over the batch and, for images, the pixels of each channel."""

from __future__ import annotations

import numpy as np

from fastnn.kernels.reference._shared import quiet, sum_rows


def _rows(x: np.ndarray) -> np.ndarray:
    """(N, C) or (N, C, H, W) as (M, C): one column a channel."""
    return x if x.ndim == 2 else x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1])


def _shaped(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of :func:`_rows`, channels-last in memory."""
    if len(shape) == 2:
        return rows
    n, channels, height, width = shape
    return rows.reshape(n, height, width, channels).transpose(0, 3, 1, 2)


@quiet
def batch_norm(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(x − mean) / √(var + eps) · weight + bias``, a channel at a time.

    In training mean and (biased) variance are those of the batch, and ``running ← (1 − momentum) · running +
    momentum · batch`` updates the running statistics in place, with the unbiased variance. Otherwise, and for
    an empty batch, the running statistics take their place and stay as they are.

    Parameters
    ----------
    x : (N, C) or (N, C, H, W)
    weight, bias, running_mean, running_var : (C,)
    training : bool
    momentum, eps : float

    Returns
    -------
    out : as x
    mean, inv_std : (C,)
        What was subtracted and ``1 / √(var + eps)``, for the backward.
    """
    rows = _rows(x)
    count = len(rows)
    if training and count:
        mean = sum_rows(rows) / count
        centred = rows - mean
        var = sum_rows(np.square(centred)) / count
        for running, batch in ((running_mean, mean), (running_var, var * (count / max(count - 1, 1)))):
            running *= 1 - momentum
            running += momentum * batch
        inv_std = 1 / np.sqrt(var + eps)
    else:
        mean, inv_std = running_mean.copy(), 1 / np.sqrt(running_var + eps)
        centred = rows - mean
    centred *= inv_std * weight
    centred += bias
    return _shaped(centred, x.shape), mean, inv_std


@quiet
def batch_norm_backward(
    grad: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
    training: bool,
    input_grad: bool,
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Gradients of :func:`batch_norm`; in training the batch's mean and variance depend on `x` too.

    With ``h = (x − mean) · inv_std`` over the M values of a channel: ``Σ g h`` for the weight, ``Σ g`` for
    the bias, and for the input ``weight · inv_std · (g − (Σ g + h Σ g h) / M)`` in training, ``weight ·
    inv_std · g`` otherwise.

    Parameters
    ----------
    grad : as x
    x, weight, training : as given to :func:`batch_norm`
    mean, inv_std : (C,), as it returned them
    input_grad : bool
        Whether the gradient with respect to `x` is wanted.
    out : (grad_weight, grad_bias) or None
        Arrays to fill.

    Returns
    -------
    grad_x : as x, or None
    grad_weight, grad_bias : (C,)
    """
    rows, grad_rows = _rows(x), _rows(grad)
    normal = rows - mean
    normal *= inv_std
    grad_weight, grad_bias = (np.empty_like(weight), np.empty_like(weight)) if out is None else out
    grad_bias[...] = sum_rows(grad_rows)
    grad_weight[...] = sum_rows(grad_rows * normal)
    if not input_grad:
        return None, grad_weight, grad_bias
    if training and len(rows):
        normal *= grad_weight / -len(rows)
        normal += grad_rows
        normal -= grad_bias / len(rows)
        normal *= weight * inv_std
    else:
        np.multiply(grad_rows, weight * inv_std, out=normal)
    return _shaped(normal, x.shape), grad_weight, grad_bias
