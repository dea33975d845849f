"""Products with a matrix that is mostly zeros: which go the way of kernels/cpu/_mostly_zeros.py, and that
nobody can tell from what they give. (tests/test_parity_linear.py bounds their accuracy.)"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import optim
from fastnn.functional import softmax_cross_entropy
from fastnn.kernels.cpu import _mostly_zeros, _program, linear, threads
from fastnn.training import TrainingStep
from tests import cases, parity

each_case = pytest.mark.parametrize("case", cases.LINEAR_ZEROS, ids=cases.by_name)
each_dtype = pytest.mark.parametrize("dtype", parity.DTYPES)


class Ways:
    """Which products since were computed this way, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: list[bool] = []
        product = _mostly_zeros.product

        def noted(*arguments: Any) -> np.ndarray:
            done = product(*arguments)
            self.found.append(bool(done[0]))
            return done

        monkeypatch.setattr(_mostly_zeros, "product", noted)


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    return Ways(monkeypatch)


def both(case: cases.Linear, operands: Any) -> list[np.ndarray]:
    """The product, and the gradients of weight and bias."""
    x, weight, bias, grad = operands
    return [
        linear.linear(x, weight, bias, case.activation),
        *linear.linear_backward(grad, x, weight, False)[1:],
    ]


@each_dtype
@each_case
def test_both_products_go_this_way_and_give_the_bits_of_the_other(
    case: cases.Linear, dtype: Any, ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    operands = case.operands(dtype)
    found = both(case, operands)
    roomy = linear._room(operands[0], operands[3]).size > 0  # gradients from memory are packed
    went = [True] if roomy else [True, True]
    assert ways.found == went
    monkeypatch.setattr(_mostly_zeros, "possible", lambda *shape: False)
    for actual, expected in zip(found, both(case, operands), strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert ways.found == went


def test_one_row_of_numbers_among_those_looked_at_is_enough_for_the_other_way(ways: Ways) -> None:
    case = cases.LINEAR_ZEROS[0]
    x, weight, bias, grad = case.operands()
    for row in (0, case.n - 1):
        some = x.copy()
        some[row] = 1
        both(case, (some, weight, bias, grad))
    assert ways.found == [False] * 4


def test_only_large_products_of_several_columns_are_looked_at() -> None:
    assert _mostly_zeros.possible((48, 512), 16)
    assert not _mostly_zeros.possible((47, 512), 16)
    assert not _mostly_zeros.possible((48, 511), 16)
    assert not _mostly_zeros.possible((48, 512), 15)


def test_the_digits_of_mnist_go_this_way(ways: Ways) -> None:
    from fastnn import data

    try:
        x = data.scale(data.load_mnist().x_test[:256]).reshape(256, 784)
    except data.DataNotFound as reason:
        pytest.skip(str(reason))
    _, weight, bias, grad = cases.Linear("", 256, 784, 64).operands()
    both(cases.Linear("", 256, 784, 64), (x, weight, bias, grad))
    assert ways.found == [True, True]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (-1, -1), (300, 7)], ids=str)
def test_zero_times_what_is_not_finite_is_nan_as_in_numpy(
    value: float, place: tuple[int, int], ways: Ways
) -> None:
    case = cases.LINEAR_ZEROS[0]
    x, weight, _, grad = case.operands()
    weight[place] = value
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(np.isnan(linear.linear(x, weight, None, None)), np.isnan(x @ weight))
        grad[place[0] % case.n, place[1]] = value
        _, grad_weight, _ = linear.linear_backward(grad, x, weight, False)
        np.testing.assert_array_equal(np.isnan(grad_weight), np.isnan(x.T @ grad))
    assert ways.found == [False, False]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_the_zeros_stays_in_its_row_and_its_column(value: float, ways: Ways) -> None:
    case = cases.LINEAR_ZEROS[0]
    x, weight, bias, grad = case.operands()
    x[17, 23] = value
    out = linear.linear(x, weight, bias, None)
    _, grad_weight, _ = linear.linear_backward(grad, x, weight, False)
    assert ways.found == [True, True]
    assert not np.isfinite(out[17]).any()
    assert np.isfinite(np.delete(out, 17, axis=0)).all()
    assert not np.isfinite(grad_weight[23]).any()
    assert np.isfinite(np.delete(grad_weight, 23, axis=0)).all()


