"""Layers one after another: fused or not, the numbers are those of the layers alone; and of torch; and the
published ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import layers as ly
from fastnn import losses
from tests import cases
from tests.backends import on_backend  # noqa: F401


def lenet(dtype: Any = np.float32, activation: Any = ly.ReLU) -> ly.Sequential:
    return ly.Sequential(
        *(ly.Conv2d(1, 3, 5, dtype=dtype), activation(), ly.MaxPool2d(2)),
        *(ly.Conv2d(3, 4, 3, padding="same", dtype=dtype), activation(), ly.AvgPool2d(2), ly.Flatten()),
        *(ly.Linear(16, 10, dtype=dtype), activation(), ly.Linear(10, 5, dtype=dtype)),
    )


X, LABELS = cases.draw((6, 1, 12, 12), dtype=np.float64), np.array([0, 1, 2, 3, 4, 0])


@pytest.mark.parametrize("activation", [ly.ReLU, ly.Sigmoid, ly.Tanh, ly.GELU, ly.LeakyReLU])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sequential_computes_what_its_layers_compute_one_by_one(
    backend: str, activation: Any, dtype: Any
) -> None:
    net, x = lenet(dtype, activation), X.astype(dtype)
    out = net.forward(x, training=True)
    loss, grad = F.softmax_cross_entropy(out, LABELS)
    grad_x = net.backward(grad)
    gradients = [p.grad.copy() for p in net.parameters()]

    alone = x
    for layer in net:
        alone = layer.forward(alone, training=True)
    back = grad
    for layer in reversed(list(net)):
        back = layer.backward(back)
    tolerance = dict(rtol=1e-4, atol=1e-6) if dtype == np.float32 else dict(rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(out, alone, **tolerance)
    np.testing.assert_allclose(grad_x, back, **tolerance)
    for a, p in zip(gradients, net.parameters(), strict=True):
        np.testing.assert_allclose(a, p.grad, **tolerance)
    np.testing.assert_allclose(net(x), out, **tolerance)  # inference is no other function than training
    assert loss > 0


def test_each_elementwise_activation_is_one_call_with_the_layer_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    with fastnn.use_backend("numpy"):
        net = ly.Sequential(ly.Linear(3, 4), ly.Sigmoid(), ly.Linear(4, 5), ly.GELU(), ly.Linear(5, 2))
        monkeypatch.setattr(
            F,
            "linear",
            lambda *args, activation, original=F.linear: (
                seen.append(activation),
                original(*args, activation=activation),
            )[1],
        )
        net(np.ones((2, 3), np.float32))
    assert seen == ["sigmoid", None, None]  # gelu keeps its input, which a fused call would not give


@pytest.mark.parametrize("activation", [ly.ReLU, ly.Sigmoid, ly.Tanh])
def test_behind_a_pooled_convolution_an_activation_s_gradient_is_in_the_same_call(
    backend: str, activation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any) -> Any:
        raise AssertionError("a call of its own")

    net = ly.Sequential(ly.Conv2d(1, 4, 3), activation(), ly.MaxPool2d(2), ly.Conv2d(4, 4, 3))
    out = net.forward(X.astype(np.float32), training=True)
    monkeypatch.setattr(activation, "backward", refused)
    assert net.backward(np.ones_like(out)).any()
    assert net.backward(np.ones_like(out), input_grad=False) is None


def test_an_activation_that_ran_alone_meanwhile_is_no_part_of_the_backward(backend: str) -> None:
    net = ly.Sequential(ly.Conv2d(1, 4, 3), ly.MaxPool2d(2), ly.Tanh())
    x = X.astype(np.float32)
    grad = np.ones_like(net.forward(x, training=True))
    net[2].forward(np.ones((2, 3), np.float32), training=True)
    with pytest.raises(ValueError, match="grad has shape"):
        net.backward(grad)
    net[2].forward(grad)
    with pytest.raises(RuntimeError, match="Tanh"):
        net.backward(grad)
    net.forward(x, training=True)
    net.backward(grad)


def test_a_subclass_of_an_activation_keeps_its_own_forward(backend: str) -> None:
    class Doubled(ly.ReLU):
        def forward(self, x: Any, training: bool = False) -> Any:
            return 2 * super().forward(x, training)

    net = ly.Sequential(ly.Linear(3, 4, init="he_normal"), Doubled())
    x = cases.draw((5, 3))
    np.testing.assert_allclose(net(x), 2 * F.relu(net[0](x)), rtol=1e-6)


def test_lenet_has_torch_s_output_and_gradients(backend: str) -> None:
    torch = pytest.importorskip("torch")
    net = lenet(np.float64)
    theirs = torch.nn.Sequential(
        *(torch.nn.Conv2d(1, 3, 5), torch.nn.ReLU(), torch.nn.MaxPool2d(2)),
        *(
            torch.nn.Conv2d(3, 4, 3, padding="same"),
            torch.nn.ReLU(),
            torch.nn.AvgPool2d(2),
            torch.nn.Flatten(),
        ),
        *(torch.nn.Linear(16, 10), torch.nn.ReLU(), torch.nn.Linear(10, 5)),
    ).double()
    names = [name for name, _ in theirs.named_parameters()]
    assert names == [p.name for p in net.parameters()] == list(net.state_dict())
    with torch.no_grad():
        for ours, tensor in zip(net.parameters(), theirs.parameters(), strict=True):
            values = torch.from_numpy(ours.data.copy())
            tensor.copy_(values.T if ours.data.ndim == 2 else values)
    x = torch.from_numpy(X).requires_grad_()
    expected = theirs(x)
    torch.nn.functional.cross_entropy(expected, torch.from_numpy(LABELS)).backward()

    out = net.forward(X, training=True)
    grad_x = net.backward(F.softmax_cross_entropy(out, LABELS)[1])
    np.testing.assert_allclose(out, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(grad_x, x.grad.numpy(), rtol=1e-9, atol=1e-12)
    for ours, tensor in zip(net.parameters(), theirs.parameters(), strict=True):
        grad = tensor.grad.numpy()
        np.testing.assert_allclose(ours.grad, grad.T if grad.ndim == 2 else grad, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch's own, about a copy it makes
@pytest.mark.parametrize(("kernel", "dilation"), [((3, 3), 1), ((2, 4), 1), ((2, 3), (3, 2)), ((1, 6), 1)])
def test_padding_same_is_torch_s(backend: str, kernel: tuple[int, int], dilation: Any) -> None:
    torch = pytest.importorskip("torch")
    x = cases.draw((2, 3, 9, 8), dtype=np.float64)
    layer = ly.Conv2d(3, 4, kernel, padding="same", dilation=dilation, dtype=np.float64)
    weight, bias = (torch.from_numpy(p.data.copy()) for p in layer.parameters())
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(x), weight, bias, padding="same", dilation=dilation
    )
    assert layer(x).shape == (2, 4, 9, 8)
    np.testing.assert_allclose(layer(x), expected.numpy(), rtol=1e-11, atol=1e-13)


def test_batch_norm_has_torch_s_statistics_and_output(backend: str) -> None:
    torch = pytest.importorskip("torch")
    layer, theirs = ly.BatchNorm2d(4, dtype=np.float64), torch.nn.BatchNorm2d(4).double()
    for seed in range(3):
        x = cases.draw((3, 4, 5, 2), seed, np.float64)
        out, expected = layer.forward(x, training=True), theirs(torch.from_numpy(x))
        np.testing.assert_allclose(out, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    for name in layer.buffers:
        np.testing.assert_allclose(layer.state_dict()[name], getattr(theirs, name).numpy(), rtol=1e-12)
    theirs.eval()
    np.testing.assert_allclose(layer(x), theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-10, atol=1e-12)


SCORES = """
    -1.07260209 0.05083871 -0.87253915  -2.02778743 -0.10832494 -1.52641362  -0.74225908 0.15259725
    -0.39578548 -0.38172726 0.10835902 -0.17328274  -0.64417314 -0.18886813 -0.41106892
