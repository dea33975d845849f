"""The gradient check: passes what is right, finds what is wrong, and reports both as the experiments ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import data, losses
from fastnn import layers as ly
from fastnn.gradcheck import check_direction, gradcheck
from tests import cases
from tests.backends import on_backend  # noqa: F401
from tests.test_sequential import toy


class WrongWeight(ly.Linear):
    """Off by 1 in one element of its weight's gradient."""

    def backward(self, grad: Any, input_grad: bool = True) -> Any:
        grad_x = super().backward(grad, input_grad)
        self.weight.grad[1, 2] += 1
        return grad_x


class WrongInput(ly.Linear):
    def backward(self, grad: Any, input_grad: bool = True) -> Any:
        return 1.01 * super().backward(grad, input_grad)


X, LABELS = cases.draw((4, 3), dtype=np.float64), np.array([0, 1, 2, 0])


def test_toy_network_passes_below_1e_8_as_published(backend: str) -> None:
    net, x, labels = toy()
    report = gradcheck(net, x, np.eye(3)[labels], losses.MSE("batchmean", 0.5), l2=0.05 / 2)
    for name, elements in {"2.weight": 30, "2.bias": 3, "0.weight": 40, "0.bias": 10, "input": 20}.items():
        assert report[name].checked == elements
        assert report[name].max_relative < (1e-7 if name == "input" else 1e-8), str(report)
        assert report[name].over_relative == report[name].over_absolute == 0
    assert gradcheck(net, x, labels, l2=0.05 / 2).max_absolute < 1e-9  # softmax cross-entropy


def test_forward_differences_are_faster_and_less_exact(backend: str) -> None:
    net, x, labels = toy()
    calls = 0

    def loss(output: Any, y: Any) -> Any:
        nonlocal calls
        calls += 1
        return F.softmax_cross_entropy(output, y)

    central = gradcheck(net, x, labels, loss)
    central_calls, calls = calls, 0
    forward = gradcheck(net, x, labels, loss, method="forward")
    assert (central_calls, calls) == (1 + 2 * 103, 1 + 103)
    assert central.max_absolute < 1e-9 < forward.max_absolute < 1e-6
    assert gradcheck(net, x, labels, h=1e-3).max_absolute > central.max_absolute  # h is taken


@pytest.mark.parametrize("method", ["central", "forward"])
def test_one_wrong_element_is_found_and_counted(backend: str, method: str) -> None:
    net = ly.Sequential(WrongWeight(3, 4, dtype=np.float64), ly.Tanh(), ly.Linear(4, 3, dtype=np.float64))
    report = gradcheck(net, X, LABELS, method=method, eps=1e-4)
    assert (report["0.weight"].over_absolute, report["0.weight"].over_relative) == (1, 1)
    assert report["0.weight"].max_absolute == pytest.approx(1, rel=1e-6)
    assert [e.over_absolute for e in report.entries if e.name != "0.weight"] == [0, 0, 0, 0]
    assert report.max_absolute == report["0.weight"].max_absolute


def test_a_wrong_input_gradient_is_found(backend: str) -> None:
    report = gradcheck(WrongInput(3, 3, dtype=np.float64), X, LABELS)
    assert report["input"].over_relative == 12
    assert report["input"].max_relative == pytest.approx(0.01 / 2.01, rel=1e-3)
    assert report["weight"].over_relative == 0


def test_a_gradient_of_nan_is_an_error(backend: str) -> None:
    class Broken(ly.Linear):
        def backward(self, grad: Any, input_grad: bool = True) -> Any:
            return np.nan * super().backward(grad, input_grad)

    report = gradcheck(Broken(3, 3, dtype=np.float64), X, LABELS)
    assert report["input"].over_relative == report["input"].over_absolute == 12
    assert np.isnan(report.max_relative)


def test_the_report_prints_as_a_table(backend: str) -> None:
    lines = str(gradcheck(WrongInput(3, 3, dtype=np.float64), X, LABELS)).splitlines()
    assert lines[0].startswith("gradient against central differences, h = 1.2e-05")
    titles = "checked max relative max absolute relative > 1e-06 absolute > 1e-06"
    assert " ".join(lines[1].split()) == titles
    assert [line.split()[0] for line in lines[2:]] == ["weight", "bias", "input"]
    assert lines[4].split()[-2:] == ["12", "12"]
    assert len({len(line) for line in lines[1:]}) == 1


