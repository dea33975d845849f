"""kernels/cpu/update.py against kernels/reference/update.py: several steps, parameters and state alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastnn.kernels.cpu import update as cpu
from fastnn.kernels.reference import update as reference
from tests import cases, parity

STEPS = 3
# name, the number of state arrays, and the arguments of step 1, 2, 3
RULES: dict[str, tuple[str, int, list[tuple[Any, ...]]]] = {
    "plain sgd": ("sgd", 0, [(0.1, 0.0, 0.0, 0.0, False, i == 0) for i in range(STEPS)]),
    "sgd, weight decay": ("sgd", 0, [(0.1, 0.0, 0.0, 0.01, False, i == 0) for i in range(STEPS)]),
    "sgd, momentum": ("sgd", 1, [(0.1, 0.9, 0.0, 0.01, False, i == 0) for i in range(STEPS)]),
    "sgd, dampened": ("sgd", 1, [(0.1, 0.9, 0.3, 0.0, False, i == 0) for i in range(STEPS)]),
    "sgd, nesterov": ("sgd", 1, [(0.1, 0.9, 0.0, 0.01, True, i == 0) for i in range(STEPS)]),
    "adam": ("adam", 2, [(0.01, 0.9, 0.999, 1e-8, 0.01, False, i + 1) for i in range(STEPS)]),
    "adamw": ("adam", 2, [(0.01, 0.9, 0.999, 1e-8, 0.01, True, i + 1) for i in range(STEPS)]),
    "rmsprop": ("rmsprop", 1, [(0.01, 0.99, 1e-8, 0.01, 0.0)] * STEPS),
    "rmsprop, momentum": ("rmsprop", 2, [(0.01, 0.99, 1e-8, 0.0, 0.9)] * STEPS),
}
RULE_NAMES = tuple(RULES)


def arrays(shapes: list[tuple[int, ...]], seed: int, dtype: Any) -> list[np.ndarray]:
    """One array a shape, in the memory that layers give their parameters."""
    drawn = [cases.draw(shape, seed + i, dtype) for i, shape in enumerate(shapes)]
    return [cases.hwio(a) if a.ndim == 4 else a for a in drawn]


def train(room: Any, rule: str, shapes: list[tuple[int, ...]], dtype: Any) -> Iterator[list[np.ndarray]]:
    """Parameters and state after each step."""
    name, states, arguments = RULES[rule]
    params, grads = arrays(shapes, 0, dtype), arrays(shapes, 100, dtype)
    state = [[np.zeros_like(p) for p in params] for _ in range(states)]
    table = room.bind(params, grads, *state)
    for step, argument in enumerate(arguments):
        for grad, new in zip(grads, arrays(shapes, 200 + step, dtype), strict=True):
            grad[...] = new
        kept = [g.copy() for g in grads]
        getattr(room, name)(table, *argument)
        for grad, was in zip(grads, kept, strict=True):
            np.testing.assert_array_equal(grad, was, "an update leaves the gradients alone")
        yield [*params, *(array for list_ in state for array in list_)]


def assert_same_training(rule: str, shapes: list[tuple[int, ...]], dtype: Any) -> None:
    eps = np.finfo(dtype).eps
    for actual, expected in zip(
        train(cpu, rule, shapes, dtype), train(reference, rule, shapes, np.float64), strict=True
    ):
        for a, e in zip(actual, expected, strict=True):
            assert a.dtype == dtype
            # Terms of either sign cancel, and roots may be small: exact to some eps of the largest entry.
            parity.assert_close(a, e, 64 * eps * np.abs(e).max(initial=0), rule)


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("rule", RULE_NAMES)
@pytest.mark.parametrize("case", cases.UPDATE_REAL + cases.UPDATE_ODD, ids=cases.by_name)
def test_update_matches_the_reference_step_by_step(case: cases.Update, rule: str, dtype: Any) -> None:
    assert_same_training(rule, case.shapes, dtype)


@given(
    st.sampled_from(RULE_NAMES),
    parity.dtypes,
    st.lists(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=9), min_size=1, max_size=5),
)
def test_update_matches_for_any_set_of_parameters(rule, dtype, shapes) -> None:
    assert_same_training(rule, shapes, dtype)


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("case", cases.UPDATE_REAL + cases.UPDATE_ODD, ids=cases.by_name)
def test_l2_penalty_matches_the_reference(case: cases.Update, dtype: Any) -> None:
    def penalised(room: Any, dtype: Any) -> list[Any]:
        params, grads = arrays(case.shapes, 0, dtype), arrays(case.shapes, 100, dtype)
        return [room.l2_penalty(room.bind(params, grads), 0.01), *grads]

    for actual, expected in zip(penalised(cpu, dtype), penalised(reference, np.float64), strict=True):
        parity.assert_close(actual, expected, 64 * np.finfo(dtype).eps * np.abs(expected).max(initial=0))


def test_update_keeps_nan_and_infinity() -> None:
    for room in (cpu, reference):
        param, grad = np.zeros(5, np.float32), np.array([0, np.nan, np.inf, -np.inf, 1], np.float32)
        room.sgd(room.bind([param], [grad]), 1.0, 0.0, 0.0, 0.0, False, True)
        np.testing.assert_array_equal(param, -grad)


def test_bind_refuses_lists_whose_arrays_do_not_match() -> None:
    for room in (cpu, reference):
        for grad in (np.zeros(4, np.float32), np.zeros(3, np.float64)):
            with pytest.raises((ValueError, TypeError)):
                room.bind([np.zeros(3, np.float32)], [grad])


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_update_matches_torch_optim(rule: str) -> None:
    torch = pytest.importorskip("torch")
    shapes = [(7, 5), (5,)]
    name, _, arguments = RULES[rule]
    tensors = [torch.from_numpy(a).requires_grad_() for a in arrays(shapes, 0, np.float64)]
    first = arguments[0]
    if name == "sgd":
        lr, momentum, dampening, decay, nesterov, _ = first
        optimizer = torch.optim.SGD(tensors, lr, momentum, dampening, decay, nesterov)
    elif name == "adam":
        lr, beta1, beta2, eps, decay, decoupled, _ = first
        kind = torch.optim.AdamW if decoupled else torch.optim.Adam
        optimizer = kind(tensors, lr, (beta1, beta2), eps, decay)
    else:
        lr, alpha, eps, decay, momentum = first
        optimizer = torch.optim.RMSprop(tensors, lr, alpha, eps, decay, momentum)
    for step, actual in enumerate(train(cpu, rule, shapes, np.float64)):
        for tensor, grad in zip(tensors, arrays(shapes, 200 + step, np.float64), strict=True):
            tensor.grad = torch.from_numpy(grad)
        optimizer.step()
        for a, tensor in zip(actual, tensors, strict=False):
            np.testing.assert_allclose(a, tensor.detach().numpy(), rtol=1e-12, atol=1e-14)
