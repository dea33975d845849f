"""kernels/cpu/loss.py against kernels/reference/loss.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastnn.kernels.cpu import loss as cpu
from fastnn.kernels.reference import loss as reference
from tests import cases, parity


def rounding(name: str, pred: np.ndarray, targets: np.ndarray) -> tuple[Any, Any]:
    """The magnitude of each term of the loss, and of each entry of the gradient, before scaling."""
    finite = np.where(np.isfinite(pred), pred, 1)
    if name == "mse":
        size = np.abs(finite) + np.abs(np.where(np.isfinite(targets), targets, 1))
        return size**2, 2 * size
    if name == "sigmoid_cross_entropy":
        return 1 + np.abs(finite) * (1 + np.abs(targets)), 1 + np.abs(targets)
    largest = 1 + np.abs(finite) + np.log(max(1, pred.shape[1]))
    return largest.max(1, keepdims=True, initial=0) * np.ones_like(largest), 2 + np.abs(finite)


def assert_loss(name: str, pred: np.ndarray, targets: np.ndarray, scale: float) -> None:
    value, grad = parity.call(getattr(cpu, name), pred, targets, scale)
    assert type(value) is float
    wide, wide_targets = parity.wide(pred, targets)
    with np.errstate(all="ignore"):
        expected, expected_grad = getattr(reference, name)(wide, wide_targets, scale)
        terms, entries = rounding(name, wide, wide_targets)
    unit = (8 + 4 * max(1, pred.shape[1]) ** 0.5) * np.finfo(pred.dtype).eps * scale
    parity.assert_close(value, expected, unit * terms.sum(), f"{name}: loss")
    parity.assert_close(grad, expected_grad, unit * entries, f"{name}: grad")


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("case", cases.LOSS_REAL + cases.LOSS_ODD, ids=cases.by_name)
def test_loss_and_its_gradient_match_the_reference(case: cases.Loss, dtype: Any) -> None:
    pred, targets = case.operands(dtype)
    assert_loss(case.loss, pred, targets, 1 / max(1, len(pred)))


pairs = st.tuples(st.integers(0, 40), st.integers(1, 40))


@given(
    st.sampled_from(("softmax_cross_entropy", "sigmoid_cross_entropy", "mse")),
    pairs,
    parity.dtypes,
    st.tuples(parity.layouts, parity.layouts),
    parity.seeds,
    st.sampled_from((1.0, 0.37)),
    st.booleans(),
)
def test_loss_matches_for_any_shape_and_memory(name, shape, dtype, layout, seed, scale, special) -> None:
    pred = parity.floats(seed, shape, dtype) * dtype(4)
    if special:
        pred = parity.plant(pred, seed)
    targets = np.abs(parity.floats(seed + 1, shape, dtype))
    if name == "softmax_cross_entropy":
        total = targets.sum(1, keepdims=True)
        targets = targets / total if scale == 1 else targets / (2 * total)  # they need not add up to one
    assert_loss(name, parity.arrange(pred, layout[0]), parity.arrange(targets, layout[1]), scale)


@given(
    pairs,
    parity.dtypes,
    st.sampled_from((np.int64, np.int32, np.uint8)),
    st.tuples(parity.layouts, st.sampled_from(("C", "sliced", "reversed", "readonly"))),
    parity.seeds,
)
def test_softmax_cross_entropy_matches_for_labels_of_any_integer_type(
    shape, dtype, labels, layout, seed
) -> None:
    pred = parity.floats(seed, shape, dtype, layout[0])
    targets = np.random.default_rng(seed).integers(0, shape[1], shape[0])
    if layout[1] == "sliced":
        targets = np.repeat(targets, 2).astype(labels)[::2]
    else:
        targets = parity.arrange(targets.astype(labels), layout[1])
    assert_loss("softmax_cross_entropy", pred, targets, 1.0)


@pytest.mark.parametrize("dtype", parity.DTYPES)
def test_cross_entropies_are_exact_for_logits_far_past_the_range_of_exp(dtype: Any) -> None:
    logits = np.array([[30000, -30000], [-30000, 30000]], dtype)
    value, grad = cpu.softmax_cross_entropy(logits, np.array([0, 0]), 1.0)
    assert value == 60000
    np.testing.assert_array_equal(grad, [[0, 0], [-1, 1]])
    value, grad = cpu.sigmoid_cross_entropy(logits, np.array([[1, 0], [1, 0]], dtype), 1.0)
    assert value == 60000
    np.testing.assert_array_equal(grad, [[0, 0], [-1, 1]])


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("columns", [1, 10, 16, 300])
def test_a_label_that_is_none_makes_the_loss_nan_and_is_looked_up_nowhere(columns: int, dtype: Any) -> None:
    """``F`` refuses it; a kernel meets it where a step is repeated."""
    logits = parity.floats(0, (37, columns), dtype)
    labels = np.arange(37) % columns
    _, expected = cpu.softmax_cross_entropy(logits, labels, 1.0)
    for stray in (-1, columns, 1 << 30, -(1 << 30), 1 << 62, np.iinfo(np.int64).min, np.iinfo(np.int64).max):
        value, grad = cpu.softmax_cross_entropy(logits, np.where(np.arange(37) == 20, stray, labels), 1.0)
        assert np.isnan(value), stray
        if columns < 300:
            np.testing.assert_array_equal(np.delete(grad, 20, 0), np.delete(expected, 20, 0))


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "sigmoid_cross_entropy", "mse"])
def test_loss_and_its_gradient_match_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    pred, targets = cases.Loss("", name, (31, 7)).operands(np.float64)
    function = {
        "softmax_cross_entropy": torch.nn.functional.cross_entropy,
        "sigmoid_cross_entropy": torch.nn.functional.binary_cross_entropy_with_logits,
        "mse": torch.nn.functional.mse_loss,
    }[name]
    tensor = torch.from_numpy(pred).requires_grad_()
    expected = function(tensor, torch.from_numpy(targets), reduction="sum")
    expected.backward()
    value, grad = getattr(cpu, name)(pred, targets, 1.0)
    assert value == pytest.approx(expected.item(), rel=1e-13)
    np.testing.assert_allclose(grad, tensor.grad.numpy(), rtol=0, atol=1e-13)
