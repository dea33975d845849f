"""Losses: of scores (N, C, ...) for labels (N, ...), each label perhaps with a weight, or ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn.functional as F
from fastnn.backend import get_backend
from fastnn.onnx_backend.node import Array, Node, operator

_REDUCTIONS = ("none", "sum", "mean")


@operator("SoftmaxCrossEntropyLoss", 12, 13)
def softmax_cross_entropy_loss(node: Node) -> Callable[..., Any]:
    reduction = node.choice("reduction", "mean", _REDUCTIONS)
    ignored = node.attribute("ignore_index", None)

    def compute(scores: Array, labels: Array, weights: Array | None = None) -> Any:
        log_prob = F.log_softmax(scores, axis=1) if reduction == "none" or node.wants(1) else None
        if reduction == "none":
            return _likelihoods(log_prob, labels, weights, ignored)[0], log_prob
        return _cross_entropy(scores, labels, weights, ignored, reduction), log_prob

    return compute


def _cross_entropy(
    scores: Array, labels: Array, weights: Array | None, ignored: int | None, reduction: str
) -> Array:
    """The reduced loss, by fastnn's loss of rows; a weighted label is a row of targets that sums to it."""
    backend = get_backend()
    xp, labels = backend.xp, backend.asarray(labels).reshape(-1)
    rows = xp.moveaxis(scores, 1, -1).reshape(labels.size, scores.shape[1])
    if ignored is not None:
        kept = labels != ignored
        rows, labels = rows[kept], labels[kept]
    if weights is None:
        return xp.asarray(F.softmax_cross_entropy(rows, labels, reduction=reduction)[0], scores.dtype)
    weights = weights[_checked(labels, scores.shape[1])]
    targets = xp.zeros_like(rows)
    targets[xp.arange(labels.size), labels] = weights
    total = xp.asarray(F.softmax_cross_entropy(rows, targets, reduction="sum")[0], scores.dtype)
    return total / weights.sum() if reduction == "mean" else total


@operator("NegativeLogLikelihoodLoss", 12, 13, 22)
def negative_log_likelihood_loss(node: Node) -> Callable[..., Any]:
    reduction = node.choice("reduction", "mean", _REDUCTIONS)
    ignored = node.attribute("ignore_index", None)

    def compute(log_prob: Array, labels: Array, weights: Array | None = None) -> Array:
        losses, weights = _likelihoods(log_prob, labels, weights, ignored)
        if reduction == "none":
            return losses
        return losses.sum() / weights.sum() if reduction == "mean" else losses.sum()

    return compute


def _likelihoods(
    log_prob: Array, labels: Array, weights: Array | None, ignored: int | None
) -> tuple[Array, Array]:
    """The weighted loss of each label, and the weights; both 0 for an ignored one."""
    backend = get_backend()
    xp, labels = backend.xp, backend.asarray(labels)
    kept = labels != ignored if ignored is not None else xp.ones(labels.shape, "bool")
    labels = _checked(xp.where(kept, labels, 0), log_prob.shape[1])
    chosen = xp.take_along_axis(log_prob, xp.expand_dims(labels, 1), axis=1)[:, 0]
    weight = xp.ones_like(chosen) if weights is None else weights[labels]
    weight = xp.where(kept, weight, xp.zeros_like(weight))
    return -chosen * weight, weight


def _checked(labels: Array, classes: int) -> Array:
    """`labels`; ValueError where one is no class (on a GPU that is not read, as everywhere in fastnn)."""
    if isinstance(labels, np.ndarray) and labels.size and not 0 <= labels.min() <= labels.max() < classes:
        wrong = labels[(labels < 0) | (labels >= classes)][0]
        raise ValueError(f"there is a label {wrong}, but labels are 0 ... {classes - 1}")
    return labels
