"""Learning-rate schedules: ``schedule(t)`` is the rate at time ``t`` = 0, 1, 2, ...

What `t` counts, epochs or updates, is up to who calls. A schedule remembers nothing: the rate depends on `t`
alone, so that a resumed run has the rates of one that never stopped. Each is a small frozen dataclass, named
in lower case because it is used as a function: it can be printed, compared and pickled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


def _require(good: bool, what: str) -> None:
    if not good:
        raise ValueError(what)


@dataclass(frozen=True)
class constant:
    """``lr``, always."""

    lr: float

    def __call__(self, t: int) -> float:
        return self.lr


@dataclass(frozen=True)
class exponential:
    """``lr · factor^(t / every)``: a smooth decay, by `factor` in each `every`."""

    lr: float
    factor: float
    every: float = 1

    def __post_init__(self) -> None:
        _require(self.factor > 0, f"factor must be positive, got {self.factor}")
        _require(self.every > 0, f"every must be positive, got {self.every}")

    def __call__(self, t: int) -> float:
        return self.lr * self.factor ** (t / self.every)


@dataclass(frozen=True)
class inverse_time:
    """``lr / (1 + decay · t)``; Keras calls it ``decay`` and counts updates."""

    lr: float
    decay: float

    def __post_init__(self) -> None:
        _require(self.decay >= 0, f"decay must not be negative, got {self.decay}")

    def __call__(self, t: int) -> float:
        return self.lr / (1 + self.decay * t)


@dataclass(frozen=True)
class step:
    """``lr · factor^⌊t / every⌋``: a staircase, down by `factor` after each `every`."""

    lr: float
    factor: float
    every: int

    def __post_init__(self) -> None:
        _require(self.factor > 0, f"factor must be positive, got {self.factor}")
        _require(self.every >= 1, f"every must be at least 1, got {self.every}")

    def __call__(self, t: int) -> float:
        return self.lr * self.factor ** (t // self.every)


@dataclass(frozen=True)
class cyclical_triangular:
    """Straight up from `lr_min` to `lr_max` in `step_size`, straight down in as many, and again (Smith 2017).

    A cycle is ``2 · step_size`` long.
    """

    lr_min: float
    lr_max: float
    step_size: int

    def __post_init__(self) -> None:
        _require(self.step_size >= 1, f"step_size must be at least 1, got {self.step_size}")
        _require(self.lr_min <= self.lr_max, f"lr_min ({self.lr_min}) is above lr_max ({self.lr_max})")

    def __call__(self, t: int) -> float:
        phase = t % (2 * self.step_size)
        height = min(phase, 2 * self.step_size - phase) / self.step_size
        return self.lr_min + (self.lr_max - self.lr_min) * height


@dataclass(frozen=True)
class cosine:
    """Half a cosine from `lr` to `lr_min` at `total`, and `lr_min` from there (Loshchilov & Hutter 2017).

    The first `warmup` times lead up to `lr` in equal steps: ``lr · (t + 1) / warmup``.
    """

    lr: float
    total: int
    lr_min: float = 0.0
    warmup: int = 0

    def __post_init__(self) -> None:
        _require(
            0 <= self.warmup < self.total, f"need 0 <= warmup < total, got {self.warmup} and {self.total}"
        )

    def __call__(self, t: int) -> float:
        if t < self.warmup:
            return self.lr * (t + 1) / self.warmup
        progress = min(1.0, (t - self.warmup) / (self.total - self.warmup))
        return self.lr_min + (self.lr - self.lr_min) * (1 + math.cos(math.pi * progress)) / 2
