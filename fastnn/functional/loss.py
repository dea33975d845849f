"""Losses, each computed together with its gradient: ``loss, grad = F.mse(pred, target)``.

`reduction` says what the sum over the batch is divided by: nothing ("sum"), the number of examples N
("batchmean"), or the number of terms ("mean"; softmax cross-entropy has one term an example, the others one
an element). The gradient is that of the reduced loss. An empty batch has loss 0 by "sum" and NaN by the
means, and an empty gradient.
"""

from __future__ import annotations

import numpy as np

from fastnn.backend import Backend
from fastnn.functional._check import Array, as_array, bad_shapes, common_backend, place, same_shape

_INT64 = np.dtype(np.int64)


def _scale(reduction: str, terms: int, examples: int) -> float:
    """What the sum is multiplied by; NaN for the mean of nothing."""
    if reduction == "mean":
        return 1.0 / terms if terms else float("nan")
    if reduction == "batchmean":
        return 1.0 / examples if examples else float("nan")
    if reduction == "sum":
        return 1.0
    raise ValueError(f'reduction must be "mean", "batchmean" or "sum", not {reduction!r}')


def _of_nothing(backend: Backend, x: Array, scale: float) -> tuple[float, Array]:
    return 0.0 * scale, backend.xp.empty_like(x)


def _labels(targets: np.ndarray, classes: int) -> np.ndarray:
    """Host labels as int64, each checked to be 0 ... classes − 1."""
    labels = targets if targets.dtype is _INT64 else targets.astype(_INT64)
    # As unsigned numbers negative labels are too large as well: one reduction checks both ends.
    if labels.size and np.maximum.reduce(labels.view(np.uint64)) >= classes:
        wrong = int(targets[(targets < 0) | (targets >= classes)][0])
        raise ValueError(
            f"targets holds the label {wrong}, but logits has {classes} classes: "
            f"labels are 0 ... {classes - 1}"
        )
    return labels


def softmax_cross_entropy(logits: Array, targets: Array, *, reduction: str = "mean") -> tuple[float, Array]:
    """Cross-entropy of softmax probabilities, stable for any finite logits.

    ``loss = −Σ t · log softmax(logits)``, reduced; ``grad = (softmax(logits) − t)``, reduced alike, for
    targets that sum to 1 (in general softmax is multiplied by their sum). A label stands for the t with a one
    in its place.

    Parameters
    ----------
    logits : array (N, K)
    targets : integer array (N,), or array (N, K) of the dtype of `logits`
        Labels 0 ... K − 1, or probabilities.
    reduction : {"mean", "batchmean", "sum"}
        The first two both divide by N.

    Returns
    -------
    loss : float
    grad : array (N, K)
        Gradient of the loss with respect to `logits`.

    Raises
    ------
    TypeError
        `logits` is not a float32 or float64 array, or `targets` neither of integers nor of that dtype.
    ValueError
        The shapes do not fit, or a label is none of 0 ... K − 1. (Labels that are on a GPU already are not
        read for this: it would wait for the device.)

    References
    ----------
    Bridle (1990), "Probabilistic interpretation of feedforward classification network outputs".
    """
    if type(targets) is not np.ndarray:
        targets = as_array("targets", targets)
    if targets.dtype.kind in "iu":
        backend, (logits,) = place(("logits",), logits)
        if logits.ndim != 2 or targets.shape != logits.shape[:1]:
            want = "logits (N, K), integer targets (N,); one-hot targets must be of the dtype of logits"
            bad_shapes("softmax_cross_entropy", want, logits=logits, targets=targets)
        if type(targets) is np.ndarray:
            targets = _labels(targets, logits.shape[1])
        if type(targets) is not np.ndarray or backend.room == "cuda":
            backend = common_backend(logits, targets)
            logits, targets = backend.asarray(logits), backend.asarray(targets)
    else:
        backend, (logits, targets) = place(("logits", "targets"), logits, targets)
        if logits.ndim != 2 or targets.shape != logits.shape:
            want = "logits (N, K), targets (N, K) or integer labels (N,)"
            bad_shapes("softmax_cross_entropy", want, logits=logits, targets=targets)
    examples = logits.shape[0]
    scale = _scale(reduction, examples, examples)
    if logits.size == 0:
        return _of_nothing(backend, logits, scale)
    return backend.loss.softmax_cross_entropy(logits, targets, scale)


def sigmoid_cross_entropy(logits: Array, targets: Array, *, reduction: str = "mean") -> tuple[float, Array]:
    """Binary cross-entropy of sigmoid probabilities, an element at a time, stable for any finite logit.

    ``loss = Σ (max(z, 0) − z t + log(1 + exp(−|z|)))``, reduced; ``grad = σ(z) − t``, reduced alike.

    Parameters
    ----------
    logits : array (N, ...)
    targets : array of that shape and dtype
        Probabilities: 0, 1, or between.
    reduction : {"mean", "batchmean", "sum"}

    Returns
    -------
    loss : float
    grad : array, as logits
        Gradient of the loss with respect to `logits`.

    Raises
    ------
    TypeError
        The arrays are not both float32 or both float64.
    ValueError
        Their shapes differ.
    """
    backend, (logits, targets) = place(("logits", "targets"), logits, targets)
    if logits.shape != targets.shape or not logits.ndim:
        same_shape("logits", logits, "targets", targets)
    scale = _scale(reduction, logits.size, logits.shape[0])
    if logits.size == 0:
        return _of_nothing(backend, logits, scale)
    return backend.loss.sigmoid_cross_entropy(logits, targets, scale)


def mse(pred: Array, target: Array, *, reduction: str = "mean", factor: float = 1.0) -> tuple[float, Array]:
    """Squared error.

    ``loss = factor · Σ (pred − target)²``, reduced; ``grad = 2 · factor · (pred − target)``, reduced alike.

    Parameters
    ----------
    pred : array (N, ...)
    target : array of that shape and dtype
    reduction : {"mean", "batchmean", "sum"}
        "batchmean" with `factor` 0.5 is the ``1/(2N) Σ (pred − target)²`` of the textbooks.
    factor : float

    Returns
    -------
    loss : float
    grad : array, as pred
        Gradient of the loss with respect to `pred`.

    Raises
    ------
    TypeError
        The arrays are not both float32 or both float64.
    ValueError
        Their shapes differ.
    """
    backend, (pred, target) = place(("pred", "target"), pred, target)
    if pred.shape != target.shape or not pred.ndim:
        same_shape("pred", pred, "target", target)
    scale = float(factor) * _scale(reduction, pred.size, pred.shape[0])
    if pred.size == 0:
        return _of_nothing(backend, pred, scale)
    return backend.loss.mse(pred, target, scale)
