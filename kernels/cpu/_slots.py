"""A sum over tasks: a slot for each task's part, one for the sum, and a flag for a sum that is not finite.

The parts are added in order, so that the sum does not depend on the threads. A step that is repeated
natively (``_program.py``) reads the sum where it lies, and goes no further where the flag is set.
"""

from __future__ import annotations

import numpy as np

from ._jit import inline
from ._tape import current, doubts

_UNASKED = np.empty(1, np.bool_)


def slots(tasks):
    """Slots for the parts of so many tasks and, last, their sum; and the flag, which a tape hears of."""
    parts, doubt, tape = np.empty(tasks + 1), _UNASKED, current()
    if tape is not None:
        doubt = doubts(1)
        tape.numbers.append(parts[-1:])
    return parts, doubt


@inline
def add_up(parts, factor, doubt):
    """Leave `factor` times the sum of the parts in the last slot; raise or lower the flag."""
    parts[-1] = factor * parts[:-1].sum()
    doubt[0] = not np.isfinite(parts[-1])
