"""Operands in every memory: the same values under other strides."""

from __future__ import annotations

from typing import Any

import numpy as np

LAYOUTS = ("C", "transposed", "channels_last", "reversed", "sliced", "readonly", "record")
DTYPES = (np.float32, np.float64)


def arrange(a: np.ndarray, layout: str) -> np.ndarray:
    """The values of `a` over memory of another layout. What lies between them is no number, to show."""
    if layout == "transposed":
        return np.ascontiguousarray(a.T).T
    if layout == "channels_last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) if a.ndim > 1 else a.copy()
    if layout == "reversed":
        return np.flip(np.flip(a).copy())
    if layout == "sliced":
        between = np.nan if a.dtype.kind == "f" else np.iinfo(a.dtype).max
        view = np.full([2 * size + 1 for size in a.shape], between, a.dtype)[(slice(1, None, 2),) * a.ndim]
        view[...] = a
        return view
    if layout == "record":  # a field of packed records: strides that are no multiple of the item, unaligned
        view = np.zeros(a.shape, [("before", "u1"), ("value", a.dtype)])["value"]
        view[...] = a
        return view
    copy = a.copy()
    copy.flags.writeable = layout != "readonly"
    return copy


def floats(seed: int, shape: tuple[int, ...], dtype: Any, layout: str = "C") -> np.ndarray:
    values = np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)
    return arrange(values, layout)


def plant(a: np.ndarray, seed: int) -> np.ndarray:
    """A copy of `a` with a NaN and both infinities somewhere (where it has room)."""
    a = a.copy(order="K")
    rng = np.random.default_rng(seed)
    for value in (np.nan, np.inf, -np.inf):
        if a.size:
            a[tuple(rng.integers(0, size) for size in a.shape)] = value
    return a
