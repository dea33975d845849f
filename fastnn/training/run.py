"""One run: what it works on, where it stands, and how both are written to a checkpoint and read back."""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from fastnn import backend
from fastnn.training import checkpoint
from fastnn.training.checkpoint import CheckpointError
from fastnn.training.feed import Rows
from fastnn.training.history import History


@dataclass
class Position:
    """Where a run stands: enough to go on from exactly there."""

    epoch: int = 0  # finished epochs
    step: int = 0  # steps taken in the epoch at hand
    loss_sum: float = 0.0  # over those steps, weighted by examples
    score_sum: float = 0.0
    seconds: float = 0.0
    best_loss: float = math.inf
    epochs_since_best: int = 0


@dataclass
class Run:
    """What one call of :meth:`Trainer.fit` works on."""

    x: Rows
    y: Rows
    validation: tuple[Rows, Rows] | None
    epochs: int
    batch_size: int
    shuffle_seed: int | None
    draws: int | None = None  # batches of an epoch, where they are drawn with replacement
    history: History = field(default_factory=History)
    position: Position = field(default_factory=Position)
    best: dict[str, Any] | None = None  # weights of the best epoch, where they are to be restored
    saved_at: float = -math.inf

    @property
    def examples(self) -> int:
        """Examples that an epoch visits."""
        return len(self.x) if self.draws is None else self.draws * self.batch_size

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return -(-self.examples // self.batch_size)

    def _plan(self) -> dict[str, Any]:
        """What must be the same in the run that goes on."""
        shuffle = self.shuffle_seed is not None
        return {
            "examples": len(self.x),
            "batch_size": self.batch_size,
            "shuffle": shuffle,
            "draws": self.draws,
        }

    def save(self, path: str | os.PathLike[str], model: Any, optimizer: Any) -> None:
        """Write the state of everything that the next step depends on, and the history, to `path`."""
        history = asdict(self.history)
        history["step_loss"] = np.array(self.history.step_loss, np.float64)
        state = {
            "plan": self._plan(),
            "shuffle_seed": self.shuffle_seed,
            "position": asdict(self.position),
            "history": history,
            "streams": backend.stream_state(),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "best": self.best,
        }
        checkpoint.save(path, state)
        self.saved_at = time.monotonic()

    def resume(self, path: str | os.PathLike[str], model: Any, optimizer: Any) -> None:
        """Put model, optimiser, random streams and this run back to where `path` was written."""
        state = checkpoint.load(path)
        try:
            for name, value in self._plan().items():
                if state["plan"][name] != value:
                    theirs = state["plan"][name]
                    raise CheckpointError(f"{path} belongs to a run with {name} {theirs}, not {value}")
            history, position = History(**state["history"]), _position(state["position"])
            history.step_loss = history.step_loss.tolist()  # type: ignore[attr-defined]
            history.interrupted, history.stopped_early, history.diagnosis = False, False, None
            try:
                model.load_state_dict(state["model"])
                optimizer.load_state_dict(state["optimizer"])
            except (ValueError, KeyError) as error:
                raise CheckpointError(f"{path} is of another model or optimiser: {error}") from error
            backend.set_stream_state(state["streams"])
            self.best, self.shuffle_seed = state["best"], state["shuffle_seed"]
        except CheckpointError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"{path} is no training run's checkpoint ({error!r})") from error
        self.history, self.position = history, position


def _position(state: dict[str, Any]) -> Position:
    """The position that `state` describes; a TypeError or ValueError where it can be none."""
    position = Position(**state)
    for entry in fields(Position):
        value = getattr(position, entry.name)
        if type(value) is not int and (entry.type == "int" or type(value) is not float):
            raise TypeError(f"{entry.name} is {value!r:.40}")
        if entry.type == "int" and value < 0:
            raise ValueError(f"{entry.name} is {value}")
    return position
