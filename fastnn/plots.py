"""Pictures, one call each. Of a training run: curves, weights, confusion matrix, mistakes, learning-rate
schedule. Of a search: the scores of its trials.

Every function returns a Matplotlib figure and, given a `path`, also writes it there. Figures are made without
pyplot: no window, no global state, the Agg renderer whatever the environment says. Matplotlib is imported
when first needed (``pip install 'fastnn-kernels[plot]'``). Colours are from the palette of Okabe and Ito,
which the colour-blind can tell apart; where a colour tells two things apart, so does the line style.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.layers.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastnn.training import History

_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#7F8C99"
_DPI = 150


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need Matplotlib: pip install 'fastnn-kernels[plot]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr,call-arg]
    FigureCanvasAgg(figure)
    return figure


def _finish(figure: Figure, path: str | os.PathLike[str] | None) -> Figure:
    if path is not None:
        kind = Path(path).suffix[1:] or "png"
        write_atomically(path, lambda file: figure.savefig(file, format=kind, dpi=_DPI))
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def curves(history: History, path: str | os.PathLike[str] | None = None, *, title: str = "") -> Figure:
    """Loss (left) and accuracy (right) against epochs, for training and validation.

    The loss of each step lies behind the curves: the median and the middle 80 % of up to 400 stretches of the
    run.
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = _figure(10, 4)
    left, right = figure.subplots(1, 2)
    epochs = np.array(history.column("epoch"), float)
    steps = np.array(history.step_loss, float)
    steps = steps[np.isfinite(steps)]  # a run ends with its first loss that is not
    per_epoch = history.epochs[0]["steps"] if history.epochs else max(1, len(steps))
    if len(steps) > 1:
        groups = np.array_split(steps, min(400, len(steps)))
        low, middle, high = (np.array([np.quantile(g, q) for g in groups]) for q in (0.1, 0.5, 0.9))
        at = (np.cumsum([len(g) for g in groups]) - [len(g) / 2 for g in groups]) / per_epoch
        left.fill_between(at, low, high, color=_GREY, alpha=0.25, linewidth=0)
        left.plot(at, middle, color=_GREY, alpha=0.7, linewidth=0.8, label="batches")
    dot = "o" if len(epochs) <= 20 else ""  # one an epoch, while they can be told apart
    for axes, quantity in ((left, "loss"), (right, "accuracy")):
        for key, style, colour, label in (
            (quantity, "-", _BLUE, "train"),
            (f"val_{quantity}", "--", _ORANGE, "validation"),
        ):
            values = _floats(history, key)
            if np.isfinite(values).any():
                axes.plot(
                    epochs, values, style, color=colour, marker=dot, markersize=4, label=label, clip_on=False
                )
        axes.set(xlabel="epoch", ylabel=quantity)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.set_xlim(0, max(1.0, len(steps) / per_epoch) * 1.02)
        _plain(axes)
        if axes.lines:
            axes.legend(frameon=False)
    if title:
        figure.suptitle(title, fontsize=11)
    if len(steps):  # a spike of a few steps must not flatten everything else
        top = max([float(np.quantile(steps, 0.995)), *_finite(_floats(history, "loss", "val_loss"))])
        left.set_ylim(min(0.0, float(steps.min())), 1.05 * top if top > 0 else None)
    scores = _finite(_floats(history, "accuracy", "val_accuracy"))
    room = 0.05 * (max(scores, default=1.0) - min(scores, default=0.0)) or 0.01
    right.set_ylim(max(0.0, min(scores, default=0.0) - room), min(1.0, max(scores, default=1.0) + room))
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    return _finish(figure, path)


