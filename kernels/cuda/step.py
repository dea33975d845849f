"""What a recorded training step does beside the network: ``step.cu``. Elsewhere the host itself keeps outputs
and losses.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._launch import launch
from ._memory import plain

_REAL = np.dtype(np.float32)  # of kernels that move no REAL
_WORDS = (16, 8, 4, 1)  # bytes


def gather(rows: Any, out: Any, order: Any, position: Any) -> None:
    """Fill `out` with the examples of the step at `position`.

    Parameters
    ----------
    rows : array (N, ...), C-contiguous and where kernels can read it
    out : such an array (batch, ...) of that dtype
    order : int64 array or None
        Which rows an epoch visits, in their order; None: all, as they lie.
    position : int64 array (1,)
    """
    bytes_ = out[0].nbytes
    word = next(word for word in _WORDS if bytes_ % word == 0)
    arrays = [array.reshape(-1).view(np.uint8) for array in (rows, out)]
    launch("step", f"gather_{word}", _REAL, 32 * len(out), *arrays, order, position, len(out), bytes_)


def keep(output: Any, outputs: Any, position: Any) -> None:
    """Copy `output` (batch, ...) to its place in `outputs` (capacity, batch, ...)."""
    output = plain(output)
    sizes = output.size, len(outputs)
    arrays = output.reshape(-1), outputs.reshape(-1)
    launch("step", "keep", output.dtype, output.size, *arrays, position, *sizes)


def finish(loss: Any, penalty: Any, losses: Any, position: Any, streams: Any, given: int) -> None:
    """Keep the step's loss and penalty (or None) in its row of `losses` (steps, 2) and go on to the next,
    `given` random streams further.
    """
    launch("step", "finish", _REAL, 1, loss, penalty, losses, position, streams, given)
