"""Drawn calls with NaN and infinities among their operands, made in two rooms of kernels and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn.backend import Backend
from tests import parity
from tests.rooms import REFERENCE, made, same

Moves = tuple[Callable[[Any], Any], Callable[[Any], Any]]

VALUES = (np.nan, np.inf, -np.inf)


def floats_in(operands: Any) -> Iterator[np.ndarray]:
    if isinstance(operands, np.ndarray):
        if operands.size and operands.dtype.kind == "f":
            yield operands
    elif isinstance(operands, tuple | list):
        for operand in operands:
            yield from floats_in(operand)


class Planting:
    """Put one to three values that are not finite into one of the arrays, in its own memory, always the same.

    `where`, once that is done: the number of the array among the floats of the operands.
    """

    def __init__(self, seed: list[int]) -> None:
        self.seed, self.where = seed, -1

    def __call__(self, operands: Any) -> Any:
        rng, arrays = np.random.default_rng([9, *self.seed]), list(floats_in(operands))
        self.where = int(rng.integers(len(arrays)))
        array = arrays[self.where]
        was = unlock(array)
        for _ in range(rng.integers(1, 4)):
            array[tuple(rng.integers(0, array.shape))] = VALUES[rng.integers(3)]
        array.flags.writeable = was
        return operands


def unlock(array: np.ndarray) -> bool:
    """Let an array be written to, and what it is a view of; whether it could be before."""
    was = array.flags.writeable
    if not was:
        if isinstance(array.base, np.ndarray):
            unlock(array.base)
        array.flags.writeable = True
    return was


# (operation, number of the planted array) -> the results in which a room's NaN and infinities may differ.
# A room may add terms that the reference leaves out, 0 · w for what lies beside an image, or leave out those
# of gradients that are zero: see kernels/reference. Sums over a batch may be scaled afterwards.
OPEN = {
    ("conv2d_backward", 2): {0},  # the weight; grad_x
    ("conv2d_max_pool2d", 0): {1, 2},  # x; grad_x, grad_weight
    ("conv2d_max_pool2d", 1): {1, 2},  # the weight
    ("conv2d_max_pool2d", 2): {1, 2},  # the bias
    ("batch_norm", 4): {1},  # inv_std of a backward; grad_weight
}


def assert_same(room: Backend, name: str, seed: list[int], dtype: Any, moved: Moves = (same, same)) -> bool:
    """Whether anything came out that is not finite; AssertionError unless it is where the reference has it.

    `moved`: to the room's device and back.
    """
    planting = Planting(seed)
    theirs = made(REFERENCE, name, seed, dtype, planting)
    ours = made(room, name, seed, dtype, lambda operands: moved[0](planting(operands)))
    reached = False
    for i, (a, b) in enumerate(zip(map(moved[1], ours), theirs, strict=True)):
        label = f"{name} {seed[0]} of {np.dtype(dtype).name}, array {planting.where} planted, result {i}"
        if b is None or np.asarray(b).dtype.kind == "i":
            np.testing.assert_array_equal(a, b, label)
            continue
        a, b = np.asarray(a), np.asarray(b)
        reached |= not np.isfinite(b).all()
        if i in OPEN.get((name, planting.where), ()):
            a = np.where(np.isfinite(a) & np.isfinite(b), a, b)
        largest = np.abs(b[np.isfinite(b)]).max(initial=0)
        parity.assert_close(a, b, 64 * np.finfo(dtype).eps * largest, label)
    return reached
