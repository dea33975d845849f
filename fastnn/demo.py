"""The demonstration: a small convolutional network learns the 8 × 8 digits of scikit-learn, then races plain
NumPy.

Everything it needs is installed with the package; it takes well under a minute once the kernels are compiled.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastnn
from fastnn import data, plots
from fastnn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from fastnn.losses import SoftmaxCrossEntropy
from fastnn.optim import SGD
from fastnn.schedules import cosine
from fastnn.training import Trainer
from fastnn.training.compiling import compiling_shown

if TYPE_CHECKING:
    from rich.console import Console

_BATCH, _LR = 32, 0.03
_COLUMNS = ("epoch", "loss", "accuracy", "val loss", "val accuracy", "examples/s")


def network() -> Sequential:
    """A LeNet for images of 1 × 8 × 8."""
    return Sequential(
        *(Conv2d(1, 16, 3, padding=1), ReLU(), MaxPool2d(2)),
        *(Conv2d(16, 32, 3, padding=1), ReLU(), MaxPool2d(2)),
        Flatten(),
        *(Linear(128, 64), ReLU()),
        Linear(64, 10),
    )


def run(out: str | os.PathLike[str], *, epochs: int, repeats: int, console: Console) -> dict[str, Any]:
    """Train, show and measure.

    Into `out` go weights.npz, history.json, curves.png and misclassified.png.

    Returns
    -------
    dict
        ``test_accuracy``, and ``numpy`` and ``numba``: the median seconds of `repeats` epochs each.
    """
    from rich.live import Live
    from rich.table import Table

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    digits = data.load_digits()
    x, mean, std = data.standardize(digits.x_train, per="global")
    x_test, _, _ = data.standardize(digits.x_test, mean, std)
    train, validation = data.split(x, digits.y_train, (0.9, 0.1))

    fastnn.seed(0)
    with fastnn.use_backend("numba"):
        model = network()
        console.print(f"{len(train[0])} digits of 8 by 8 pixels to learn, {len(x_test)} to be tested on.")
        status = console.status("compiling the kernels (the first time takes half a minute) ...")
        with status, compiling_shown(status.update):
            _epoch_seconds(train)
        table = Table(*_COLUMNS, box=None, header_style="bold")
        for column in table.columns:
            column.justify = "right"
        trainer = Trainer(
            model,
            SoftmaxCrossEntropy(),
            SGD(model.parameters(), _LR, momentum=0.9),
            schedule=cosine(_LR, epochs),
            progress=lambda record: table.add_row(*_cells(record)),
        )
        with Live(table, console=console):
            history = trainer.fit(*train, epochs, _BATCH, validation=validation)
        if not console.is_terminal:
            console.line()
        accuracy = trainer.evaluate(x_test, digits.y_test)[1]
        predicted = trainer.outputs(x_test).argmax(axis=1)
    console.print(f"test accuracy [bold]{100 * accuracy:.1f} %[/] after {history.seconds:.1f} s")

    model.save(out / "weights.npz")
    history.save(out / "history.json")
    plots.curves(history, out / "curves.png", title="digits")
    plots.misclassified(digits.x_test, digits.y_test, predicted, out / "misclassified.png")

    seconds: dict[str, list[float]] = {"numpy": [], "numba": []}
    for _ in range(repeats):  # in turn, so that whatever else the machine does falls on both
        for name, taken in seconds.items():
            with fastnn.use_backend(name):
                taken.append(_epoch_seconds(train))
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    slow, fast = 1e3 * medians["numpy"], 1e3 * medians["numba"]
    console.print(
        f"an epoch takes {slow:.0f} ms on numpy and {fast:.0f} ms on numba: "
        f"[bold]{slow / fast:.1f} times faster[/] (medians of {repeats})",
        soft_wrap=True,
    )
    console.print(
        f"weights, history, curves and the misclassified digits are in {out}", highlight=False, soft_wrap=True
    )
    return {"test_accuracy": accuracy, **medians}


def _epoch_seconds(train: tuple[Any, Any]) -> float:
    """How long the backend in force takes for one epoch of a fresh network."""
    model = network()
    trainer = Trainer(
        model, SoftmaxCrossEntropy(), SGD(model.parameters(), 0.1, momentum=0.9), progress=False
    )
    start = time.perf_counter()
    trainer.fit(*train, 1, _BATCH)
    return time.perf_counter() - start


def _cells(record: dict[str, Any]) -> list[str]:
    return [
        str(record["epoch"]),
        f"{record['loss']:.4f}",
        f"{100 * record['accuracy']:.2f} %",
        f"{record['val_loss']:.4f}",
        f"{100 * record['val_accuracy']:.2f} %",
        f"{record['examples_per_second']:,.0f}",
    ]
