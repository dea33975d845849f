"""What an experiment is: a function that builds a training run, and the variants whose results were
published.

The function's keyword arguments are the settings, their defaults the published configuration; a variant is
other values for some of them. So a command line, a sweep or a test changes any setting of any experiment by
its name.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastnn import metrics
from fastnn.data import Dataset

Root = str | os.PathLike[str] | None  # where the data sets lie; None: see fastnn.data.data_root

# One module each, imported when asked for; "mnist-mlp" is mnist_mlp.py.
NAMES = ("mnist-mlp", "mnist-lenet", "cifar10-cnn")


@dataclass(frozen=True)
class Published:
    """What a report measured: accuracies in per cent, wall time in seconds; None where it does not say."""

    test: float | None = None
    validation: float | None = None
    train: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Variant:
    """Settings that differ from the defaults of the experiment's function, and what they led to."""

    published: Published
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Setup:
    """Everything a run needs: what the experiment's function returns.

    Attributes
    ----------
    train, validation, test : (x, y)
    model, loss, optimizer, schedule, schedule_per, l2, metric, train_accuracy
        See :class:`fastnn.training.Trainer`.
    epochs, batch_size : int
    dataset : Dataset
        That `train`, `validation` and `test` are made from, for its class names and the shape of its images.
    """

    train: tuple[Any, Any]
    validation: tuple[Any, Any]
    test: tuple[Any, Any]
    model: Any
    loss: Any
    optimizer: Any
    epochs: int
    batch_size: int
    dataset: Dataset
    schedule: Callable[[int], float] | None = None
    schedule_per: str = "epoch"
    l2: float = 0.0
    metric: Callable[[Any, Any], float] = metrics.accuracy
    train_accuracy: str = "full"


@dataclass(frozen=True)
class Experiment:
    """A named experiment: `build(root, **settings) -> Setup`, and its variants, the first of them the
    default.
    """

    name: str
    build: Callable[..., Setup]
    variants: Mapping[str, Variant]

    def settings(self, variant: str | None = None, **changed: Any) -> dict[str, Any]:
        """All settings of a variant (the first, if None) after changes by name; a change to None is none.

        Raises
        ------
        ValueError
            There is no such variant or setting.
        """
        name = next(iter(self.variants)) if variant is None else variant
        if name not in self.variants:
            raise ValueError(f"{self.name} has no variant {name!r}: choose one of {', '.join(self.variants)}")
        parameters = inspect.signature(self.build).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        changed = {key: value for key, value in changed.items() if value is not None}
        for key in changed:
            if key not in defaults:
                raise ValueError(f"{self.name} has no setting {key!r}: it has {', '.join(defaults)}")
        return {**defaults, **self.variants[name].settings, **changed}

    def setup(self, variant: str | None = None, *, data: Root = None, **changed: Any) -> Setup:
        """Build a variant, with data under the folder `data` (:func:`fastnn.data.data_root` if None)."""
        return self.build(data, **self.settings(variant, **changed))


def get(name: str) -> Experiment:
    """The experiment called `name`.

    Raises
    ------
    ValueError
        There is none; the message names those there are.
    """
    if name not in NAMES:
        raise ValueError(f"unknown experiment {name!r}: choose one of {', '.join(NAMES)}")
    module = importlib.import_module(f"fastnn.experiments.{name.replace('-', '_')}")
    return module.experiment