@each_case
def test_threads_change_no_bit(case: cases.Linear) -> None:
    operands = case.operands()
    before, found = threads.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            threads.set_num_threads(count)
            found.append(both(case, operands))
    finally:
        threads.set_num_threads(before)
    for results in found[1:]:
        for actual, expected in zip(results, found[0], strict=True):
            np.testing.assert_array_equal(actual, expected)


CASE = cases.Linear("", 64, 784, 32, zeros=0.85)
BATCHES = {"digits": CASE.operands()[0], "dense": CASE._replace(zeros=0.0).operands()[0]}


def network_and_step() -> tuple[fastnn.Sequential, optim.SGD, TrainingStep]:
    fastnn.seed(0)
    net = fastnn.Sequential(fastnn.Linear(784, 32), fastnn.ReLU(), fastnn.Linear(32, 10))
    sgd = optim.SGD(net.parameters(), 0.01, momentum=0.9)
    return net, sgd, TrainingStep(net, softmax_cross_entropy, sgd)


@pytest.mark.parametrize("first", ["digits", "dense"])
def test_a_step_recorded_with_either_kind_of_batch_takes_the_other(first: str) -> None:
    batches, labels = BATCHES, np.arange(CASE.n) % 10
    order = [first] * 4 + ["dense", "digits"] * 3
    found = []
    for recorded in (True, False):
        net, sgd, step = network_and_step()
        losses = []
        for name in order:
            if recorded:
                losses.append(step(batches[name], labels))
                continue
            loss, grad = softmax_cross_entropy(net.forward(batches[name], training=True), labels)
            net.backward(grad, input_grad=False)
            sgd.step()
            losses.append(loss)
        found.append((losses, [parameter.data.copy() for parameter in net.parameters()]))
    assert found[0][0] == found[1][0]
    for actual, expected in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_a_step_recorded_with_other_batches_goes_this_way_some_time_after_they_are_mostly_zeros(
    ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_program, "_LOOK", 5)
    labels, (_, _, step) = np.arange(CASE.n) % 10, network_and_step()
    for _ in range(12):
        step(BATCHES["dense"], labels)
    assert ways.found == [False] * 6  # the third is recorded
    for _ in range(12):
        step(BATCHES["digits"], labels)
    assert set(ways.found[6:]) == {True}
    count = len(ways.found)
    for _ in range(3):
        step(BATCHES["digits"], labels)
    assert len(ways.found) == count  # recorded again


def test_inference_recorded_with_other_inputs_goes_this_way_likewise(
    ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_program, "_LOOK", 5)
    net, _, _ = network_and_step()
    for name in ("dense", "digits", "digits"):
        before = len(ways.found)
        for _ in range(12):
            net(BATCHES[name])
    assert set(ways.found[:3]) == {False}
    assert set(ways.found[3:]) == {True}
    assert len(ways.found) == before  # recorded again


@pytest.mark.parametrize("name", BATCHES)
def test_a_recorded_step_keeps_no_batch(name: str) -> None:
    labels, (_, _, step), batch = np.arange(CASE.n) % 10, network_and_step(), BATCHES[name].copy()
    for _ in range(5):
        step(batch, labels)
    kept = weakref.ref(batch)
    del batch
    assert kept() is None


def test_nothing_is_compiled_for_zeros_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(_mostly_zeros, "_codes")
    x, weight, bias, grad = CASE._replace(zeros=0.0).operands()
    both(CASE, (x, weight, bias, grad))
    with pytest.raises(NameError):
        both(CASE, (BATCHES["digits"], weight, bias, grad))
