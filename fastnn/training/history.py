"""What a training run saw: the loss of each step, and one record an epoch."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fastnn.training.checkpoint import write_atomically


@dataclass
class History:
    """The record of one training run.

    Attributes
    ----------
    step_loss : list of float
        The loss of each step's batch, before that step's update: per example, the L2 penalty included.
    epochs : list of dict
        One record a finished epoch, with the keys ``epoch`` (from 1), ``steps`` (steps taken so far),
        ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy`` (the last two None without validation data),
        ``lr`` (of the epoch's last step), ``seconds``, and ``examples_per_second`` of the training part.
    interrupted : bool
        Ctrl-C ended the run before its last epoch.
    stopped_early : bool
        The validation loss had not improved for as long as `early_stop` allows.
    best_epoch : int or None
        The epoch with the lowest validation loss (training loss without validation data).
    diagnosis : str or None
        One line that says what went wrong and its likely cause: the loss became NaN, or never left chance.
    """

    step_loss: list[float] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False
    stopped_early: bool = False
    best_epoch: int | None = None
    diagnosis: str | None = None

    def __len__(self) -> int:
        """How many epochs were finished."""
        return len(self.epochs)

    def column(self, key: str) -> list[Any]:
        """Entry `key` of each epoch's record: ``history.column("val_accuracy")``."""
        return [record[key] for record in self.epochs]

    @property
    def seconds(self) -> float:
        """Wall time of the finished epochs, summed over resumed runs."""
        return sum(record["seconds"] for record in self.epochs)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the history as strict JSON (UTF-8); a loss that is not finite is written as null."""
        text = json.dumps(_finite(asdict(self)), allow_nan=False)
        write_atomically(path, lambda file: file.write(text.encode()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> History:
        """Read what :meth:`save` wrote; a null loss of a step comes back as NaN.

        Raises
        ------
        ValueError
            The file is not a history written by :meth:`save`.
        """
        try:
            state = json.loads(Path(path).read_bytes())
            steps = [math.nan if loss is None else float(loss) for loss in state["step_loss"]]
            known = {f.name: state[f.name] for f in fields(cls)}
            if not all(isinstance(record, dict) for record in known["epochs"]):
                raise TypeError("an epoch's record is no object")
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise ValueError(f"{os.fspath(path)} is not a training history: {error!r}") from error
        return cls(**{**known, "step_loss": steps})


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
