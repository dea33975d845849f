"""A convolution and its max-pooling in a Sequential: one call, and the numbers of the layers alone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import layers as ly
from fastnn.layers import _conv_pool
from tests import cases
from tests.backends import on_backend  # noqa: F401

X = cases.draw((5, 3, 10, 9), dtype=np.float64)
CLOSE = {"rtol": 1e-11, "atol": 1e-13}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The activation of each call that convolves and pools."""
    found: list[str | None] = []
    original = _conv_pool.pooled

    def spy(*args: Any, **options: Any) -> Any:
        found.append(args[5])
        return original(*args, **options)

    monkeypatch.setattr(_conv_pool, "pooled", spy)
    return found


def convolution(**options: Any) -> ly.Conv2d:
    return ly.Conv2d(3, 4, 3, **{"padding": 1, "dtype": np.float64, **options})


def gradients(net: ly.Sequential) -> list[np.ndarray]:
    return [p.grad.copy() for p in net.parameters()]


def assert_as_its_layers_alone(net: ly.Sequential, x: np.ndarray = X) -> None:
    out = net.forward(x, training=True)
    grad = cases.draw(out.shape, 1, np.float64)
    grad_x, own = net.backward(grad), gradients(net)
    alone, back = x, grad
    for layer in net:
        alone = layer.forward(alone, training=True)
    for layer in reversed(list(net)):
        back = layer.backward(back)
    np.testing.assert_allclose(out, alone, **CLOSE)
    np.testing.assert_allclose(grad_x, back, **CLOSE)
    for ours, theirs in zip(own, gradients(net), strict=True):
        np.testing.assert_allclose(ours, theirs, **CLOSE)
    np.testing.assert_array_equal(net(x), out)  # inference is no other function than training


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", [ly.ReLU, ly.Sigmoid, ly.Tanh])
def test_convolution_activation_and_pooling_are_one_call_in_either_order(
    backend: str, seen: list, activation: Callable[[], ly.Layer], bias: bool
) -> None:
    window = {"kernel_size": 2, "stride": (2, 3), "padding": (1, 0), "ceil_mode": True}
    for layers in ([activation(), ly.MaxPool2d(**window)], [ly.MaxPool2d(**window), activation()]):
        net = ly.Sequential(convolution(bias=bias, stride=(1, 2), dilation=2), *layers)
        assert_as_its_layers_alone(net)
        assert seen == [activation.fused_as] * 2
        seen.clear()


def test_a_pair_without_an_activation_is_one_call_wherever_it_stands(backend: str, seen: list) -> None:
    last = ly.Conv2d(4, 6, 2, groups=2, dtype=np.float64)
    inner = ly.Sequential(convolution(), ly.MaxPool2d(2))
    net = ly.Sequential(ly.LeakyReLU(), inner, ly.Sequential(last), ly.MaxPool2d(2, 1), ly.MaxPool2d(1))
    assert_as_its_layers_alone(net)
    assert seen == [None] * 5  # two each time the net runs, and once the inner one does


def test_what_may_do_otherwise_is_not_joined(backend: str, seen: list) -> None:
    class Twice(ly.MaxPool2d):
        def forward(self, x: Any, training: bool = False) -> Any:
            return 2 * super().forward(x, training)

        def backward(self, grad: Any, input_grad: bool = True) -> Any:
            return 2 * super().backward(grad, input_grad)

    class Own(ly.Conv2d):
        pass

    even = ly.Conv2d(3, 4, 2, padding="same", dtype=np.float64)
    for layers in (
        [convolution(), Twice(2)],
        [Own(3, 4, 3, dtype=np.float64), ly.ReLU(), ly.MaxPool2d(2)],
        [even, ly.Tanh(), ly.MaxPool2d(2)],  # what it cuts off must not be pooled
        [convolution(), ly.GELU(), ly.MaxPool2d(2)],
        [convolution(), ly.AvgPool2d(2)],
        [ly.MaxPool2d(2), convolution()],
    ):
        assert_as_its_layers_alone(ly.Sequential(*layers))
    assert seen == []
    assert_as_its_layers_alone(ly.Sequential(convolution(padding="same"), ly.ReLU(), ly.MaxPool2d(2)))
    assert seen == ["relu"] * 2


