"""Scores of predictions, for arrays on either device. Labels count from 0."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.backend import backend_of, is_device_array


def accuracy(logits: Any, targets: Any, threshold: float = 0.5) -> float:
    """The share of examples whose predicted class is the true one; NaN for no examples.

    Parameters
    ----------
    logits : (N, K), (N, 1) or (N,)
        The prediction is the largest of K scores (the first of equals); from a single score it is class 1
        where ``score >= threshold``.
    targets : (N,) labels, or (N, K) one-hot rows (or probabilities, of which the largest counts)
        With a single score, (N, 1) labels 0 and 1 too.
    threshold : float
        Read only where there is a single score.

    Raises
    ------
    ValueError
        The shapes do not go together.
    """
    logits, targets = _on_one_device(logits, targets)
    true, predicted = _labels(targets, None), _labels(logits, threshold)
    if true.shape != predicted.shape:
        raise ValueError(f"logits of shape {logits.shape} do not go with targets of shape {targets.shape}")
    return _share(predicted == true)


def top_k_accuracy(logits: Any, targets: Any, k: int) -> float:
    """The share of examples whose true class has one of the `k` largest scores.

    Equal scores count against the example: the true class is in if fewer than `k` others are at least as
    large. NaN scores never are in.

    Parameters
    ----------
    logits : (N, K)
    targets : (N,) labels, or (N, K) one-hot rows
    k : int
        1 <= k <= K.

    Raises
    ------
    ValueError
        The shapes do not go together, or `k` or a label is out of range.
    """
    logits, targets = _on_one_device(logits, targets)
    true = _labels(targets, None)
    if logits.ndim != 2 or true.shape != logits.shape[:1]:
        raise ValueError(f"logits of shape {logits.shape} do not go with targets of shape {targets.shape}")
    classes = logits.shape[1]
    if not 1 <= k <= classes:
        raise ValueError(f"k must be in 1 ... {classes}, the number of classes, got {k}")
    _check_labels(true, classes, "targets")
    xp = np if isinstance(logits, np.ndarray) else backend_of(logits).xp
    own = xp.take_along_axis(logits, true[:, None], axis=1)
    others_as_large = (logits >= own).sum(axis=1) - 1
    return _share((others_as_large < k) & (own[:, 0] == own[:, 0]))


def confusion_matrix(pred: Any, true: Any, classes: int, normalize: str | None = None) -> np.ndarray:
    """How often each true class (row) was taken for each class (column).

    Parameters
    ----------
    pred : (N,) labels, or (N, K) scores of which the largest counts
    true : (N,) labels, or (N, K) one-hot rows
    classes : int
        How many classes there are.
    normalize : {None, "true"}
        None: counts, int64. "true": shares of the row's examples, float64; NaN in the row of a class without
        examples.

    Returns
    -------
    (classes, classes) NumPy array

    Raises
    ------
    ValueError
        The numbers of examples differ, or a label is not in ``0 ... classes - 1``.
    """
    if normalize not in (None, "true"):
        raise ValueError(f'normalize must be None or "true", got {normalize!r}')
    rows, columns = _host_labels(pred, true, classes)
    pairs = rows.astype(np.int64) * classes + columns.astype(np.int64)
    counts = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    if normalize is None:
        return counts
    totals = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)


def per_class(pred: Any, true: Any, classes: int) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of each class, by scikit-learn: accuracy speaks of the frequent classes only.

    Parameters
    ----------
    pred, true, classes
        As of :func:`confusion_matrix`.

    Returns
    -------
    dict of (classes,) NumPy arrays
        ``"precision"``: the share of those taken for the class that are of it. ``"recall"``: the share of
        those of the class that were taken for it. ``"f1"``: the harmonic mean of both. ``"examples"``: how
        many there are. What would be divided by zero is 0.

    Raises
    ------
    ImportError
        scikit-learn is not installed; the message says what to install.
    ValueError
        As :func:`confusion_matrix`.
    """
    true, pred = _host_labels(pred, true, classes)
    scores = _sklearn().precision_recall_fscore_support(true, pred, labels=range(classes), zero_division=0)
    return dict(zip(("precision", "recall", "f1", "examples"), scores, strict=True))


def roc_auc(logits: Any, targets: Any) -> float:
    """The area under the ROC curve, for two classes, by scikit-learn: how likely an example of class 1 has a
    larger score than one of class 0, whatever the threshold.

    Parameters
    ----------
    logits : (N,), (N, 1), or (N, 2) scores
        Of class 1, or of class 0 and class 1, whose difference counts.
    targets : (N,) labels 0 and 1, or (N, 1), or (N, 2) one-hot rows

    Raises
    ------
    ImportError
        scikit-learn is not installed; the message says what to install.
    ValueError
        The shapes do not go together, or the examples are not of two classes.
    """
    scores, true = (backend_of(x).to_numpy(x) for x in (logits, targets))
    if scores.ndim == 2 and scores.shape[1] == 2:
        scores = scores[:, 1] - scores[:, 0]
    scores, true = scores.reshape(len(scores), -1), _labels(true, None)
    if scores.shape != (len(true), 1):
        raise ValueError(f"logits of shape {logits.shape} do not go with targets of shape {targets.shape}")
    if set(np.unique(true)) != {0, 1}:
        raise ValueError(f"need examples of the classes 0 and 1, got {np.unique(true)[:5].tolist()}")
    return float(_sklearn().roc_auc_score(true, scores[:, 0]))


def _sklearn() -> Any:
    try:
        from sklearn import metrics
    except ImportError as error:
        raise ImportError("this metric needs scikit-learn: pip install 'fastnn-kernels[data]'") from error
    return metrics


def _host_labels(pred: Any, true: Any, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted labels, checked."""
    rows, columns = _labels(true, None), _labels(pred, None)
    rows, columns = backend_of(rows).to_numpy(rows), backend_of(columns).to_numpy(columns)
    if rows.shape != columns.shape:
        raise ValueError(
            f"predictions of shape {pred.shape} do not go with true classes of shape {true.shape}"
        )
    _check_labels(rows, classes, "true")
    _check_labels(columns, classes, "pred")
    return rows, columns


def _on_one_device(a: Any, b: Any) -> tuple[Any, Any]:
    """Both on the GPU where one of them is."""
    if is_device_array(a) == is_device_array(b):
        return a, b
    backend = backend_of(a if is_device_array(a) else b)
    return backend.asarray(a), backend.asarray(b)


def _labels(x: Any, threshold: float | None) -> Any:
    """One label an example: `x` itself, the place of each row's largest value, or whether the only one
    reaches `threshold`.
    """
    if x.ndim == 2 and x.shape[1] > 1:
        return x.argmax(axis=1)
    if x.ndim == 2 and x.shape[1] == 1:
        x = x[:, 0]
    if x.ndim != 1:
        raise ValueError(f"need labels (N,) or scores (N, K), got shape {x.shape}")
    return x if threshold is None else x >= threshold


def _check_labels(labels: Any, classes: int, what: str) -> None:
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(
            f"labels in {what} must be in 0 ... {classes - 1}, got {labels.min()} ... {labels.max()}"
        )


def _share(right: Any) -> float:
    return float(right.mean()) if right.size else math.nan