"""


def toy() -> tuple[ly.Sequential, np.ndarray, np.ndarray]:
    """The toy network of the reports: 4-10-3, its batch of five, and their labels."""
    first, second = np.random.RandomState(0), np.random.RandomState(1)
    net = ly.Sequential(ly.Linear(4, 10, dtype=np.float64), ly.ReLU(), ly.Linear(10, 3, dtype=np.float64))
    net[0].weight.data = 0.1 * first.randn(10, 4).T
    net[2].weight.data = 0.1 * first.randn(3, 10).T
    net[0].bias.data[...] = net[2].bias.data[...] = 0
    return net, 10 * second.randn(5, 4), np.array([0, 1, 2, 2, 1])


def test_toy_network_has_the_published_scores_and_losses(backend: str) -> None:
    net, x, labels = toy()
    scores = net(x)
    np.testing.assert_allclose(scores, np.array(SCORES.split(), float).reshape(5, 3), rtol=0, atol=5e-9)
    penalty = losses.l2_penalty(net.parameters(), 0.05 / 2)
    squared, _ = F.mse(scores, np.eye(3)[labels], reduction="batchmean", factor=0.5)
    assert squared + penalty == pytest.approx(1.8973332763705641, rel=1e-12)
    entropy, _ = F.softmax_cross_entropy(scores, labels)
    assert entropy + penalty == pytest.approx(1.071696123862817, rel=1e-12)


def test_without_input_grad_nothing_before_the_first_parameters_runs(backend: str) -> None:
    class Spy(ly.ReLU):
        def backward(self, grad: Any, input_grad: bool = True) -> Any:
            raise AssertionError("the gradient of the input was not asked for")

    net = ly.Sequential(ly.Flatten(), Spy(), ly.Linear(6, 4), ly.Tanh(), ly.Linear(4, 2))
    out = net.forward(cases.draw((3, 2, 3)), training=True)
    assert net.backward(np.ones_like(out), input_grad=False) is None
    assert all(p.grad.any() for p in net.parameters())
    assert ly.Sequential(Spy()).backward(out, input_grad=False) is None


def test_layers_of_your_own_take_part(backend: str) -> None:
    class Scale(ly.Layer):
        buffers = ("calls",)

        def __init__(self) -> None:
            self.factor = ly.Parameter("factor", np.array([3.0]))
            self.calls = np.zeros(1)

        def forward(self, x: Any, training: bool = False) -> Any:
            self._saved = x if training else None
            self.calls += 1
            return x * self.factor.data

        def backward(self, grad: Any, input_grad: bool = True) -> Any:
            self.factor.grad[0] = (grad * self._saved).sum()
            return grad * self.factor.data if input_grad else None

    net = ly.Sequential(ly.Linear(3, 2, dtype=np.float64), Scale(), ly.Tanh())
    x = cases.draw((4, 3), dtype=np.float64)
    assert fastnn.gradcheck(net, x, np.ones((4, 2)), F.mse).max_absolute < 1e-8
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.factor", "1.calls"]
    assert [p.name for p in net.parameters()] == ["0.weight", "0.bias", "1.factor"]


def test_nested_names_indexing_and_length() -> None:
    with fastnn.use_backend("numpy"):
        inner = ly.Sequential(ly.Linear(3, 4), ly.ReLU())
        net = ly.Sequential(inner, ly.Linear(4, 2))
    assert [p.name for p in net.parameters()] == ["0.0.weight", "0.0.bias", "1.weight", "1.bias"]
    assert len(net) == 2
    assert net[0] is inner
    assert list(net) == [net[0], net[-1]]
    assert net[1:] == (net[1],)
    assert list(inner.state_dict()) == ["0.weight", "0.bias"]  # keys are those of the layer that is asked
    assert repr(net).splitlines() == [
        *("Sequential(", "    Sequential(", "        Linear(3, 4),", "        ReLU(),", "    ),"),
        *("    Linear(4, 2),", ")"),
    ]


def test_what_is_no_list_of_different_layers_is_refused() -> None:
    relu = ly.ReLU()
    with pytest.raises(TypeError, match="list"):
        ly.Sequential([ly.ReLU()])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="twice"):
        ly.Sequential(relu, ly.Sequential(ly.Tanh(), relu))
    with pytest.raises(ValueError, match="at least one"):
        ly.Sequential()


def test_summary_counts_the_122570_parameters_of_the_published_network() -> None:
    with fastnn.use_backend("numpy"):
        blocks = [
            layer
            for inputs, outputs in ((3, 32), (32, 64), (64, 64))
            for layer in (ly.Conv2d(inputs, outputs, 3, padding="same"), ly.Sigmoid(), ly.MaxPool2d(2))
        ]
        net = ly.Sequential(*blocks, ly.Flatten(), ly.Linear(1024, 64), ly.Sigmoid(), ly.Linear(64, 10))
        rows = net.summary((3, 32, 32)).splitlines()
    assert [row.split()[-1] for row in rows if "Conv2d" in row] == ["896", "18,496", "36,928"]
    assert [row.split()[-1] for row in rows if "Linear" in row] == ["65,600", "650"]
    assert rows[-1].split() == ["total", "122,570"]
    assert "64 x 4 x 4" in rows[10]


def test_step_is_momentum_sgd_that_keeps_its_velocity(backend: str) -> None:
    net = ly.Sequential(ly.Linear(3, 2, dtype=np.float64), ly.Tanh())
    expected = [p.data.copy() for p in net.parameters()]
    velocity = [np.zeros_like(values) for values in expected]
    for number, step_size in enumerate((0.1, 0.1, 0.05)):
        out = net.forward(cases.draw((4, 3), number, np.float64), training=True)
        net.backward(cases.draw(out.shape, number, np.float64), input_grad=False)
        net.step(step_size, momentum=0.8, weight_decay=0.01)
        for values, speed, p in zip(expected, velocity, net.parameters(), strict=True):
            speed *= 0.8
            speed += p.grad + 0.01 * values
            values -= step_size * speed
    for values, p in zip(expected, net.parameters(), strict=True):
        np.testing.assert_allclose(p.data, values, rtol=1e-13)
    ly.ReLU().step(0.1)  # has nothing to update


def test_training_lowers_the_loss(backend: str) -> None:
    net = lenet()
    optimizer = fastnn.optim.Adam(net.parameters(), 0.01)
    seen = []
    for _ in range(30):
        loss, grad = F.softmax_cross_entropy(net.forward(X.astype(np.float32), training=True), LABELS)
        net.backward(grad, input_grad=False)
        optimizer.step()
        seen.append(loss)
    assert seen[-1] < 0.25 * seen[0]
