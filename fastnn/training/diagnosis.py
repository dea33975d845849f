"""Why a run failed, in one line: what was seen, and the likeliest cause.

Two failures are named. A loss that is not finite ends the run at once, for no later step can mend it.
Accuracy that is still at chance after the last epoch is only said: the run has finished.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def not_finite(loss: float, epoch: int, step: int, lr: float, inputs: Any, first_loss: float) -> str:
    """The line for a loss of NaN or infinity at `step` of `epoch` (both from 1), whose batch was `inputs`."""
    seen = f"the loss became {loss} at epoch {epoch}, step {step}"
    if not bool(np.isfinite(float(abs(inputs).max()) if inputs.size else 0.0)):
        return f"{seen}: this batch's inputs already hold NaN or infinity"
    if not math.isfinite(first_loss):
        return f"{seen}, the first: the initial weights or the inputs are too large"
    return f"{seen}: the learning rate ({lr:g}) is likely too high, try a tenth of it"


def majority_share(targets: np.ndarray) -> float | None:
    """The share of the commonest class, what guessing reaches; None if `targets` are not classes."""
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim == 2:
        targets = targets.argmax(axis=1)
    if targets.ndim != 1 or len(targets) == 0 or not np.array_equal(targets, np.rint(targets)):
        return None
    counts = np.unique(targets, return_counts=True)[1]
    return float(counts.max() / len(targets)) if len(counts) > 1 else None


def stuck_at_chance(accuracy: float, targets: np.ndarray, step_loss: list[float], lr: float) -> str | None:
    """The line for a run whose last training `accuracy` is no better than guessing; None for one that
    learned.
    """
    chance = majority_share(targets)
    if chance is None:
        return None
    # Three standard deviations of a guesser's score: a network that learned anything is far above.
    if accuracy > chance + 3 * math.sqrt(chance * (1 - chance) / len(targets)):
        return None
    first, worst = step_loss[0], max(step_loss)
    last = float(np.mean(step_loss[-min(100, max(1, len(step_loss) // 4)) :]))
    seen = f"training accuracy ended at {100 * accuracy:.1f} %, chance (loss {first:.4f}, then {last:.4f})"
    if worst > 1.5 * first or last > 1.02 * first:
        return f"{seen}: the learning rate ({lr:g}) is likely too high, and drove the units into saturation"
    return f"{seen}: the learning rate ({lr:g}) is likely too low, or the epochs too few"
