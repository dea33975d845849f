"""How far each float32 kernel is from float64: what ``docs/numerics.md`` tables.

A row is one result of one kernel on operands of a real size. Its error is the largest over the entries, each
divided by ε = 2⁻²³ times the entry's `unit`: for a sum, the sum of its terms' absolute values, to which
rounding is proportional whatever cancels; elsewhere what the table says. ``test_numbers_error.py`` holds it
to the bound; ``python -m tests.numbers --write FILE`` measures and writes the table into FILE.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastnn.backend import Backend
from tests import cases, parity
from tests.rooms import CPU, REFERENCE

EPS = float(np.finfo(np.float32).eps)
Unit = Callable[..., Any]  # of the exact result and the operands in float64


class Row(NamedTuple):
    kernel: str
    shape: str
    result: str  #: which of the kernel's, in words; empty where it has one
    of: int  #: and its number
    unit: str  #: what errors are relative to, in words
    bound: float  #: in ε units
    call: Callable[..., Any]  #: (room, *operands) -> the results
    operands: list[Any]
    size: Unit | None  #: None: the sum of the absolute terms

    def error(self, room: Backend) -> float:
        """The largest error of `room`'s results in float32."""
        with np.errstate(all="ignore"):
            wide = parity.wide(*self.operands)
            actual = listed(self.call(room, *self.operands))[self.of]
            exact = listed(self.call(REFERENCE, *wide))[self.of]
            if self.size is None:
                unit = listed(self.call(REFERENCE, *parity.absolute(*self.operands)))[self.of]
            else:
                unit = self.size(exact, *wide)
            error = np.abs(np.asarray(actual, np.float64) - exact)
            return float((error / (EPS * np.maximum(unit, np.finfo(np.float32).tiny))).max())


def listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple | list) else [result]


def draw(*shape: int, seed: int = 1) -> np.ndarray:
    return cases.draw(shape, seed)


def own(exact: Any, *operands: Any) -> Any:
    return np.abs(exact)


def one(exact: Any, *operands: Any) -> Any:
    return 1.0


SUM, OWN, ONE = ("its terms", None), ("the result", own), ("1", one)


def rows(
    kernel: str, shape: str, call: Any, operands: Any, **results: tuple[tuple[str, Unit | None], float]
) -> list[Row]:
    """A row for each of the results, which are named in order: the unit and the bound of each."""
    table = []
    for i, (name, ((unit, size), bound)) in enumerate(results.items()):
        label = "" if name == "out" and len(results) == 1 else name
        table.append(Row(kernel, shape, label, i, unit, bound, call, list(operands), size))
    return table


def products() -> list[Row]:
    table = []
    for case in (cases.LINEAR_REAL[0], cases.LINEAR_REAL[4], cases.LINEAR_REAL[8]):
        x, weight, bias, grad = case.operands()
        shape = f"{case.n} x {case.in_features} x {case.out_features}"
        table += rows(
            "linear", shape, lambda room, *o: room.linear.linear(*o, None), (x, weight, bias), out=(SUM, 6)
        )
        table += rows(
            "linear_backward", shape,
            lambda room, *o: room.linear.linear_backward(*o, True), (grad, x, weight),
            grad_x=(SUM, 6), grad_weight=(SUM, 6), grad_bias=(SUM, 3),
        )  # fmt: skip
    for case in (cases.CONV_REAL[0], cases.CONV_REAL[1], cases.CONV_REAL[3]):
        x, weight, bias, grad = case.operands()
        shape = f"{' x '.join(map(str, case.x))}, {len(weight)} of {case.weight[2]} x {case.weight[3]}"
        rest, pooling = (*case.geometry, 1), ((2, 2), (2, 2), (0, 0), (1, 1), False)
        winograd = " (Winograd)" if case is cases.CONV_REAL[3] else ""
        bound = 24 if winograd else 8
        table += rows(
            f"conv2d{winograd}", shape, lambda room, *o, rest=rest: room.conv.conv2d(*o, *rest, None),
            (x, weight, bias), out=(SUM, bound),
        )  # fmt: skip
        table += rows(
            f"conv2d_backward{winograd}", shape,
            lambda room, *o, rest=rest: room.conv.conv2d_backward(*o, *rest, True), (grad, x, weight),
            grad_x=(SUM, bound), grad_weight=(SUM, 6 if winograd else 3), grad_bias=(SUM, 3),
        )  # fmt: skip
        _, indices = REFERENCE.conv_pool.conv2d_max_pool2d(x, weight, bias, rest, pooling, None)
        slope = cases.channels_last(draw(*indices.shape, seed=5))
        table += rows(
            "conv2d_max_pool2d_backward", shape,
            lambda room, *o, rest=rest, where=indices: room.conv_pool.conv2d_max_pool2d_backward(
                o[0], where, *o[1:], rest, True
            ),
            (slope, x, weight), grad_x=(SUM, 8), grad_weight=(SUM, 3), grad_bias=(SUM, 3),
        )  # fmt: skip
    return table


