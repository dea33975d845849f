"""Parameter updates: one call updates every parameter, in place, by the arithmetic of torch.optim.

:func:`bind` looks at the arrays once; the table it returns serves every later step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastnn.kernels.reference._shared import quiet

Table = list[tuple[np.ndarray, ...]]


def bind(params: Sequence[np.ndarray], *lists: Sequence[np.ndarray]) -> Table:
    """A table with a row (param, grad, state ..., scratch) for each parameter: flat views, in memory order.

    Parameters
    ----------
    params : arrays, each dense in memory in whatever order of its axes
    *lists : of arrays
        Gradients, then each kind of state: list i goes with parameter i.

    Raises
    ------
    ValueError
        A list has another length than `params`, or an array another shape, dtype or memory order than the
        parameter it goes with.
    """
    for arrays in lists:
        if len(arrays) != len(params):
            raise ValueError(f"{len(params)} parameters, but {len(arrays)} arrays to go with them")
    table = []
    for i, row in enumerate(zip(params, *lists, strict=True)):
        flat = [a.ravel(order="K") for a in row]
        for a, view in zip(row, flat, strict=True):
            same = a.shape == row[0].shape and a.dtype == row[0].dtype and _order(a) == _order(row[0])
            if not same or (a.size and not np.shares_memory(a, view)):
                raise ValueError(
                    f"parameter {i}: shape {a.shape}, dtype {a.dtype}, strides {a.strides} does not go with "
                    f"shape {row[0].shape}, dtype {row[0].dtype}, strides {row[0].strides}: both must "
                    "be dense, in one memory order"
                )
        table.append((*flat, np.empty_like(flat[0])))
    return table


def _order(a: np.ndarray) -> tuple[int, ...]:
    """Strides, but for axes of length 1, whose strides mean nothing."""
    return tuple(stride for stride, length in zip(a.strides, a.shape, strict=True) if length > 1)


@quiet
def sgd(
    table: Table,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    first: bool,
) -> None:
    """``d = g + weight_decay · p``; ``b ← momentum · b + (1 − dampening) · d``; ``p ← p − lr · b``.

    With `nesterov`, ``d + momentum · b`` takes b's place in the last step (Sutskever et al. 2013); without
    momentum, d does. At the `first` step b is d.

    Parameters
    ----------
    table : of rows (param, grad) without momentum, (param, grad, buffer) with it
    """
    for param, grad, *buffers, step in table:
        step[...] = grad
        if weight_decay:  # not always: 0 times an infinite parameter would be NaN
            step += weight_decay * param
        if momentum:
            (buffer,) = buffers
            if first:
                buffer[...] = step
            else:
                # (1 − dampening) · d is added through a product of its own, since d itself is still wanted
                # for nesterov
                buffer *= momentum
                buffer += step if dampening == 0 else step * (1 - dampening)
            if nesterov:
                step += buffer * momentum
            else:
                step[...] = buffer
        step *= lr
        param -= step


@quiet
def adam(
    table: Table,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    step: int,
) -> None:
    """``m ← β₁ m + (1 − β₁) g``; ``v ← β₂ v + (1 − β₂) g²``; ``p ← p − lr · m̂ / (√v̂ + eps)``.

    This is Adam (Kingma & Ba 2015): ``m̂ = m / (1 − β₁ᵗ)`` and ``v̂ = v / (1 − β₂ᵗ)`` with t = `step`, which
    counts from 1. Weight decay is added to the gradient, or with `decoupled` shrinks the parameter by
    ``lr · weight_decay`` first (AdamW, Loshchilov & Hutter 2019).

    Parameters
    ----------
    table : of rows (param, grad, m, v)
    """
    first_correction, second_correction = 1 - beta1**step, (1 - beta2**step) ** 0.5
    for param, grad, m, v, scratch in table:
        if weight_decay and decoupled:
            param *= 1 - lr * weight_decay
        elif weight_decay:
            grad = grad + weight_decay * param
        np.multiply(grad, 1 - beta1, out=scratch)
        m *= beta1
        m += scratch
        np.multiply(grad, grad, out=scratch)
        scratch *= 1 - beta2
        v *= beta2
        v += scratch
        np.sqrt(v, out=scratch)
        scratch /= second_correction
        scratch += eps
        np.divide(m, scratch, out=scratch)
        scratch *= lr / first_correction
        param -= scratch


@quiet
def rmsprop(table: Table, lr: float, alpha: float, eps: float, weight_decay: float, momentum: float) -> None:
    """``s ← α s + (1 − α) g²``; ``p ← p − lr · g / (√s + eps)`` (Tieleman & Hinton 2012).

    With momentum ``b ← momentum · b + g / (√s + eps)`` and ``p ← p − lr · b``. Weight decay is added to the
    gradient.

    Parameters
    ----------
    table : of rows (param, grad, square_avg) without momentum, (param, grad, square_avg, buffer) with it
    """
    for param, grad, square_avg, *buffers, scratch in table:
        if weight_decay:
            grad = grad + weight_decay * param
        np.multiply(grad, grad, out=scratch)
        scratch *= 1 - alpha
        square_avg *= alpha
        square_avg += scratch
        np.sqrt(square_avg, out=scratch)
        scratch += eps
        np.divide(grad, scratch, out=scratch)
        if momentum:
            (buffer,) = buffers
            buffer *= momentum
            buffer += scratch
            np.multiply(buffer, lr, out=scratch)
        else:
            scratch *= lr
        param -= scratch


@quiet
def l2_penalty(table: Table, factor: float) -> float:
    """``g ← g + 2 · factor · p`` for every parameter; the result is the penalty, ``factor · Σ p²``.

    Parameters
    ----------
    table : of rows (param, grad)
    factor : float

    Returns
    -------
    float
        Summed in float64 (on a GPU, an array without axes).
    """
    total = 0.0
    for param, grad, scratch in table:
        np.multiply(param, 2 * factor, out=scratch)
        grad += scratch
        np.multiply(param, param, out=scratch)
        total += float(scratch.sum(dtype=np.float64))
    return factor * total
