"""What an experiment is: a function that builds a training run, and the variants whose results were
published.

The function's keyword arguments are the settings, their defaults the published configuration; a variant is
other values for some of them, and a search tries many. So a command line, a sweep or a test changes any
setting of any experiment by its name.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastnn import metrics
from fastnn.data import Dataset

Root = str | os.PathLike[str] | None  # where the data sets lie; None: see fastnn.data.data_root

# One module each, imported when asked for; "mnist-mlp" is mnist_mlp.py.
NAMES = (
    *("cifar2-mlp", "cifar10-clr", "mnist-mlp", "mnist-lenet"),
    *("cifar10-mse", "cifar10-linear", "cifar10-sigmoid", "cifar10-cnn"),
)


@dataclass(frozen=True)
class Published:
    """What a report measured: accuracies in per cent, the training loss at the end, wall time in seconds;
    None where it does not say.
    """

    test: float | None = None
    validation: float | None = None
    train: float | None = None
    loss: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Variant:
    """Settings that differ from the defaults of the experiment's function, and what they led to.

    Attributes
    ----------
    published : Published
    settings : mapping
    quick_epochs : int, optional
        How many epochs show in a few seconds that the network learns; without it, all of them do.
    """

    published: Published
    settings: Mapping[str, Any] = field(default_factory=dict)
    quick_epochs: int | None = None


@dataclass(frozen=True)
class LogUniform:
    """Values between `low` and `high`, all orders of magnitude alike."""

    low: float
    high: float


@dataclass(frozen=True)
class Search:
    """Which settings to try.

    Attributes
    ----------
    space : mapping
        For each setting searched over, a :class:`LogUniform` or the values themselves. Values only make a
        grid, all of whose points are tried.
    draws : int, optional
        How many points to draw where there is no grid.
    settings : mapping
        Other settings that differ from the experiment's defaults.
    """

    space: Mapping[str, LogUniform | Sequence[Any]]
    draws: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Setup:
    """Everything a run needs: what the experiment's function returns.

    Attributes
    ----------
    train, validation, test : (x, y)
    model, loss, optimizer, schedule, schedule_per, l2, metric, train_accuracy
        See :class:`fastnn.training.Trainer`.
    epochs, batch_size, draws
        See :meth:`fastnn.training.Trainer.fit`.
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
    train_accuracy: str = "running"
    draws: int | None = None


@dataclass(frozen=True)
class Experiment:
    """A named experiment: `build(root, **settings) -> Setup`, and its variants and searches, the first of
    each the default.
    """

    name: str
    build: Callable[..., Setup]
    variants: Mapping[str, Variant]
    searches: Mapping[str, Search] = field(default_factory=dict)

    def defaults(self) -> dict[str, Any]:
        """Every setting, at its default."""
        parameters = inspect.signature(self.build).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    def parse(self, name: str, text: str) -> Any:
        """The value that `text` stands for, of the type that the setting `name` has.

        Raises
        ------
        ValueError
            There is no such setting, or the text is no value of its type.
        """
        self._check(name)
        kind = type(self.defaults()[name])
        if kind is bool and text in ("true", "false"):
            return text == "true"
        try:
            return {int: int, float: float, str: str}[kind](text)
        except (KeyError, ValueError):
            kinds = {int: "a whole number", float: "a number", bool: "true or false"}
            raise ValueError(f"{name} of {self.name} is {kinds[kind]}, not {text!r}") from None

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
        changed = {key: value for key, value in changed.items() if value is not None}
        for key in changed:
            self._check(key)
        return {**self.defaults(), **self.variants[name].settings, **changed}

    def _check(self, setting: str) -> None:
        if setting not in (defaults := self.defaults()):
            raise ValueError(f"{self.name} has no setting {setting!r}: it has {', '.join(defaults)}")

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
