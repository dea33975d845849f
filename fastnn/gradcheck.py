"""Gradients checked against finite differences of the loss.

Two methods: *central* differences ``(f(v + h) − f(v − h)) / 2h``, whose error is of order h², and *forward*
differences ``(f(v + h) − f(v)) / h``, of order h, at half the price. Differences cancel digits, so check in
float64: make the model with ``dtype=np.float64``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn import backend as _backend
from fastnn import functional as F
from fastnn import losses


@dataclass(frozen=True)
class Entry:
    """How far one parameter's gradient is from its differences.

    Attributes
    ----------
    name : str
        The parameter's, or "input".
    checked : int
        How many of its elements were compared.
    max_relative : float
        Largest ``|a − b| / max(1e-8, |a| + |b|)``.
    max_absolute : float
        Largest ``|a − b|``.
    over_relative, over_absolute : int
        How many elements have such an error above the report's `eps`.
    """

    name: str
    checked: int
    max_relative: float
    max_absolute: float
    over_relative: int
    over_absolute: int


@dataclass(frozen=True)
class Report:
    """What :func:`gradcheck` found; ``print(report)`` shows it as a table."""

    entries: tuple[Entry, ...]
    method: str
    h: float
    eps: float
    seconds: float

    @property
    def max_relative(self) -> float:
        """The largest relative error of all; NaN if any is."""
        return float(np.max([entry.max_relative for entry in self.entries]))

    @property
    def max_absolute(self) -> float:
        """The largest absolute error of all; NaN if any is."""
        return float(np.max([entry.max_absolute for entry in self.entries]))

    def __getitem__(self, name: str) -> Entry:
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise KeyError(
            f"no parameter {name!r} was checked: there are {', '.join(e.name for e in self.entries)}"
        )

    def __str__(self) -> str:
        rows = [
            (
                "",
                "checked",
                "max relative",
                "max absolute",
                f"relative > {self.eps:g}",
                f"absolute > {self.eps:g}",
            )
        ]
        for e in self.entries:
            errors = f"{e.max_relative:.1e}", f"{e.max_absolute:.1e}"
            rows.append((e.name, str(e.checked), *errors, str(e.over_relative), str(e.over_absolute)))
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        title = f"gradient against {self.method} differences, h = {self.h:.2g}, {self.seconds:.2g} s"
        lines = (
            "  ".join(f"{cell:{'<' if i == 0 else '>'}{widths[i]}}" for i, cell in enumerate(row))
            for row in rows
        )
        return "\n".join([title, *lines])


def gradcheck(
    model: Any,
    x: Any,
    y: Any,
    loss: Any = F.softmax_cross_entropy,
    method: str = "central",
    h: float | None = None,
    eps: float = 1e-6,
    max_entries: int | None = None,
    *,
    l2: float = 0.0,
) -> Report:
    """Compare a model's gradients, of every parameter and of the input, with differences of its loss.

    The model is run in training mode, dropout with one mask throughout; it is left as it was found, but for
    its gradients.

    Parameters
    ----------
    model : Layer
    x, y : arrays
        A batch, small: the loss is computed once or twice for every element that is checked.
    loss : object or function
        As :class:`fastnn.training.Trainer` takes it: ``forward`` and ``backward``, or ``loss(output, y) ->
        (loss, grad)``.
    method : {"central", "forward"}
    h : float, optional
        The step. By default twice the cube root of the machine epsilon for central, its square root for
        forward differences.
    eps : float
        The report counts the errors above it.
    max_entries : int, optional
        Check so many elements of each array at most, drawn at random (the same ones at every call).
    l2 : float
        Include a penalty of ``l2 · Σ W²`` over the parameters of two or more dimensions.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        `method` is unknown or `h` not positive.
    """
    if method not in ("central", "forward"):
        raise ValueError(f'method must be "central" or "forward", got {method!r}')
    step = _step(x, method) if h is None else h
    if not step > 0:
        raise ValueError(f"h must be positive, got {h}")
    started = time.perf_counter()
    loss_and_grad = losses.as_function(loss)
    parameters = list(model.named_parameters())
    everything = [p for _, p in parameters]
    x = x.copy()
    state, streams = model.state_dict(), _backend.stream_state()

    def run() -> tuple[float, Any]:
        _backend.set_stream_state(streams)
        value, grad = loss_and_grad(model.forward(x, training=True), y)
        return value + losses.l2_penalty(everything, l2), grad

    value, grad = run()
    grad_x = model.backward(grad)
    checks = [
        (name, p.data, p.grad + 2 * l2 * p.data if p.data.ndim >= 2 else p.grad) for name, p in parameters
    ]
    entries = []
    for name, array, analytic in [*checks, ("input", x, grad_x)]:
        picked = _pick(array.size, max_entries)
        numeric = _differences(lambda: run()[0], array, picked, method, step, value)
        exact = _backend.get_backend().to_numpy(analytic).reshape(-1)[picked]
        entries.append(_compare(name, exact.astype(np.float64), numeric, eps))
    model.load_state_dict(state)  # running statistics have moved
    _backend.set_stream_state(streams)
    return Report(tuple(entries), method, step, eps, time.perf_counter() - started)


def check_direction(
    forward: Callable[..., Any],
    backward: Callable[[Any], Any],
    operands: Sequence[Any],
    *,
    h: float | None = None,
    seed: int = 0,
) -> float:
    """Check the gradients of a whole function along one random direction, at the price of three calls,
    whatever its size.

    For a direction v of the operands and a weight u of each output, ``⟨u, (f(x + hv) − f(x − hv)) / 2h⟩``
    must be ``⟨backward(u), v⟩``: the idea of JAX's ``check_vjp``. It overlooks an error only if that is at a
    right angle to v.

    Parameters
    ----------
    forward : function of the operands, to an array
    backward : function of the output's gradient, to the gradients of the operands
        One array, or a tuple of as many as there are operands, None where one has none. Called after
        ``forward(*operands)``.
    operands : arrays
    h : float, optional
        By default twice the cube root of the machine epsilon.
    seed : int
        Of the direction.

    Returns
    -------
    float
        Relative error ``|a − b| / max(1e-8, |a| + |b|)`` of the two numbers.
    """
    xp = _backend.backend_of(operands[0]).xp
    rng = np.random.default_rng(seed)
    step = _step(operands[0], "central") if h is None else h

    def draw(like: Any) -> Any:
        return xp.asarray(rng.standard_normal(like.shape).astype(like.dtype))

    direction = [draw(x) for x in operands]
    ahead = forward(*(x + step * v for x, v in zip(operands, direction, strict=True)))
    behind = forward(*(x - step * v for x, v in zip(operands, direction, strict=True)))
    weights = draw(ahead)
    numeric = _dot(weights, ahead - behind) / (2 * step)
    forward(*operands)
    grads = backward(weights)
    grads = grads if isinstance(grads, tuple) else (grads,)
    analytic = sum(_dot(g, v) for g, v in zip(grads, direction, strict=True) if g is not None)
    return abs(analytic - numeric) / max(1e-8, abs(analytic) + abs(numeric))


def _dot(a: Any, b: Any) -> float:
    return float((a.astype(np.float64) * b).sum())


def _step(x: Any, method: str) -> float:
    """Where the error of rounding, ε/h, and that of the method, of order h² or h, are about the same."""
    eps = float(np.finfo(x.dtype).eps)
    return 2 * eps ** (1 / 3) if method == "central" else eps ** (1 / 2)


def _pick(size: int, most: int | None) -> np.ndarray:
    """Which elements to check, in order."""
    if most is None or size <= most:
        return np.arange(size)
    return np.sort(np.random.default_rng(0).choice(size, most, replace=False))


def _differences(
    f: Callable[[], float], array: Any, picked: np.ndarray, method: str, h: float, value: float
) -> np.ndarray:
    """Differences of `f`, which reads `array` and now is `value`, by the elements number `picked` of it."""
    result = np.empty(len(picked))
    for i, number in enumerate(picked):
        at = np.unravel_index(number, array.shape)
        here = float(array[at])
        array[at] = here + h
        ahead, last, behind = float(array[at]), here, value  # `ahead` is what here + h is rounded to
        upper = f()
        if method == "central":
            array[at] = here - h
            last, behind = float(array[at]), f()
        array[at] = here
        result[i] = (upper - behind) / (ahead - last)
    return result


def _compare(name: str, a: np.ndarray, b: np.ndarray, eps: float) -> Entry:
    absolute = np.abs(a - b)
    relative = absolute / np.maximum(1e-8, np.abs(a) + np.abs(b))
    # Counted as "not within": a NaN is an error, too.
    over_relative, over_absolute = (int((~(errors <= eps)).sum()) for errors in (relative, absolute))
    worst = [float(errors.max(initial=0)) for errors in (relative, absolute)]
    return Entry(name, len(a), worst[0], worst[1], over_relative, over_absolute)
