"""Scores of predictions."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastnn import metrics

LOGITS = np.array(
    [[1, 2, 0], [5, 1, 1], [0, 0, 3], [2, 2, 1]], np.float32
)  # predicts 1, 0, 2, 0 (a tie: the first)

LABELS = np.array([0, 1])


def test_accuracy_of_labels() -> None:
    assert metrics.accuracy(LOGITS, np.array([1, 0, 0, 0])) == 0.75


def test_accuracy_of_one_hot_targets_is_that_of_their_labels() -> None:
    labels = np.array([1, 2, 2, 0])
    assert metrics.accuracy(LOGITS, np.eye(3)[labels]) == metrics.accuracy(LOGITS, labels) == 0.75


@pytest.mark.parametrize("logits_shape", [(4, 1), (4,)])
@pytest.mark.parametrize("targets_shape", [(4, 1), (4,)])
@pytest.mark.parametrize("dtype", [np.int64, np.float32, bool])
def test_accuracy_of_one_logit_compares_with_the_threshold(
    logits_shape: tuple[int, ...], targets_shape: tuple[int, ...], dtype: type
) -> None:
    logits = np.array([-1, 0.5, 0.4, 3], np.float32).reshape(logits_shape)
    targets = np.array([0, 1, 1, 1]).astype(dtype).reshape(targets_shape)
    assert metrics.accuracy(logits, targets) == 0.75
    assert metrics.accuracy(logits, targets, threshold=0.0) == 1.0


def test_metrics_of_nothing_are_nan() -> None:
    assert math.isnan(metrics.accuracy(np.empty((0, 3)), np.empty(0, int)))
    assert math.isnan(metrics.top_k_accuracy(np.empty((0, 3)), np.empty(0, int), 2))


def test_accuracy_refuses_shapes_that_do_not_go_together() -> None:
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(3,\)"):
        metrics.accuracy(LOGITS, np.array([1, 0, 2]))
    with pytest.raises(ValueError, match=r"\(4, 3, 1\)"):
        metrics.accuracy(LOGITS[..., None], np.array([1, 0, 2, 0]))


def test_top_k_accuracy_counts_a_label_among_the_k_largest() -> None:
    labels = np.array([2, 1, 1, 1])
    assert metrics.top_k_accuracy(LOGITS, labels, 1) == 0.0
    # Row 1 is [5, 1, 1] with label 1: tied for second, so not surely within two. Row 3 is [2, 2, 1]: within
    # two.
    assert metrics.top_k_accuracy(LOGITS, labels, 2) == 0.25
    assert metrics.top_k_accuracy(LOGITS, labels, 3) == 1.0
    assert metrics.top_k_accuracy(LOGITS, np.eye(3)[labels], 2) == 0.25


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
def test_top_k_accuracy_is_that_of_sorting(seed: int, k: int, classes: int) -> None:
    k = min(k, classes)
    rng = np.random.default_rng(seed)
    logits, labels = rng.standard_normal((11, classes)), rng.integers(0, classes, 11)
    best = np.argsort(-logits, axis=1)[:, :k]
    assert metrics.top_k_accuracy(logits, labels, k) == pytest.approx(
        (best == labels[:, None]).any(axis=1).mean()
    )


def test_top_k_accuracy_never_finds_nan() -> None:
    assert metrics.top_k_accuracy(np.full((2, 3), np.nan), np.array([0, 1]), 3) == 0.0


@pytest.mark.parametrize(("k", "label"), [(0, 1), (4, 1), (2, 3), (2, -1)])
def test_top_k_accuracy_refuses_k_and_labels_out_of_range(k: int, label: int) -> None:
    with pytest.raises(ValueError):
        metrics.top_k_accuracy(LOGITS, np.array([0, 1, 2, label]), k)


def test_confusion_matrix_has_true_classes_in_rows() -> None:
    counts = metrics.confusion_matrix(np.array([0, 1, 1, 2, 1]), np.array([0, 1, 2, 2, 1]), 4)
    np.testing.assert_array_equal(counts, [[1, 0, 0, 0], [0, 2, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    assert counts.dtype == np.int64


def test_confusion_matrix_takes_scores_and_one_hot_rows() -> None:
    labels = np.array([1, 2, 2, 0])
    expected = metrics.confusion_matrix(LOGITS.argmax(1), labels, 3)
    np.testing.assert_array_equal(metrics.confusion_matrix(LOGITS, np.eye(3)[labels], 3), expected)


def test_confusion_matrix_normalised_by_true_class_has_rows_that_sum_to_one() -> None:
    shares = metrics.confusion_matrix(
        np.array([0, 1, 1, 2, 1]), np.array([0, 1, 2, 2, 1]), 4, normalize="true"
    )
    np.testing.assert_array_equal(shares[:3], [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0.5, 0.5, 0]])
    assert np.isnan(shares[3]).all()  # a class without examples has no shares


@pytest.mark.parametrize(("pred", "true"), [([3], [0]), ([0], [3]), ([-1], [0]), ([0, 1], [0])])
def test_confusion_matrix_refuses_labels_out_of_range_and_other_lengths(
    pred: list[int], true: list[int]
) -> None:
    with pytest.raises(ValueError):
        metrics.confusion_matrix(np.array(pred), np.array(true), 3)


def test_confusion_matrix_refuses_an_unknown_normalisation() -> None:
    with pytest.raises(ValueError, match="pred"):
        metrics.confusion_matrix(np.array([0]), np.array([0]), 3, normalize="pred")


def test_precision_recall_and_f1_of_each_class() -> None:
    pytest.importorskip("sklearn")
    true, pred = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 1, 0, 0])
    found = metrics.per_class(pred, true, 4)
    np.testing.assert_allclose(found["precision"], [3 / 5, 1 / 2, 0, 0])
    np.testing.assert_allclose(found["recall"], [3 / 4, 1 / 2, 0, 0])
    np.testing.assert_allclose(found["f1"], [2 / 3, 1 / 2, 0, 0])
    np.testing.assert_array_equal(found["examples"], [4, 2, 1, 0])
    from_scores = metrics.per_class(np.eye(4)[pred], np.eye(4)[true], 4)
    np.testing.assert_array_equal(from_scores["f1"], found["f1"])
    with pytest.raises(ValueError, match=r"labels in pred must be in 0 \.\.\. 2"):
        metrics.per_class(np.array([3]), np.array([0]), 3)


def test_roc_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    labels = (rng.random(200) < 0.2).astype(np.int64)
    scores = (rng.standard_normal(200) + labels).astype(np.float32)
    pairs = scores[labels == 1][:, None] - scores[labels == 0]
    share = float((pairs > 0).mean())
    assert metrics.roc_auc(scores, labels) == pytest.approx(share)
    assert metrics.roc_auc(scores[:, None], labels[:, None].astype(np.float32)) == pytest.approx(share)
    assert metrics.roc_auc(np.stack([-scores, scores], 1), np.eye(2)[labels]) == pytest.approx(share)
    with pytest.raises(ValueError, match="do not go with targets"):
        metrics.roc_auc(scores[:5], labels)
    with pytest.raises(ValueError, match="classes 0 and 1"):
        metrics.roc_auc(scores, 0 * labels)
    with pytest.raises(ValueError, match="do not go with targets"):
        metrics.roc_auc(np.zeros((4, 3)), np.array([0, 1, 0, 1]))


def test_metrics_by_scikit_learn_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    for call in (lambda: metrics.per_class(LABELS, LABELS, 2), lambda: metrics.roc_auc(LABELS, LABELS)):
        with pytest.raises(ImportError, match="fastnn-kernels"):
            call()
