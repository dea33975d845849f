"""A reduction cut into parts, each summed by its own tasks, and the parts added up in order.

Why parts: with C's rows shared out, every core would read all of B, the weights. With the reduction shared
out each reads only its own rows of them, and these are the rows it also has in the gradient and in the
update: three quarters of a hidden layer's arrays then stay in the core's own cache from step to step.
"""

from __future__ import annotations

from ._jit import inline
from ._packing import LARGE
from .activation import apply
from .threads import parallel_for

FLOPS = 160_000  # of a product in a task at least, about 2 µs: four times what handing it out costs
_ADDED = 2048  # numbers of C in a task that adds up parts


@inline
def parts_of(rows, terms, b):
    """Into how many parts to cut a reduction of so many `terms` for so many `rows` of C.

    The parts of C are written and read once more, which must be little beside what is spared of B: the more
    rows, the fewer parts.
    """
    if b.size * b.itemsize < LARGE or terms < 2 * rows:
        return 1
    if terms < 4 * rows:
        return 2
    most = 4 if terms < 2048 else 8
    return most if rows <= 256 else max(2, min(most, 1280 // rows))


@inline
def _add_task(t, c, sums, code):
    begin, end = t * _ADDED, (t + 1) * _ADDED
    out, one, other = c[begin:end], sums[0, begin:end], sums[1, begin:end]
    for i in range(out.size):
        out[i] = one[i] + other[i]
    for part in range(2, len(sums)):
        more = sums[part, begin:end]
        for i in range(out.size):
            out[i] += more[i]
    apply(out, code)


@inline
def add_up_parts(pool, c, sums, code):
    """``c`` = the sum of the (parts, M, N) `sums`, two of them at least, and the activation of that code."""
    size = c.size  # as one row: those of C are often so short that a loop over each takes as long to begin
    arguments = c.reshape(size), sums.reshape((len(sums), size)), code
    parallel_for(pool, (size + _ADDED - 1) // _ADDED, _add_task, arguments)
