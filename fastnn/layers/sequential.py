"""Layers one after another.

A plan made once says what a forward calls: a convolution and its max-pooling become one call, the activation
behind them (or behind a Linear or Conv2d alone) is part of it, and layers that only pass values on are spared
the copy they would make alone. An activation between a convolution and its max-pooling is applied after the
pooling, to a quarter of the values; its gradient is part of theirs. Every layer still keeps what its own
backward needs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard, overload

import numpy as np

from fastnn.backend import get_backend
from fastnn.layers._conv_pool import ConvPool
from fastnn.layers._programs import Programs, repeatable
from fastnn.layers.activation import FromOutput, ReLU, Sigmoid, Tanh
from fastnn.layers.base import Layer, PassThrough
from fastnn.layers.conv import Conv2d
from fastnn.layers.linear import Linear
from fastnn.layers.pool import MaxPool2d


class Sequential(Layer):
    """Each layer's output is the next one's input. It is a layer itself, and may contain others of its kind.

    Parameters
    ----------
    *layers : Layer
        Each at most once: a layer keeps what its backward needs, so it cannot be in two places.

    Raises
    ------
    TypeError
        Something is no layer.
    ValueError
        There is no layer, or one is there twice.
    """

    def __init__(self, *layers: Layer) -> None:
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"Sequential(*layers) takes layers, got a {type(layer).__name__}")
        if not layers:
            raise ValueError("Sequential needs at least one layer")
        self._layers = layers
        leaves = list(self._leaves())
        if len({id(leaf) for leaf in leaves}) < len(leaves):
            raise ValueError(
                "a layer is there twice: make a second one, since each keeps what its own backward needs"
            )
        for name, parameter in self.named_parameters():
            parameter.name = name
        self._programs = Programs(leaves) if repeatable(leaves) else None
        leaves = _joined(_pooled_first(leaves))
        self._forward_plan = _forward_plan(leaves)
        self._backward_plan = _backward_plan(leaves)
        # Without an input gradient, backward ends at the first layer that has parameters.
        trained = [i for i, leaf in enumerate(leaves) if leaf.parameters()]
        self._plan_to_first_trained = _backward_plan(leaves, trained[0]) if trained else []

    def _leaves(self) -> Iterator[Layer]:
        """The layers, with those of nested Sequentials in their places."""
        for layer in self._layers:
            if type(layer) is Sequential:  # a subclass may do more than its layers
                yield from layer._leaves()
            else:
                yield layer

    def _children(self) -> Iterator[tuple[str, Layer]]:
        return ((str(i), layer) for i, layer in enumerate(self._layers))

    def forward(self, x: Any, training: bool = False) -> Any:
        if type(x) is np.ndarray:
            backend = get_backend()
            if backend.room == "cpu" and self._programs is not None:
                return self._programs.forward(x, bool(training), self._run)
            if backend.room == "cuda":
                x = backend.asarray(x)
        return self._run(x, training)

    def _run(self, x: Any, training: bool) -> Any:
        for run, fused_as, activation in self._forward_plan:
            if activation is None:
                x = run(x, training)
            else:
                x = run(x, training, fused_as)
                activation._saved = x if training else None
        return x

    def backward(self, grad: Any, input_grad: bool = True) -> Any:
        if self._programs is not None:
            return self._programs.backward(grad, bool(input_grad), self._run_back)
        return self._run_back(grad, input_grad)

    def _run_back(self, grad: Any, input_grad: bool) -> Any:
        if input_grad:
            for run in self._backward_plan:
                grad = run(grad)
            return grad
        for run in self._plan_to_first_trained[:-1]:
            grad = run(grad)
        for run in self._plan_to_first_trained[-1:]:
            run(grad, input_grad=False)
        return None

    def summary(self, input_shape: tuple[int, ...]) -> str:
        """A table of the layers with their output shapes and numbers of parameters.

        Parameters
        ----------
        input_shape : tuple of int
            Of one example, without N: ``(1, 28, 28)``.
        """
        parameters = self.parameters()
        dtype = parameters[0].data.dtype if parameters else np.float32
        x = np.empty((0, *input_shape), dtype)  # an empty batch has shapes, and costs nothing
        rows = [("layer", "output", "parameters"), ("input", _shape(input_shape), "")]
        for leaf in self._leaves():
            x = leaf.forward(x)
            count = sum(p.data.size for p in leaf.parameters())
            rows.append((repr(leaf), _shape(x.shape[1:]), f"{count:,}" if count else ""))
        rows.append(("total", "", f"{sum(p.data.size for p in parameters):,}"))
        first, second, third = (max(len(row[i]) for row in rows) for i in range(3))
        return "\n".join(f"{a:<{first}}  {b:<{second}}  {c:>{third}}".rstrip() for a, b, c in rows)

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Layer, ...]: ...
    def __getitem__(self, index: int | slice) -> Layer | tuple[Layer, ...]:
        return self._layers[index]

    def __repr__(self) -> str:
        inside = "".join(f"    {line}\n" for layer in self._layers for line in f"{layer!r},".splitlines())
        return f"{type(self).__name__}(\n{inside})"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _plain(layer: Layer) -> bool:
    """Whether it is just what its class here is: a subclass may have a forward of its own."""
    return type(layer) in (Linear, Conv2d, ConvPool, ReLU, Sigmoid, Tanh)


def _ends(activation: Layer | None, leaf: Layer) -> TypeGuard[FromOutput]:
    """Whether it is an activation that `leaf`, right before it, can end in."""
    return isinstance(activation, FromOutput) and _plain(activation) and _plain(leaf)


def _pooled_first(leaves: list[Layer]) -> list[Layer]:
    """The layers in the order they run: a max-pooling before the activation in front of it.

    The activations here never decrease, so the activation of the maximum is the maximum of the activations.
    """
    order = list(leaves)
    for i in range(1, len(order) - 1):
        if type(order[i]) in (ReLU, Sigmoid, Tanh) and type(order[i + 1]) is MaxPool2d:
            order[i], order[i + 1] = order[i + 1], order[i]
    return order


def _joined(leaves: list[Layer]) -> list[Layer]:
    """The layers, each convolution and max-pooling in a row as one."""
    joined: list[Layer] = []
    for leaf in leaves:
        pair = ConvPool.of(joined[-1] if joined else None, leaf)
        joined[-1:] = [pair] if pair is not None else [*joined[-1:], leaf]
    return joined


def _forward_plan(leaves: list[Layer]) -> list[tuple[Callable[..., Any], str | None, FromOutput | None]]:
    """What to call, and for a fused pair the activation's name and the layer that is to keep the output."""
    plan: list[tuple[Callable[..., Any], str | None, FromOutput | None]] = []
    i = 0
    while i < len(leaves):
        leaf, following = leaves[i], leaves[i + 1] if i + 1 < len(leaves) else None
        if isinstance(leaf, (Linear, Conv2d, ConvPool)) and _ends(following, leaf):
            plan.append((leaf.forward_with, following.fused_as, following))
            i += 2
            continue
        if (
            isinstance(leaf, PassThrough)
            and type(leaf).forward is PassThrough.forward
            and following is not None
        ):
            plan.append((leaf.pass_on, None, None))
        else:
            plan.append((leaf.forward, None, None))
        i += 1
    return plan


def _backward_plan(leaves: list[Layer], start: int = 0) -> list[Callable[..., Any]]:
    """The backwards of the layers from number `start` on, last layer first."""
    plan: list[Callable[..., Any]] = []
    i = len(leaves) - 1
    while i >= start:
        leaf, before = leaves[i], leaves[i - 1] if i > start else None
        if isinstance(before, ConvPool) and _ends(leaf, before):
            plan.append(functools.partial(before.backward_with, activation=leaf))
            i -= 2
            continue
        if isinstance(leaf, PassThrough) and type(leaf).backward is PassThrough.backward and i > 0:
            plan.append(leaf.pass_back)
        else:
            plan.append(leaf.backward)
        i -= 1
    return plan
