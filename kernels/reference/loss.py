"""Losses with their gradients, in one pass: ``(loss, grad)`` of ``scale`` times a sum over the batch.

`loss` is a Python float, added up in float64; `grad` has the shape, dtype and memory order of the first
argument. The scale carries the reduction: 1 for a sum, 1/N for a mean over N.
"""

from __future__ import annotations

import numpy as np

from fastnn.kernels.reference._shared import quiet


@quiet
def softmax_cross_entropy(logits: np.ndarray, targets: np.ndarray, scale: float) -> tuple[float, np.ndarray]:
    """Cross-entropy of softmax probabilities: ``−scale · Σ_n Σ_k t[n, k] · log softmax(z)[n, k]``.

    Parameters
    ----------
    logits : (N, K)
    targets : integer (N,), each in 0 ... K − 1, or probabilities (N, K) of the dtype of `logits`
        A label stands for the row with a one at its place.
    scale : float

    Returns
    -------
    loss : float
    grad : (N, K)
        ``scale · (softmax(z) · Σ_k t − t)``; Σ_k t is 1 for probabilities.
    """
    shifted = logits - logits.max(1, keepdims=True, initial=-np.inf)
    grad = np.exp(shifted)
    sums = grad.sum(1, keepdims=True)
    if targets.ndim == 1:
        rows = np.arange(len(logits))
        loss = np.log(sums).sum(dtype=np.float64) - shifted[rows, targets].sum(dtype=np.float64)
        grad /= sums
        grad[rows, targets] -= 1
    else:
        shifted -= np.log(sums)
        loss = -np.multiply(shifted, targets, out=shifted).sum(dtype=np.float64)
        grad *= targets.sum(1, keepdims=True) / sums
        grad -= targets
    grad *= scale
    return scale * float(loss), grad


@quiet
def sigmoid_cross_entropy(logits: np.ndarray, targets: np.ndarray, scale: float) -> tuple[float, np.ndarray]:
    """Binary cross-entropy of sigmoid probabilities: ``scale · Σ (max(z, 0) − z t + log(1 + exp(−|z|)))``.

    That form of ``−t log σ(z) − (1 − t) log(1 − σ(z))`` is exact for any finite logit.

    Parameters
    ----------
    logits, targets : arrays of one shape
        Targets are probabilities, 0 ... 1.
    scale : float

    Returns
    -------
    loss : float
    grad : as logits
        ``scale · (σ(z) − t)``.
    """
    terms = np.exp(-np.abs(logits))
    grad = np.where(logits >= 0, 1, terms).astype(logits.dtype, copy=False)
    grad /= terms + 1
    grad -= targets
    grad *= scale
    np.log1p(terms, out=terms)
    terms += np.maximum(logits, 0) - logits * targets  # which cancel where a large logit is right
    return scale * float(terms.sum(dtype=np.float64)), grad


@quiet
def mse(pred: np.ndarray, target: np.ndarray, scale: float) -> tuple[float, np.ndarray]:
    """Squared error: ``scale · Σ (pred − target)²``.

    Parameters
    ----------
    pred, target : arrays of one shape
    scale : float

    Returns
    -------
    loss : float
    grad : as pred
        ``2 · scale · (pred − target)``.
    """
    grad = np.subtract(pred, target, out=np.empty_like(pred, subok=False))
    loss = scale * float(np.square(grad).sum(dtype=np.float64))
    grad *= 2 * scale
    return loss, grad
