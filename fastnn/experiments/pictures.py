"""What is drawn of a run: its curves always, and of the trained network what was asked for."""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fastnn import metrics, plots
from fastnn.backend import get_backend
from fastnn.experiments.base import Setup
from fastnn.training import History

PICTURES = ("confusion", "weights", "mistakes", "schedule")


def check(asked: Collection[str]) -> None:
    """Refuse, before anything is trained, pictures that there are not or that cannot be drawn here."""
    if unknown := set(asked) - set(PICTURES):
        raise ValueError(f"unknown picture {min(unknown)!r}: choose from {', '.join(PICTURES)}")
    if asked and find_spec("matplotlib") is None:
        raise ImportError("pictures need Matplotlib: pip install 'fastnn-kernels[plot]'")


def curves(history: History, out: Path, title: str) -> None:
    """The curves of a run into the folder `out`, where Matplotlib is installed."""
    if find_spec("matplotlib") is not None:
        plots.curves(history, out / "curves.png", title=title)


def draw(asked: Collection[str], setup: Setup, predicted: np.ndarray, true: np.ndarray, out: Path) -> None:
    """The pictures `asked` for into the folder `out`, given the classes of the test images."""
    names = setup.dataset.class_names
    if "confusion" in asked:
        shares = metrics.confusion_matrix(predicted, true, len(names), normalize="true")
        plots.confusion_matrix(shares, names, out / "confusion.png")
    if "mistakes" in asked:
        images = setup.dataset.x_test[: len(true)]
        plots.misclassified(images, true, predicted, out / "mistakes.png", class_names=names)
    if "weights" in asked:
        _first_weights(setup, out)
    if "schedule" in asked and setup.schedule is not None:
        steps = setup.draws or -(-len(setup.train[0]) // setup.batch_size)
        times = setup.epochs * (steps if setup.schedule_per == "step" else 1)
        plots.schedule(setup.schedule, times, out / "schedule.png", per=setup.schedule_per)


def _first_weights(setup: Setup, out: Path) -> None:
    """An image for each unit of the first layer, named where the units are the classes."""
    parameters = (get_backend().to_numpy(p.data) for p in setup.model.parameters())
    weights = next(values for values in parameters if values.ndim >= 2)
    shape: tuple[int, ...] = setup.dataset.x_train.shape[1:]
    if weights.ndim == 4:  # filters (O, C, KH, KW)
        weights, shape = weights.reshape(len(weights), -1).T, weights.shape[1:]
    names = setup.dataset.class_names
    titles = names if weights.shape[1] == len(names) else None
    plots.weight_images(weights, shape, out / "weights.png", names=titles)


def labels(y: np.ndarray) -> np.ndarray:
    """Classes from labels (N,), scores or one-hot rows (N, K), or binary logits and targets (N, 1)."""
    if y.ndim == 1:
        return y.astype(np.int64)
    return (y[:, 0] >= 0.5).astype(np.int64) if y.shape[1] == 1 else y.argmax(axis=1)