def weight_images(
    weights: np.ndarray,
    shape: tuple[int, ...],
    path: str | os.PathLike[str] | None = None,
    *,
    names: Sequence[str] | None = None,
) -> Figure:
    """The weights into each unit drawn as an image, on a grid.

    Parameters
    ----------
    weights : array (in_features, units)
        Of a :class:`fastnn.Linear`.
    shape : (H, W) or (C, H, W)
        Of the inputs, with C = 1 or 3. One channel is drawn from blue (negative) through white to red
        (positive), on one scale for all units; three channels as colours, each unit stretched over its own
        range.
    names : sequence of str, optional
        A title for each image.
    """
    weights = np.asarray(weights, float)
    if weights.ndim != 2 or math.prod(shape) != weights.shape[0] or len(shape) not in (2, 3):
        raise ValueError(f"weights of shape {weights.shape} do not make images of shape {shape}")
    images = weights.T.reshape(-1, *shape)
    limit = float(np.abs(weights).max()) or 1.0
    root = math.ceil(math.sqrt(len(images)))
    columns = min(range(root, 2 * root), key=lambda width: -len(images) % width)  # the fullest last row
    figure, cells = _grid(len(images), columns, title_lines=0 if names is None else 1)
    drawn: Any = None
    for unit, (axes, image) in enumerate(zip(cells, images, strict=False)):
        if len(shape) == 3 and shape[0] == 3:
            span = float(np.ptp(image)) or 1.0
            axes.imshow((image.transpose(1, 2, 0) - image.min()) / span)
        else:
            drawn = axes.imshow(image.reshape(shape[-2:]), cmap="RdBu_r", vmin=-limit, vmax=limit)
        if names is not None:
            axes.set_title(names[unit], fontsize=9)
    if drawn is not None:
        figure.colorbar(drawn, ax=cells, location="bottom", shrink=0.6, aspect=30, label="weight")
    return _finish(figure, path)


