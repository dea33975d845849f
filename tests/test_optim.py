"""Optimisers against torch's published arithmetic, written out here in plain NumPy, and against torch itself
where it is.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import optim
from fastnn.layers import Parameter
from tests.backends import BACKENDS, on_backend  # noqa: F401

SHAPES = [(5, 7), (7,), (4, 3, 2, 3), (1,), (0, 3)]
STEPS = 7


def draw(seed: int, dtype: Any = np.float64) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]


def make_parameters(dtype: Any = np.float64) -> list[Parameter]:
    return [Parameter(f"p{i}", values) for i, values in enumerate(draw(0, dtype))]


def train(optimizer: Any, parameters: list[Parameter], steps: range = range(STEPS)) -> None:
    for step in steps:
        for parameter, grad in zip(parameters, draw(step + 1, parameters[0].data.dtype), strict=True):
            parameter.grad = grad
        optimizer.step()


# torch.optim's documentation, as generators: each is sent a gradient and answers with the change of the
# parameter p.
def sgd(
    p: np.ndarray, lr: float, momentum: float, weight_decay: float, nesterov: bool, dampening: float
) -> Iterator:
    buffer = None
    while True:
        g = (yield) + weight_decay * p
        if momentum:
            buffer = g.copy() if buffer is None else momentum * buffer + (1 - dampening) * g
            g = g + momentum * buffer if nesterov else buffer
        p -= lr * g


def adam(
    p: np.ndarray, lr: float, betas: tuple, eps: float, weight_decay: float, decoupled: bool = False
) -> Iterator:
    m, v, t = np.zeros_like(p), np.zeros_like(p), 0
    while True:
        g = yield
        t += 1
        if decoupled:
            p *= 1 - lr * weight_decay
        else:
            g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        p -= lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


def adamw(p: np.ndarray, **settings: Any) -> Iterator:
    return adam(p, decoupled=True, **settings)


def rmsprop(
    p: np.ndarray, lr: float, alpha: float, eps: float, weight_decay: float, momentum: float
) -> Iterator:
    v, buffer = np.zeros_like(p), np.zeros_like(p)
    while True:
        g = (yield) + weight_decay * p
        v = alpha * v + (1 - alpha) * g * g
        buffer = momentum * buffer + g / (np.sqrt(v) + eps)
        p -= lr * buffer


def settings(**given: Any) -> dict[str, Any]:
    return given


CASES = [
    (
        optim.SGD,
        sgd,
        settings(lr=0.1, momentum=momentum, weight_decay=decay, nesterov=nesterov, dampening=dampening),
    )
    for momentum, decay, nesterov, dampening in [
        (0.0, 0.0, False, 0.0),
        (0.0, 0.05, False, 0.0),
        (0.8, 1e-4, False, 0.0),
        (0.8, 0.05, False, 0.3),
        (0.9, 0.05, True, 0.0),
    ]
]
CASES += [
    (kind, reference, settings(lr=0.05, betas=(0.8, 0.95), eps=eps, weight_decay=decay))
    for kind, reference in ((optim.Adam, adam), (optim.AdamW, adamw))
    for eps, decay in ((1e-8, 0.0), (1e-2, 0.1))
]
CASES += [
    (optim.RMSprop, rmsprop, settings(lr=0.02, alpha=0.9, eps=eps, weight_decay=decay, momentum=momentum))
    for eps, decay, momentum in ((1e-8, 0.0, 0.0), (1e-3, 0.1, 0.0), (1e-8, 0.05, 0.7))
]


def expected_after(reference: Callable[..., Iterator], steps: int = STEPS, **given: Any) -> list[np.ndarray]:
    values = draw(0)
    rules = [reference(p, **given) for p in values]
    for rule in rules:
        next(rule)
    for step in range(steps):
        for rule, grad in zip(rules, draw(step + 1), strict=True):
            rule.send(grad)
    return values


def assert_same(parameters: list[Parameter], expected: list[np.ndarray], rtol: float = 1e-12) -> None:
    for parameter, values in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(parameter.data, values, rtol=rtol, atol=rtol, err_msg=parameter.name)


@pytest.mark.parametrize(("kind", "reference", "given"), CASES)
def test_steps_follow_the_published_arithmetic(backend: str, kind: Any, reference: Any, given: dict) -> None:
    parameters = make_parameters()
    train(kind(parameters, **given), parameters)
    assert_same(parameters, expected_after(reference, **given))


@pytest.mark.parametrize(("kind", "reference", "given"), CASES)
def test_float32_steps_stay_close_to_those_in_float64(
    backend: str, kind: Any, reference: Any, given: dict
) -> None:
    parameters = make_parameters(np.float32)
    train(kind(parameters, **given), parameters)
    assert all(p.data.dtype == np.float32 for p in parameters)
    assert_same(parameters, expected_after(reference, **given), rtol=2e-5)


@pytest.mark.parametrize(("kind", "reference", "given"), CASES)
def test_steps_are_those_of_torch(backend: str, kind: Any, reference: Any, given: dict) -> None:
    torch = pytest.importorskip("torch")
    parameters = make_parameters()
    train(kind(parameters, **given), parameters)
    tensors = [torch.tensor(values, requires_grad=True) for values in draw(0)]
    theirs = getattr(torch.optim, kind.__name__)(tensors, **given)
    for step in range(STEPS):
        for tensor, grad in zip(tensors, draw(step + 1), strict=True):
            tensor.grad = torch.tensor(grad)
        theirs.step()
    assert_same(parameters, [tensor.detach().numpy() for tensor in tensors])


def test_defaults_are_torch_s() -> None:
    torch = pytest.importorskip("torch")
    parameters = make_parameters()
    for kind in (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop):
        own = kind(parameters)
        theirs = getattr(torch.optim, kind.__name__)([torch.zeros(1)]).param_groups[0]
        ours = {"lr": own.lr, **own.groups[0].settings()}
        del ours["lr_scale"]
        assert ours == {name: theirs[name] for name in ours}


def test_a_new_learning_rate_counts_from_the_next_step(backend: str) -> None:
    parameter = Parameter("p", np.zeros(3))
    optimizer = optim.SGD([parameter], lr=1.0)
    parameter.grad[...] = 1
    optimizer.step()
    optimizer.lr = 0.25
    optimizer.step()
    np.testing.assert_array_equal(parameter.data, -1.25)


def test_groups_have_settings_of_their_own(backend: str) -> None:
    parameters = make_parameters()
    optimizer = optim.SGD(
        [
            {"params": parameters[:2]},
            {"params": parameters[2:], "lr": 0.02, "weight_decay": 0.5, "momentum": 0.9},
        ],
        lr=0.1,
        weight_decay=0.01,
    )
    train(optimizer, parameters)
    plain = dict(nesterov=False, dampening=0.0)
    first = expected_after(sgd, lr=0.1, momentum=0.0, weight_decay=0.01, **plain)[:2]
    second = expected_after(sgd, lr=0.02, momentum=0.9, weight_decay=0.5, **plain)[2:]
    assert_same(parameters, first + second)


def test_a_group_s_own_rate_keeps_its_proportion_when_lr_is_set(backend: str) -> None:
    slow, fast = Parameter("slow", np.zeros(1)), Parameter("fast", np.zeros(1))
    optimizer = optim.SGD([{"params": [slow]}, {"params": [fast], "lr": 1.0}], lr=0.1)
    optimizer.lr = 0.2
    slow.grad[...] = fast.grad[...] = 1
    optimizer.step()
    assert (slow.data[0], fast.data[0]) == pytest.approx((-0.2, -2.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.SGD(p, lr=-0.1), "lr"),
        (lambda p: optim.SGD(p, lr=float("nan")), "lr"),
        (lambda p: optim.SGD(p, 0.1, momentum=-1), "momentum"),
        (lambda p: optim.SGD(p, 0.1, nesterov=True), "nesterov"),
        (lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, dampening=0.1), "nesterov"),
        (lambda p: optim.Adam(p, betas=(0.9, 1.0)), "betas"),
        (lambda p: optim.RMSprop(p, eps=-1.0), "eps"),
        (lambda p: optim.SGD([]), "no parameters"),
        (lambda p: optim.SGD(p + p[:1]), "more than once"),
        (lambda p: optim.SGD([{"params": p, "momentun": 0.9}]), "momentun.*momentum"),
        (lambda p: optim.SGD([{"params": p, "lr": 0.9}], lr=0.0), "proportion"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(make_parameters())


def test_a_gradient_of_other_strides_may_be_assigned(backend: str) -> None:
    parameter = Parameter("p", np.zeros((3, 4)))
    optimizer = optim.SGD([parameter], lr=1.0)
    optimizer.step()
    grad = np.arange(12.0).reshape(4, 3).T
    parameter.grad = grad
    optimizer.step()
    np.testing.assert_array_equal(parameter.data, -grad)
    assert not np.shares_memory(parameter.grad, grad)


def test_parameters_that_got_new_arrays_are_followed(backend: str) -> None:
    parameter = Parameter("p", np.ones(4, np.float32))
    optimizer = optim.SGD([parameter], lr=0.5, momentum=0.5)
    parameter.grad = np.ones(4, np.float32)
    optimizer.step()
    parameter.data = np.full(4, 2.0)  # float64 now: both arrays are new ones
    parameter.grad = np.ones(4)
    optimizer.step()
    np.testing.assert_array_equal(parameter.data, 2 - 0.5 * 1.5)  # with the velocity of the first step
    assert parameter.data.dtype == np.float64


def test_the_backend_may_change_between_steps() -> None:
    parameters = make_parameters()
    optimizer = optim.Adam(parameters, lr=0.05, betas=(0.8, 0.95))
    for step in range(STEPS):
        with fastnn.use_backend(BACKENDS[step % len(BACKENDS)]):
            train(optimizer, parameters, range(step, step + 1))
    assert_same(parameters, expected_after(adam, lr=0.05, betas=(0.8, 0.95), eps=1e-8, weight_decay=0.0))


KINDS = [
    (optim.SGD, {"momentum": 0.9}),
    (optim.SGD, {}),
    (optim.Adam, {}),
    (optim.AdamW, {}),
    (optim.RMSprop, {"momentum": 0.5}),
]


@pytest.mark.parametrize(("kind", "given"), KINDS)
@pytest.mark.parametrize("before", [0, 3])
def test_a_run_resumed_from_its_state_is_the_same_to_the_bit(
    backend: str, kind: Any, given: dict, before: int
) -> None:
    straight = make_parameters()
    train(kind(straight, 0.1, **given), straight)

    first = make_parameters()
    optimizer = kind(first, 0.1, **given)
    train(optimizer, first, range(before))
    state = optimizer.state_dict()
    kept = [p.data.copy() for p in first]
    train(optimizer, first, range(before, STEPS))  # the state is a snapshot: going on does not change it

    second = [Parameter(p.name, values) for p, values in zip(first, kept, strict=True)]
    resumed = kind(second, 0.5, **given)
    resumed.load_state_dict(state)
    train(resumed, second, range(before, STEPS))
    for a, b in zip(second, straight, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_a_loaded_state_is_copied(backend: str) -> None:
    parameters = make_parameters()
    optimizer = optim.SGD(parameters, momentum=0.9)
    train(optimizer, parameters)
    state = optimizer.state_dict()
    before = copy.deepcopy(state)
    optimizer.load_state_dict(state)
    train(optimizer, parameters)
    for now, then in zip(
        state["groups"][0]["state"]["momentum"], before["groups"][0]["state"]["momentum"], strict=True
    ):
        np.testing.assert_array_equal(now, then)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(backend: str) -> None:
    parameters = make_parameters()
    optimizer = optim.SGD(parameters, 0.1, momentum=0.9)
    train(optimizer, parameters)
    good = optimizer.state_dict()
    others = [Parameter("other", np.zeros((2, 2)))]
    other = optim.SGD(others, 0.7, momentum=0.9)
    with pytest.raises(ValueError, match=r"shapes.*\(2, 2\)"):
        other.load_state_dict(good)
    with pytest.raises(ValueError, match=r"SGD.*Adam"):
        optim.Adam(parameters).load_state_dict(good)
    with pytest.raises(ValueError, match="groups"):
        optim.SGD([{"params": parameters[:1]}, {"params": parameters[1:]}]).load_state_dict(good)
    broken = copy.deepcopy(good)
    del broken["groups"][0]["settings"]["momentum"]
    with pytest.raises(ValueError, match="settings"):
        optimizer.load_state_dict(broken)
    assert (other.lr, other.steps) == (0.7, 0)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copied_optimiser_updates_the_copied_parameters(backend: str, duplicate: Any) -> None:
    parameters = make_parameters()
    optimizer = optim.SGD(parameters, 0.1, momentum=0.9)
    train(optimizer, parameters, range(3))
    theirs, other = duplicate((parameters, optimizer))
    before = [p.data.copy() for p in parameters]
    train(other, theirs, range(3, STEPS))
    for parameter, values in zip(parameters, before, strict=True):
        np.testing.assert_array_equal(parameter.data, values)
    train(optimizer, parameters, range(3, STEPS))
    assert_same(theirs, [p.data for p in parameters], rtol=0)


def test_repr_shows_the_settings() -> None:
    optimizer = optim.SGD(make_parameters(), 0.1, momentum=0.9)
    assert repr(optimizer) == (
        "SGD(5 parameters, lr=0.1, momentum=0.9, weight_decay=0.0, nesterov=False, dampening=0.0)"
    )