def test_gradients_of_a_pair_are_those_of_differences(backend: str) -> None:
    net = ly.Sequential(convolution(), ly.Sigmoid(), ly.MaxPool2d(2), ly.Conv2d(4, 2, 2, dtype=np.float64),
                        ly.MaxPool2d(3), ly.Flatten())  # fmt: skip
    assert fastnn.gradcheck(net, X, np.ones(net(X).shape), F.mse).max_absolute < 1e-8


def test_backward_needs_a_training_forward(backend: str) -> None:
    net = ly.Sequential(convolution(), ly.MaxPool2d(2))
    grad = np.ones(net(X).shape)
    for forward in (lambda: None, lambda: net(X)):
        forward()
        with pytest.raises(RuntimeError, match=r"Conv2d.*forward\(x, training=True\)"):
            net.backward(grad)
        with pytest.raises(RuntimeError, match=r"Conv2d.*forward\(x, training=True\)"):
            net.backward(grad, input_grad=False)
        net.forward(X, training=True)
    net.backward(grad)


def test_without_input_grad_a_first_pair_gives_its_parameters_gradients_alone(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = ly.Sequential(convolution(), ly.ReLU(), ly.MaxPool2d(2))
    grad = cases.draw(net.forward(X, training=True).shape, 1, np.float64)
    assert net.backward(grad) is not None
    expected, kernels, asked = gradients(net), fastnn.get_backend().conv_pool, []

    def spy(*args: Any, original: Any = kernels.conv2d_max_pool2d_backward) -> Any:
        asked.append(args[5])
        return original(*args)

    monkeypatch.setattr(kernels, "conv2d_max_pool2d_backward", spy)
    for parameter in net.parameters():
        parameter.grad[...] = np.nan
    assert net.backward(grad, input_grad=False) is None
    assert asked == [False]
    for ours, theirs in zip(gradients(net), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_layers_own_backwards_work_after_the_forward_of_both(backend: str) -> None:
    net = ly.Sequential(convolution(), ly.MaxPool2d(2), ly.Tanh())
    grad = back = cases.draw(net.forward(X, training=True).shape, 1, np.float64)
    grad_x, expected = net.backward(grad), gradients(net)
    for layer in reversed(list(net)):
        back = layer.backward(back)
    np.testing.assert_allclose(back, grad_x, **CLOSE)
    for ours, theirs in zip(gradients(net), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, **CLOSE)


def test_backward_refuses_what_does_not_belong_to_the_last_forward(backend: str) -> None:
    net = ly.Sequential(convolution(), ly.MaxPool2d(2))
    grad = np.ones_like(net.forward(X, training=True))
    with pytest.raises(ValueError, match=r"\(5, 4, 5, 5\).*\(5, 4, 5, 4\)"):
        net.backward(np.ones((5, 4, 5, 5)))
    with pytest.raises(TypeError, match="grad has dtype float32 but x has float64"):
        net.backward(grad.astype(np.float32))
    # Its indices would then point past the convolution's pixels.
    other = net[1].forward(np.ones((5, 4, 40, 40)), training=True)
    with pytest.raises(RuntimeError, match="one of them has been called alone"):
        net.backward(np.ones_like(other))
    net.forward(X, training=True)
    net[0].forward(X[:, :, :4, :4], training=True)
    with pytest.raises(RuntimeError, match="one of them has been called alone"):
        net.backward(grad)


def test_names_copies_and_pickles_are_those_of_the_layers(backend: str, seen: list) -> None:
    net = ly.Sequential(
        convolution(), ly.ReLU(), ly.MaxPool2d(2), ly.Flatten(), ly.Linear(80, 2, dtype=float)
    )
    names = ["0.weight", "0.bias", "4.weight", "4.bias"]
    assert list(net.state_dict()) == [p.name for p in net.parameters()] == names
    assert "ConvPool" not in repr(net) + net.summary((3, 10, 9))
    out = net.forward(X, training=True)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        seen.clear()
        assert list(twin.state_dict()) == names
        with pytest.raises(RuntimeError, match="forward"):  # it begins between two steps
            twin.backward(out)
        np.testing.assert_array_equal(twin.forward(X, training=True), out)
        assert seen == ["relu"]
        twin.backward(out)
        twin.step(0.1)
        assert (twin[0].weight.data != net[0].weight.data).any()
        assert (twin(X) != out).any()
    np.testing.assert_array_equal(net(X), out)