def confusion_matrix(
    matrix: np.ndarray,
    class_names: Sequence[str] | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """A heat map of a confusion matrix, rows the true classes, columns the predicted ones.

    Parameters
    ----------
    matrix : array (K, K)
        Of :func:`fastnn.metrics.confusion_matrix`: counts, or (``normalize="true"``) shares of each row,
        which are written in per cent.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"a confusion matrix is square, got shape {matrix.shape}")
    size = len(matrix)
    names = [str(k) for k in range(size)] if class_names is None else list(class_names)
    shares = matrix.dtype.kind == "f"
    figure = _figure(max(3.5, 1.6 + 0.55 * size), max(3.0, 1.1 + 0.5 * size))
    axes = figure.subplots()
    # The diagonal of a good classifier is far above the rest: a square root keeps the mistakes visible.
    shade = np.sqrt(np.maximum(matrix, 0) / max(float(matrix.max(initial=0)), 1e-12))
    axes.imshow(shade, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row in range(size):
        for column in range(size):
            value = matrix[row, column]
            text = f"{100 * value:.1f}" if shares else str(value)
            colour = "white" if shade[row, column] > 0.6 else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    slanted: Any = (
        {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 3 else {}
    )
    axes.set_xticks(range(size), names, **slanted)
    axes.set_yticks(range(size), names)
    axes.tick_params(length=0)
    axes.set(xlabel="predicted", ylabel="true", title="per cent of each true class" if shares else "examples")
    axes.spines[:].set_visible(False)
    return _finish(figure, path)


def misclassified(
    x: np.ndarray,
    true: np.ndarray,
    predicted: np.ndarray,
    path: str | os.PathLike[str] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    limit: int = 32,
) -> Figure:
    """The first `limit` images that were classified wrongly, each with its true and its predicted class.

    Parameters
    ----------
    x : array (N, H, W) or (N, C, H, W)
        C = 1 or 3; all images are drawn on one scale.
    true, predicted : int array (N,)
    """
    true, predicted = np.asarray(true), np.asarray(predicted)
    images = np.asarray(x, float)
    if images.ndim == 3:
        images = images[:, None]
    wrong = np.flatnonzero(true != predicted)
    shown = wrong[:limit]
    name = str if class_names is None else class_names.__getitem__
    two_lines = class_names is not None and max(map(len, class_names)) > 3
    figure, cells = _grid(len(shown), max(1, min(8, len(shown))), title_lines=1 + two_lines)
    low, high = float(images.min(initial=0)), float(images.max(initial=0))
    for axes, index in zip(cells, shown, strict=False):
        image = ((images[index] - low) / ((high - low) or 1.0)).transpose(1, 2, 0)
        axes.imshow(image if image.shape[2] == 3 else 1 - image[:, :, 0], cmap="gray", vmin=0, vmax=1)
        gap = "\n" if two_lines else " "
        axes.set_title(f"{name(true[index])}{gap}\N{RIGHTWARDS ARROW} {name(predicted[index])}", fontsize=9)
    figure.suptitle(f"{len(wrong)} of {len(true)} wrong (true \N{RIGHTWARDS ARROW} predicted)", fontsize=11)
    return _finish(figure, path)


def schedule(
    schedule: Callable[[int], float],
    steps: int,
    path: str | os.PathLike[str] | None = None,
    *,
    per: str = "step",
) -> Figure:
    """The learning rate of a schedule (see :mod:`fastnn.schedules`) over its first `steps` steps (or epochs:
    `per`).
    """
    figure = _figure(6, 3.2)
    axes = figure.subplots()
    rates = [schedule(t) for t in range(steps)]
    axes.plot(range(steps), rates, color=_BLUE)
    if rates and rates[0] > 100 * rates[-1] > 0:  # a decay; cycles keep their shape on a linear scale only
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set(xlabel=per, ylabel="learning rate")
    _plain(axes)
    return _finish(figure, path)


def trials(
    settings: Mapping[str, Sequence[Any]],
    scores: Sequence[float],
    path: str | os.PathLike[str] | None = None,
    *,
    title: str = "",
) -> Figure:
    """The validation accuracies of a search against the settings tried, a panel each; the best three ringed.

    Parameters
    ----------
    settings : mapping
        For each setting searched over, its value in each trial.
    scores : sequence of float
        The accuracy, 0 to 1, of each trial.
    """
    from matplotlib.ticker import PercentFormatter

    figure = _figure(max(4.5, 3.2 * len(settings)), 3.4)
    best = sorted(range(len(scores)), key=lambda trial: -scores[trial])[:3]
    for axes, (name, values) in zip(
        figure.subplots(1, len(settings), sharey=True, squeeze=False)[0], settings.items(), strict=True
    ):
        axes.scatter(values, scores, s=22, color=_BLUE, alpha=0.8, linewidths=0)
        ringed = [values[trial] for trial in best], [scores[trial] for trial in best]
        axes.scatter(*ringed, s=90, facecolors="none", edgecolors=_ORANGE, linewidths=1.5)
        numbers = all(isinstance(value, int | float) for value in values)
        if numbers and min(values) > 0 and max(values) > 100 * min(values):
            axes.set_xscale("log")
        axes.set_xlabel(name.replace("_", " "))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        _plain(axes)
    figure.axes[0].set_ylabel("validation accuracy")
    if title:
        figure.suptitle(title, fontsize=11)
    return _finish(figure, path)


def _grid(count: int, columns: int, *, title_lines: int) -> tuple[Figure, list[Axes]]:
    """A figure with `count` bare square cells under titles of so many lines, and the cells."""
    rows = max(1, math.ceil(count / columns))
    cell = 1.1 if title_lines else min(1.1, 12 / columns)
    figure = _figure(max(3.5, columns * cell), max(1.0, rows * (cell + 0.2 * title_lines) + 0.5))
    cells = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in cells:
        axes.axis("off")
    return figure, cells[:count]


def _floats(history: History, *keys: str) -> np.ndarray:
    values = [value for key in keys for value in history.column(key)]
    return np.array([math.nan if value is None else value for value in values], float)


def _finite(values: np.ndarray) -> list[float]:
    return values[np.isfinite(values)].tolist()