def pooling() -> list[Row]:
    x, grad = cases.channels_last(draw(50, 32, 16, 16)), cases.channels_last(draw(50, 32, 8, 8))
    cols, geometry = draw(50, 32 * 9, 64), ((16, 16), (3, 3), (2, 2), (1, 1), (1, 1))
    window = ((3, 3), (2, 2), (1, 1), False, True)
    return [
        *rows("avg_pool2d", "3 x 3", lambda room, x: room.pool.avg_pool2d(x, *window), (x,), out=(SUM, 4)),
        *rows(
            "avg_pool2d_backward",
            "3 x 3",
            lambda room, grad: room.pool.avg_pool2d_backward(grad, x.shape, *window),
            (grad,),
            out=(SUM, 4),
        ),
        *rows("col2im", "3 x 3", lambda room, cols: room.conv.col2im(cols, *geometry), (cols,), out=(SUM, 4)),
    ]


def activations() -> list[Row]:
    def call(name: str, extra: tuple[Any, ...]) -> Callable[..., Any]:
        return lambda room, *operands: getattr(room.activation, name)(*operands, *extra)

    x, grad = np.linspace(-12, 12, 40_001, dtype=np.float32), draw(40_001)
    softened = draw(64, 1000) * np.float32(3)
    slope = draw(64, 1000, seed=2)
    of_x = ("abs(x)", lambda exact, x: np.abs(x))
    of_grad = ("abs(grad)", lambda exact, grad, saved: np.abs(grad))
    of_both = ("abs(grad) (1 + abs(x))", lambda exact, grad, x: np.abs(grad) * (1 + np.abs(x)))
    table = []
    for name, extra, forward, backward in (
        ("sigmoid", (), (OWN, 2.5), (OWN, 2.5)),
        ("tanh", (), (OWN, 1.5), (of_grad, 1.5)),
        ("leaky_relu", (0.01,), (OWN, 1), (OWN, 1)),
        ("gelu", ("none",), (of_x, 2), (of_both, 2)),
        ("gelu", ("tanh",), (of_x, 2), (of_both, 3)),
    ):
        label = f'{name}, "tanh"' if extra == ("tanh",) else name
        saved = x if extra else getattr(REFERENCE.activation, name)(x)
        backwards = f"{name}_backward"
        table += rows(label, "-12 to 12", call(name, extra), (x,), out=forward)
        table += rows(
            label.replace(name, backwards), "-12 to 12", call(backwards, extra), (grad, saved), out=backward
        )
    logs = ("1 + abs(result)", lambda exact, x: 1 + np.abs(exact))
    shares, log_shares = (
        REFERENCE.activation.softmax(softened, 1),
        REFERENCE.activation.log_softmax(softened, 1),
    )

    def spread(exact: Any, grad: Any, out: Any) -> Any:
        return out * (np.abs(grad) + (np.abs(grad) * out).sum(1, keepdims=True))

    def log_spread(exact: Any, grad: Any, out: Any) -> Any:
        return np.abs(grad) + np.exp(out) * (1 + np.abs(out)) * np.abs(grad).sum(1, keepdims=True)

    size = "64 x 1000"
    for name, operands, unit, bound in (
        ("softmax", (softened,), OWN, 24),
        ("log_softmax", (softened,), logs, 8),
        ("softmax_backward", (slope, shares), ("its terms", spread), 3),
        ("log_softmax_backward", (slope, log_shares), ("its terms", log_spread), 3),
    ):
        table += rows(name, size, call(name, (1,)), operands, out=(unit, bound))
    return table


def losses() -> list[Row]:
    table = []
    for name, shape in (
        ("softmax_cross_entropy", (4096, 10)),
        ("softmax_cross_entropy", (64, 1000)),
        ("sigmoid_cross_entropy", (4096, 10)),
        ("mse", (4096, 10)),
    ):
        pred, targets = cases.Loss("", name, shape).operands()
        unit = ("1 + abs(pred)", lambda exact, pred, targets: 1 + np.abs(pred))
        table += rows(
            name, f"{shape[0]} x {shape[1]}", lambda room, *o, name=name: getattr(room.loss, name)(*o, 1.0),
            (pred, targets), loss=(OWN, 1), grad=(unit if name == "mse" else ONE, 4),
        )  # fmt: skip
    return table


