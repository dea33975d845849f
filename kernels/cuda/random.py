"""Dropout on a GPU: ``random.cu``."""

from __future__ import annotations

import numpy as np

from ._launch import launch, xp
from ._memory import arranged, dense, plain
from ._recording import current


def dropout(x, p, seed, offset):
    if p >= 1:
        return xp().zeros_like(x)
    values = plain(x)
    out = xp().empty_like(values)
    one = values.dtype.type(1)
    scale = one / (one - values.dtype.type(p))
    recording = current()
    stream = np.uint64(seed), np.uint64(offset), None if recording is None else recording.streams
    work = (values.size + 3) // 4
    launch("random", "dropout", values.dtype, work, values, out, values.size, int(p * 2**32), scale, *stream)
    return out if values is x else arranged(out, dense(x))


def dropout_backward(grad, p, seed, offset):
    return dropout(grad, p, seed, offset)
