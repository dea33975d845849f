"""What a training step does beside the network: gather its batch. (Losses and outputs the host keeps.)"""

from __future__ import annotations

import numpy as np

from ._jit import inline, jit
from ._memory import copy
from .threads import parallel_for, pool

_PART = 1 << 16  # bytes in a task


@inline
def _gather_rows(t, each, rows, order, out):
    for i in range(t * each, min((t + 1) * each, order.size)):
        # an index that is none stays within the rows, as that of take(mode="clip")
        copy(rows[max(0, min(order[i], rows.shape[0] - 1))], out[i])


@jit
def _gather(pool, each, rows, order, out):
    parallel_for(pool, (order.size + each - 1) // each, _gather_rows, (each, rows, order, out))


def gather(rows: np.ndarray, order: np.ndarray, out: np.ndarray) -> None:
    """``out[i] = rows[order[i]]``, on all threads.

    Parameters
    ----------
    rows : array (N, ...), C-contiguous, N > 0
    order : int64 array (batch,)
    out : such an array (batch, ...) of that dtype
    """
    size = out[0].nbytes
    flat = [array.reshape(len(array), -1).view(np.uint8) for array in (rows, out)]
    _gather(pool(), max(1, _PART // size), flat[0], np.ascontiguousarray(order), flat[1])