def norm() -> list[Row]:
    x, grad = (cases.channels_last(draw(50, 32, 16, 16, seed=seed)) for seed in (1, 2))
    weight, bias, mean, var = (np.abs(draw(32, seed=seed)) + np.float32(0.1) for seed in range(4))
    saved = REFERENCE.norm.batch_norm(
        *parity.wide(x, weight, bias, mean.copy(), var.copy()), True, 0.1, 1e-5
    )[1:]

    def forward(room: Backend, x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
        return room.norm.batch_norm(x, weight, bias, mean.copy(), var.copy(), True, 0.1, 1e-5)

    def backward(room: Backend, *operands: Any) -> Any:
        return room.norm.batch_norm_backward(*operands, True, True)

    def column(v: Any) -> Any:
        return v[:, None, None]

    def terms(exact: Any, x: Any, weight: Any, bias: Any, *_: Any) -> Any:
        return column(weight) * np.abs(x - x.mean((0, 2, 3), keepdims=True)) + column(bias)

    def of_h(exact: Any, grad: Any, x: Any, weight: Any, mean: Any, inv_std: Any) -> Any:
        return (np.abs(grad) * np.abs(x - column(mean)) * column(inv_std)).sum((0, 2, 3))

    def of_grad(exact: Any, grad: Any, *_: Any) -> Any:
        return np.abs(grad).sum((0, 2, 3))

    def of_x(exact: Any, grad: Any, x: Any, weight: Any, mean: Any, inv_std: Any) -> Any:
        h = np.abs(x - column(mean)) * column(inv_std)
        means = np.abs(grad) + h * (np.abs(grad) * h).mean((0, 2, 3), keepdims=True)
        return column(weight) * column(inv_std) * (means + np.abs(grad).mean((0, 2, 3), keepdims=True))

    operands = (grad, x, weight, *(s.astype(np.float32) for s in saved))
    return [
        *rows(
            "batch_norm", "50 x 32 x 16 x 16", forward, (x, weight, bias, mean, var),
            out=(("its terms", terms), 4), mean=(ONE, 1), inv_std=(OWN, 2),
        ),
        *rows(
            "batch_norm_backward", "50 x 32 x 16 x 16", backward, operands,
            grad_x=(("its terms", of_x), 4), grad_weight=(("its terms", of_h), 1),
            grad_bias=(("its terms", of_grad), 1),
        ),
    ]  # fmt: skip


def updates() -> list[Row]:
    param, grad, m = (draw(20_001, seed=seed) for seed in range(3))
    v = np.square(draw(20_001, seed=3)) + np.float32(0.01)

    def stepped(name: str, *numbers: Any) -> Any:
        def call(room: Backend, *arrays: Any) -> Any:
            own = [array.copy() for array in arrays]
            getattr(room.update, name)(room.update.bind(*([array] for array in own)), *numbers)
            return own[0]

        return call

    def penalty(room: Backend, param: Any, grad: Any) -> Any:
        return room.update.l2_penalty(room.update.bind([param.copy()], [grad.copy()]), 0.5)

    moved = ("abs(p) + abs(step)", lambda exact, param, *_: np.abs(param) + np.abs(exact - param))
    sizes = ("abs(p) + its terms", lambda exact, *all: sum(np.abs(a) for a in all))
    shape = "20001 numbers"
    return [
        *rows(
            "sgd", shape, stepped("sgd", 1, 0.9, 0.0, 0.01, False, False), (param, grad, m), out=(sizes, 2)
        ),
        *rows(
            "adam",
            shape,
            stepped("adam", 0.1, 0.9, 0.999, 1e-8, 0.0, True, 5),
            (param, grad, m, v),
            out=(moved, 4),
        ),
        *rows(
            "rmsprop", shape, stepped("rmsprop", 0.1, 0.9, 1e-8, 0.0, 0.0), (param, grad, v), out=(moved, 4)
        ),
        *rows("l2_penalty", shape, penalty, (param, grad), out=(OWN, 1)),
    ]


def table() -> list[Row]:
    return [*products(), *pooling(), *activations(), *losses(), *norm(), *updates()]


BEGIN, END = "<!-- python -m tests.numbers --write: begin -->", "<!-- end -->"


def markdown() -> str:
    lines = [
        "| kernel | operands | result | error | of NumPy | bound | ε times |",
        "|---|---|---|--:|--:|--:|---|",
    ]
    for row in table():
        errors = " | ".join(f"{row.error(room):.2g}" for room in (CPU, REFERENCE))
        lines.append(f"| {row.kernel} | {row.shape} | {row.result} | {errors} | {row.bound:g} | {row.unit} |")
    return "\n".join(lines)


def write(path: Path) -> None:
    before, rest = path.read_text().split(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{markdown()}\n{END}{rest.split(END, 1)[1]}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(Path(sys.argv[2]))
    else:
        print(markdown())