def test_max_entries_checks_so_many_of_each(backend: str) -> None:
    layer = ly.Linear(40, 3, dtype=np.float64)
    x = cases.draw((5, 40), dtype=np.float64)
    report = gradcheck(layer, x, np.arange(5) % 3, max_entries=7)
    assert [(e.name, e.checked) for e in report.entries] == [("weight", 7), ("bias", 3), ("input", 7)]
    assert report.max_absolute < 1e-9
    with pytest.raises(KeyError, match="weight, bias, input"):
        report["1.weight"]


def test_the_model_and_the_data_are_left_as_they_were(backend: str) -> None:
    net = ly.Sequential(
        *(ly.Linear(3, 6, dtype=np.float64), ly.BatchNorm1d(6, dtype=np.float64), ly.Dropout(0.5)),
        ly.Linear(6, 3, dtype=np.float64),
    )
    before, x, streams = net.state_dict(), X.copy(), fastnn.backend.stream_state()
    report = gradcheck(net, x, LABELS)
    assert report.max_absolute < 1e-8, str(report)  # dropout keeps its mask, batch norm its batch
    assert fastnn.backend.stream_state() == streams
    np.testing.assert_array_equal(x, X)
    for name, values in net.state_dict().items():
        np.testing.assert_array_equal(values, before[name], name)


def test_arguments_that_make_no_sense_are_refused() -> None:
    with fastnn.use_backend("numpy"):
        layer = ly.Linear(3, 3, dtype=np.float64)
        with pytest.raises(ValueError, match="backward"):
            gradcheck(layer, X, LABELS, method="backward")
        for h in (0.0, -1.0, float("nan")):
            with pytest.raises(ValueError, match="h must be positive"):
                gradcheck(layer, X, LABELS, h=h)


def test_it_is_a_function_of_the_package() -> None:
    assert fastnn.gradcheck is gradcheck


def test_first_20_inputs_of_one_cifar_image_are_right_to_1e_6(backend: str, data_root: Path) -> None:
    x, labels = data.read_cifar_batch(data_root / "cifar-10-batches-py" / "data_batch_1")
    flat, _, _ = data.standardize(x.reshape(len(x), -1), dtype=np.float64)
    net = ly.Sequential(
        ly.Linear(20, 50, init="he_normal", dtype=np.float64), ly.ReLU(), ly.Linear(50, 10, dtype=np.float64)
    )
    for method in ("central", "forward"):
        report = gradcheck(net, flat[:1, :20].copy(), labels[:1], method=method, l2=0.01)
        assert [entry.over_absolute for entry in report.entries] == [0] * 5, str(report)


def conv(padding: int) -> tuple[Any, Any, list[np.ndarray]]:
    case = next(c for c in cases.CONV_REAL if c.name == "cifar10-cnn conv2")
    x, weight, bias, _ = case.operands(np.float64)

    def forward(x: Any, weight: Any, bias: Any) -> Any:
        return F.conv2d(x, weight, bias, padding=1)

    def backward(grad: Any) -> Any:
        return F.conv2d_backward(grad, x, weight, padding=padding)

    return forward, backward, [x, weight, bias]


def test_check_direction_passes_a_convolution_of_real_size(backend: str) -> None:
    forward, backward, operands = conv(padding=1)
    assert check_direction(forward, backward, operands) < 1e-8


def test_check_direction_finds_one_gradient_slightly_off(backend: str) -> None:
    forward, backward, operands = conv(padding=1)

    def wrong(grad: Any) -> Any:
        grad_x, grad_weight, grad_bias = backward(grad)
        return grad_x, grad_weight * 1.001, grad_bias

    assert check_direction(forward, wrong, operands) > 1e-5


def test_check_direction_works_a_whole_model_in_float32(backend: str) -> None:
    net = ly.Sequential(ly.Linear(30, 20), ly.Tanh(), ly.Linear(20, 10))
    x = cases.draw((16, 30))
    error = check_direction(lambda x: net.forward(x, training=True), net.backward, [x])
    assert error < 1e-3
    assert check_direction(lambda x: net.forward(x, training=True), lambda g: -net.backward(g), [x]) > 0.9
