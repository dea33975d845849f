"""Run an experiment: train, evaluate, and write everything about it into one folder.

    history.json    loss of each step, one record an epoch
    weights.npz     the trained weights
    curves.png      loss and accuracy, training and validation (where Matplotlib is installed)
    result.json     settings, accuracies, wall time, the published figures, versions, machine
    checkpoint.npz  the state to resume from

and, if asked for, ``confusion.png``, ``weights.png``, ``mistakes.png`` and ``schedule.png``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fastnn
from fastnn import metrics
from fastnn.backend import get_backend
from fastnn.experiments import pictures as drawing
from fastnn.experiments.base import Setup, get
from fastnn.experiments.environment import environment
from fastnn.training import History, Trainer
from fastnn.training.checkpoint import write_atomically

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
    weights: str | os.PathLike[str] | None = None,
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
    pictures : collection of {"confusion", "weights", "mistakes", "schedule"}
        What else to draw: the confusion matrix, the first layer's weights, misclassified images, the learning
        rate.
    weights : path, optional
        Load the network from this file if it is there, and train nothing; else train, and save it there.
    **settings
        Changes to the variant's settings, such as ``epochs=5``.

    Returns
    -------
    dict
        What ``result.json`` holds (which is left as it is where weights were loaded).

    Raises
    ------
    ValueError
        An unknown name, variant, setting or picture.
    fastnn.data.DataError
        The data set is missing or damaged.
    """
    experiment = get(name)
    drawing.check(pictures)
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
    loaded = weights is not None and Path(weights).exists()
    if loaded:
        setup.model.load(weights)
        history = History()
    else:
        history = trainer.fit(
            *setup.train,
            setup.epochs,
            setup.batch_size,
            validation=setup.validation,
            resume=resume,
            draws=setup.draws,
        )
    parts = {"train": setup.train, "validation": setup.validation, "test": setup.test}
    scores = {part: trainer.evaluate(*examples) for part, examples in parts.items()}
    to_numpy = get_backend().to_numpy
    predicted = drawing.labels(to_numpy(trainer.outputs(setup.test[0])))
    true = drawing.labels(to_numpy(setup.test[1]))
    classes = setup.dataset.class_names
    result = {
        "experiment": name,
        "variant": variant,
        "settings": config,
        "seed": seed,
        "loaded": str(weights) if loaded else None,
        "epochs": len(history),
        "steps": len(history.step_loss),
        "accuracy": {part: accuracy for part, (_, accuracy) in scores.items()},
        "loss": {part: loss for part, (loss, _) in scores.items()},
        "classes": list(classes),
        "confusion": metrics.confusion_matrix(predicted, true, len(classes)).tolist(),
        "seconds": history.seconds,
        "interrupted": history.interrupted,
        "diagnosis": history.diagnosis,
        "published": asdict(experiment.variants[variant].published),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **environment(),
    }
    drawing.draw(pictures, setup, predicted, true, out)
    if not loaded:
        _write(result, history, setup, out)
        if weights is not None:
            setup.model.save(weights)
    return result


def _write(result: dict[str, Any], history: History, setup: Setup, out: Path) -> None:
    """The record of a training run; ``result.json`` last, for it says that the others are there."""
    history.save(out / "history.json")
    setup.model.save(out / "weights.npz")
    drawing.curves(history, out, f"{result['experiment']} {result['variant']}")
    text = json.dumps(result, indent=2, default=str)
    write_atomically(out / "result.json", lambda file: file.write(text.encode()))
