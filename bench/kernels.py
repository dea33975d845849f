"""Every kernel as `bench/limits.py` and `bench/gpu` hold it against a machine: a call, its operations, its
traffic. The call's arrays are on the device of the backend in force.

Operations are those of the formula; an exponential, a logarithm, a root or an error function counts as one.
Traffic is every operand read once and every result written once, as if the cache held all that is needed
twice. A kernel is held against the limit that it would meet first: arithmetic for what multiplies matrices,
memory for the rest, at sizes that no cache holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import fastnn
import fastnn.functional as F
from tests import cases

ARITHMETIC, MEMORY = "arithmetic", "memory"
FLOAT = 4  # bytes


@dataclass(frozen=True)
class Kernel:
    """A call to be timed.

    Attributes
    ----------
    operations, traffic : float
        Of one call; traffic in bytes.
    bar : float or None
        The share of its limit that it means to reach.
    without : callable, optional
        A part of what `call` does that is not meant: its time is taken off.
    """

    name: str
    family: str
    limit: str
    call: Callable[[], Any]
    operations: float
    traffic: float
    bar: float | None = None
    without: Callable[[], Any] | None = None


class Sizes(NamedTuple):
    """How large what is timed is.

    Attributes
    ----------
    elements : int
        Of the largest array of each kernel that is held against memory; a multiple of 2**16.
    batches : int
        How many of a network's batches a product or convolution has in one.
    side : int
        Of the square matrices that are multiplied.
    """

    elements: int
    batches: int = 1
    side: int = 1024


def kernels(sizes: Sizes, families: Iterable[str] | None = None) -> Iterator[Kernel]:
    """All of those families, one kernel at a time, so that the arrays of one are gone before the next is
    made.
    """
    for family in FAMILIES if families is None else families:
        yield from FAMILIES[family](sizes)


def _placed(x: np.ndarray) -> Any:
    return fastnn.get_backend().asarray(x)


def _drawn(shape: tuple[int, ...], seed: int) -> Any:
    return _placed(np.random.default_rng(seed).standard_normal(shape, np.float32))


def _images(elements: int, channels: int, size: int, seed: int) -> Any:
    """A batch of about so many elements, (N, C, H, W), channels-last in memory."""
    n = elements // (channels * size * size)
    return _drawn((n, size, size, channels), seed).transpose(0, 3, 1, 2)


def _many(case: Any, batches: int) -> Any:
    """A case of :mod:`tests.cases` with so many batches in one."""
    if batches == 1:
        return case
    name = f"{case.name}, {batches} batches"
    if isinstance(case, cases.ConvPool):
        return case._replace(name=name, conv=_many(case.conv, batches))
    if isinstance(case, cases.Conv):
        return case._replace(name=name, x=(batches * case.x[0], *case.x[1:]))
    return case._replace(name=name, n=batches * case.n)


def _linear(sizes: Sizes) -> Iterator[Kernel]:
    side = sizes.side
    square = cases.Linear(f"{side} x {side} x {side}", side, side, side)
    hidden = [case for case in cases.LINEAR_REAL if case.name.endswith("hidden")]
    for case in (square, *(_many(case, sizes.batches) for case in hidden)):
        x, weight, bias, grad = map(_placed, case.operands())
        work = 2.0 * x.size * case.out_features
        traffic = FLOAT * (x.size + weight.size + grad.size)
        bar = 0.9 if case is square else None
        forward = partial(F.linear, x, weight, bias)
        yield Kernel(f"{case.name}, forward", "linear", ARITHMETIC, forward, work, traffic, bar)
        # as in the first layer of a network, where no gradient of the input is wanted
        backward = partial(F.linear_backward, grad, x, weight, input_grad=False)
        yield Kernel(f"{case.name}, grad-weight", "linear", ARITHMETIC, backward, work, traffic)


def _conv(sizes: Sizes) -> Iterator[Kernel]:
    for case in (_many(case, sizes.batches) for case in cases.CONV_REAL):
        x, weight, bias, grad = map(_placed, case.operands())
        work = 2.0 * grad.size * weight[0].size
        traffic = FLOAT * (x.size + weight.size + grad.size)
        bar = 0.8 if case.name.startswith("cifar10-cnn") else None
        options: dict[str, Any] = {"padding": case.padding}
        forward = partial(F.conv2d, x, weight, bias, **options)
        to_weight = partial(F.conv2d_backward, grad, x, weight, input_grad=False, **options)
        to_both = partial(F.conv2d_backward, grad, x, weight, **options)
        for part, call, without in (
            ("forward", forward, None),
            ("grad-weight", to_weight, None),
            ("grad-input", to_both, to_weight),
        ):
            name = f"{case.name}, {part}"
            yield Kernel(name, f"conv {part}", ARITHMETIC, call, work, traffic, bar, without)


def _conv_pool(sizes: Sizes) -> Iterator[Kernel]:
    """Operations are those that are needed: backward, only the products with one gradient a window."""
    for case in (_many(case, sizes.batches) for case in cases.CONV_POOL_REAL):
        x, weight, bias, grad = map(_placed, case.operands())
        window = 2.0 * weight[0].size
        traffic = FLOAT * (x.size + weight.size + 2 * grad.size)  # indices beside the maxima
        options: dict[str, Any] = {"padding": case.conv.padding}
        forward = partial(F.conv2d_max_pool2d, x, weight, bias, pool_size=case.kernel_size, **options)
        _, indices = forward()
        to_weight = partial(
            F.conv2d_max_pool2d_backward, grad, indices, x, weight, input_grad=False, **options
        )
        to_both = partial(F.conv2d_max_pool2d_backward, grad, indices, x, weight, **options)
        for part, call, entries, without in (
            ("forward", forward, int(np.prod(case.conv.output)), None),
            ("grad-weight", to_weight, grad.size, None),
            ("grad-input", to_both, grad.size, to_weight),
        ):
            name = f"{case.name}, {part}"
            yield Kernel(name, f"conv {part}", ARITHMETIC, call, entries * window, traffic, without=without)


# name: operations an element, forward and backward; whether backward takes the input instead of the output
ELEMENTWISE = {
    "relu": (1, 1, False),
    "leaky_relu": (2, 2, True),
    "sigmoid": (4, 3, False),
    "tanh": (5, 3, False),
    "gelu": (5, 9, True),
    "softmax": (5, 4, False),
    "log_softmax": (5, 4, False),
}


def _activation(sizes: Sizes) -> Iterator[Kernel]:
    elements = sizes.elements
    for name, (forward, backward, takes_input) in ELEMENTWISE.items():
        shape = (elements // 16, 16) if "softmax" in name else (elements // 1024, 1024)
        x = _drawn(shape, 1)
        call = partial(getattr(F, name), x)
        size = x.size
        yield Kernel(name, "activation", MEMORY, call, forward * size, 2 * FLOAT * size, 0.8)
        saved = x if takes_input else call()
        call = partial(getattr(F, f"{name}_backward"), _drawn(shape, 2), saved)
        name = f"{name}_backward"
        yield Kernel(name, "activation", MEMORY, call, backward * size, 3 * FLOAT * size, 0.8)


def _pool(sizes: Sizes) -> Iterator[Kernel]:
    x = _images(sizes.elements, 32, 32, 1)
    size, pooled = x.size, x.size / 4
    kind = ("pooling", MEMORY)
    call = partial(F.max_pool2d, x, 2, return_indices=True)
    yield Kernel("max_pool2d", *kind, call, 3 * pooled, FLOAT * (size + 2 * pooled), 0.8)
    out, indices = call()
    call = partial(F.max_pool2d_backward, out, indices, x.shape)
    yield Kernel("max_pool2d_backward", *kind, call, pooled, FLOAT * (size + 2 * pooled), 0.8)
    call = partial(F.avg_pool2d, x, 2)
    yield Kernel("avg_pool2d", *kind, call, 4 * pooled, FLOAT * (size + pooled), 0.8)
    call = partial(F.avg_pool2d_backward, out, x.shape, 2)
    yield Kernel("avg_pool2d_backward", *kind, call, pooled, FLOAT * (size + pooled), 0.8)


def _loss(sizes: Sizes) -> Iterator[Kernel]:
    logits = _drawn((sizes.elements // 16, 16), 1)
    rng = np.random.default_rng(2)
    labels = _placed(rng.integers(0, 16, len(logits)))
    call = partial(F.softmax_cross_entropy, logits, labels)
    traffic = 2 * FLOAT * logits.size + labels.nbytes
    yield Kernel("softmax_cross_entropy", "loss", MEMORY, call, 6 * logits.size, traffic, 0.8)
    targets = _placed((rng.random(logits.shape, np.float32) < 0.5).astype(np.float32))
    for name, operations in (("sigmoid_cross_entropy", 9), ("mse", 5)):
        call = partial(getattr(F, name), logits, targets)
        yield Kernel(name, "loss", MEMORY, call, operations * logits.size, 3 * FLOAT * logits.size, 0.8)


def _update(sizes: Sizes) -> Iterator[Kernel]:
    elements = sizes.elements
    update = fastnn.get_backend().update
    # states a parameter has, arguments, operations an element
    rules = {
        "sgd": (1, (1e-3, 0.9, 0.0, 1e-4, False, False), 6),
        "adam": (2, (1e-3, 0.9, 0.999, 1e-8, 0.0, False, 10), 15),
        "rmsprop": (1, (1e-3, 0.99, 1e-8, 0.0, 0.0), 10),
    }
    for name, (states, numbers, operations) in rules.items():
        arrays = [_drawn((elements // 1024, 1024), 1) for _ in range(2)]
        arrays += [_placed(np.ones(arrays[0].shape, np.float32)) for _ in range(states)]
        table = update.bind(*([array] for array in arrays))
        moved = 2 * len(arrays) - 1  # all but the gradient are read and written
        call = partial(getattr(update, name), table, *numbers)
        yield Kernel(name, "update", MEMORY, call, operations * elements, moved * FLOAT * elements, 0.8)


def _others(sizes: Sizes) -> Iterator[Kernel]:
    """No bar is set for these."""
    x, grad = _images(sizes.elements, 32, 32, 1), _images(sizes.elements, 32, 32, 2)
    size, ones, zeros = x.size, _placed(np.ones(32, np.float32)), _placed(np.zeros(32, np.float32))
    normalise = partial(F.batch_norm, x, ones, zeros, zeros.copy(), ones.copy(), training=True)
    yield Kernel("batch_norm", "norm", MEMORY, normalise, 7 * size, 2 * FLOAT * size)
    _, mean, inv_std = normalise()
    call = partial(F.batch_norm_backward, grad, x, ones, mean, inv_std)
    yield Kernel("batch_norm_backward", "norm", MEMORY, call, 10 * size, 3 * FLOAT * size)
    call = partial(F.dropout, x, 0.5, 1, 1)
    yield Kernel("dropout", "dropout", MEMORY, call, 2 * size, 2 * FLOAT * size)
    x = _images(max(sizes.elements // 9, 16 * 32 * 32), 16, 32, 1)
    call = partial(F.im2col, x, 3, padding=1)
    columns = call()
    traffic = FLOAT * (x.size + columns.size)
    yield Kernel("im2col", "im2col", MEMORY, call, 0, traffic)
    call = partial(F.col2im, columns, x.shape[2:], 3, padding=1)
    yield Kernel("col2im", "im2col", MEMORY, call, columns.size, traffic)


FAMILIES = {
    "linear": _linear,
    "conv": _conv,
    "conv_pool": _conv_pool,
    "activation": _activation,
    "pool": _pool,
    "loss": _loss,
    "update": _update,
    "others": _others,
}
