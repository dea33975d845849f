"""What a recorded training step does beside the network: ``step.cu``. Only this room has it, since elsewhere
the host itself fetches batches and keeps losses.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._launch import launch
from ._memory import flat, plain

_REAL = np.dtype(np.float32)  # of kernels that move no REAL
_WORDS = tuple(np.dtype(word) for word in (np.int64, np.int32, np.uint8))


def gather(rows: Any, out: Any, order: Any, position: Any) -> None:
    """Fill `out` with the examples of the step at `position`.

    Parameters
    ----------
    rows : C-contiguous array (N, ...)
    out : C-contiguous array (batch, ...) of that dtype
    order : int64 array (N,) or None
        The order in which an epoch visits the rows; None: theirs.
    position : int64 array
        See :class:`._recording.Recording`.
    """
    width = out[0].nbytes
    word = next(word for word in _WORDS if width % word.itemsize == 0)
    words = [array.reshape(-1).view(word) for array in (rows, out)]
    sizes = len(out), width // word.itemsize
    launch("step", f"gather_{word}", _REAL, words[1].size, *words, order, position, *sizes)


def keep(output: Any, outputs: Any, position: Any) -> None:
    """Copy `output` (batch, ...) to its place in `outputs` (steps * batch, ...)."""
    output = plain(output)
    launch("step", "keep", output.dtype, output.size, flat(output), flat(outputs), position, output.size)


def finish(loss: Any, penalty: Any, losses: Any, position: Any, streams: int) -> None:
    """Keep the step's loss and penalty (or None) in its row of `losses` and go on to the next step."""
    launch("step", "finish", _REAL, 1, loss, penalty, losses, position, streams)
