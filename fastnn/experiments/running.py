"""Run an experiment: train, evaluate, and write everything about it into one folder.

    history.json    loss of each step, one record an epoch
    weights.npz     the trained weights
    curves.png      loss and accuracy, training and validation (where Matplotlib is installed)
    result.json     settings, accuracies, wall time, the published figures, versions, machine
    checkpoint.npz  the state to resume from

and, if asked for, ``confusion.png``, ``weights.png`` and ``mistakes.png``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
from fastnn import metrics, plots
from fastnn.backend import get_backend
from fastnn.experiments.base import Setup, get
from fastnn.experiments.environment import environment
from fastnn.training import History, Trainer
from fastnn.training.checkpoint import write_atomically

PICTURES = ("confusion", "weights", "mistakes")
_CHECKPOINT_SECONDS = 10.0  # a checkpoint a small network's epoch would cost more than the epoch


def run(
    name: str,
    variant: str | None = None,
    *,
    out: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    seed: int = 0,
    resume: bool = False,
    progress: bool | Callable[[dict[str, Any]], Any] = True,
    pictures: Collection[str] = (),
    **settings: Any,
) -> dict[str, Any]:
    """Train a variant of an experiment and write its results into a folder.

    Parameters
    ----------
    name, variant : str
        See :func:`fastnn.experiments.get`; without `variant`, the experiment's first.
    out : path
        The folder; made if it is not there.
    data : path, optional
        Where the data sets lie; see :func:`fastnn.data.data_root`.
    seed : int
        Of the initial weights, shuffles and dropout.
    resume : bool
        Go on from the folder's checkpoint, if it has one.
    progress : bool or callable
        See :class:`fastnn.training.Trainer`.
    pictures : collection of {"confusion", "weights", "mistakes"}
        What else to draw of the trained network.
    **settings
        Changes to the variant's settings, such as ``epochs=5``.

    Returns
    -------
    dict
        What ``result.json`` holds. ``history`` is not in it.

    Raises
    ------
    ValueError
        An unknown name, variant, setting or picture.
    fastnn.data.DataError
        The data set is missing or damaged.
    """
    experiment = get(name)
    if unknown := set(pictures) - set(PICTURES):
        raise ValueError(f"unknown picture {min(unknown)!r}: choose from {', '.join(PICTURES)}")
    if pictures and find_spec("matplotlib") is None:
        raise ImportError("pictures need Matplotlib: pip install 'fastnn-kernels[plot]'")
    config = experiment.settings(variant, **settings)
    variant = variant or next(iter(experiment.variants))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    fastnn.seed(seed)
    setup = experiment.setup(variant, data=data, **settings)
    trainer = Trainer(
        setup.model,
        setup.loss,
        setup.optimizer,
        schedule=setup.schedule,
        schedule_per=setup.schedule_per,
        l2=setup.l2,
        metric=setup.metric,
        progress=progress,
        checkpoint=out / "checkpoint.npz",
        checkpoint_every=_CHECKPOINT_SECONDS,
        train_accuracy=setup.train_accuracy,
    )
    history = trainer.fit(
        *setup.train, setup.epochs, setup.batch_size, validation=setup.validation, resume=resume
    )
    result = {
        "experiment": name,
        "variant": variant,
        "settings": config,
        "seed": seed,
        "epochs": len(history),
        "accuracy": {
            "train": trainer.evaluate(*setup.train)[1],
            "validation": trainer.evaluate(*setup.validation)[1],
            "test": trainer.evaluate(*setup.test)[1],
        },
        "seconds": history.seconds,
        "interrupted": history.interrupted,
        "diagnosis": history.diagnosis,
        "published": asdict(experiment.variants[variant].published),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **environment(),
    }
    history.save(out / "history.json")
    setup.model.save(out / "weights.npz")
    text = json.dumps(result, indent=2, default=str)
    write_atomically(out / "result.json", lambda file: file.write(text.encode()))
    _draw(name, variant, setup, trainer, history, out, pictures)
    return result


def _draw(
    name: str,
    variant: str,
    setup: Setup,
    trainer: Trainer,
    history: History,
    out: Path,
    pictures: Collection[str],
) -> None:
    if find_spec("matplotlib") is None:
        return
    to_numpy = get_backend().to_numpy
    plots.curves(history, out / "curves.png", title=f"{name} {variant}")
    if "weights" in pictures:
        weights = next(to_numpy(p.data) for p in setup.model.parameters() if p.data.ndim >= 2)
        if weights.ndim == 2:
            plots.weight_images(weights, setup.dataset.x_train.shape[1:], out / "weights.png")
        else:  # filters (O, C, KH, KW)
            plots.weight_images(weights.reshape(len(weights), -1).T, weights.shape[1:], out / "weights.png")
    if "confusion" in pictures or "mistakes" in pictures:
        x, true = to_numpy(setup.test[0]), _labels(to_numpy(setup.test[1]))
        predicted = _labels(to_numpy(trainer.outputs(x)))
        names = setup.dataset.class_names
        if "confusion" in pictures:
            matrix = metrics.confusion_matrix(predicted, true, len(names), normalize="true")
            plots.confusion_matrix(matrix, names, out / "confusion.png")
        if "mistakes" in pictures:
            images = x.reshape(-1, *setup.dataset.x_train.shape[1:])
            plots.misclassified(images, true, predicted, out / "mistakes.png", class_names=names)


def _labels(y: np.ndarray) -> np.ndarray:
    """Classes from labels (N,), scores or one-hot rows (N, K), or binary logits and targets (N, 1)."""
    if y.ndim == 1:
        return y.astype(np.int64)
    return (y[:, 0] >= 0.5).astype(np.int64) if y.shape[1] == 1 else y.argmax(axis=1)
