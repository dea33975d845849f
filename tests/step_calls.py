"""Calls of the kernels as a recorded step makes them: those of ``step.cu``, which no other room has, and
those that read from device memory what changes from step to step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.kernels.cuda import _recording, random, step, update
from fastnn.kernels.cuda._recording import Recording

STEPS, BATCH = 3, 5
ROWS = (((32,), np.float32), ((6,), np.float32), ((3, 5), np.float32), ((), np.uint8), ((), np.int64))


def make_calls(xp: Any) -> int:
    """Make them on arrays of the module `xp`, which is that of the launch code; how many there were."""
    updates = [(1, np.float32), (3, np.float32), (1, np.float32)]  # SGD, Adam, RMSprop
    recording, loss = Recording(STEPS, STEPS * updates), xp.zeros((), np.float64)
    order = xp.asarray(np.random.default_rng(0).permutation(STEPS * BATCH))
    outputs, losses = xp.empty((2, BATCH, 3), np.float32), xp.empty((STEPS, 2), np.float64)
    parameters, states = ([xp.ones(shape, np.float32) for shape in ((7, 5), (5,))] for _ in range(2))
    table = update.bind(parameters, parameters)
    longer = update.bind(parameters, parameters, states, states)
    count = 0
    for number in range(STEPS):
        for shape, dtype in ROWS:
            rows, out = xp.ones((STEPS * BATCH, *shape), dtype), xp.empty((BATCH, *shape), dtype)
            step.gather(rows, out, order if number else None, recording.position)
        step.keep(xp.ones((BATCH, 3), np.float32), outputs, recording.position)
        _recording._this_thread.recording = recording
        try:
            random.dropout(parameters[0], 0.3, 1, 2)
            update.sgd(table, 0.1, 0.0, 0.0, 0.0, False, False)
            update.adam(longer, 0.1, 0.9, 0.99, 1e-8, 0.1, True, 3)
            update.rmsprop(longer, 0.1, 0.9, 1e-8, 0.1, 0.9)
        finally:
            _recording._this_thread.recording = None
        step.finish(loss, loss if number else None, losses, recording.position, recording.streams, 2)
        count += len(ROWS) + 6
    return count
