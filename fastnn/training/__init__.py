"""Training: :class:`Trainer` takes the public training step over epochs; :class:`History` is what it saw.

``trainer`` is the loop and ``step`` its step; ``feed`` gathers its batches; ``history`` is what it records;
``checkpoint`` is what it leaves on disk so that a run killed at any instant goes on to the same weights;
``diagnosis`` says in one line why a run failed.
"""

from fastnn.training.checkpoint import CheckpointError
from fastnn.training.history import History
from fastnn.training.step import TrainingStep
from fastnn.training.trainer import Trainer

__all__ = ["CheckpointError", "History", "Trainer", "TrainingStep"]
