"""Labels as vectors, sets in parts, parts in batches: for any arrays that take an array of indices."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.backend import backend_of, is_device_array, rng

Seed = int | np.random.Generator | None


def one_hot(y: Any, classes: int, dtype: npt.DTypeLike = np.float32) -> Any:
    """Labels as rows of the identity matrix: ``out[i, j] = 1 if y[i] == j else 0``.

    Parameters
    ----------
    y : (N,) array of integers
    classes : int
    dtype : data-type

    Returns
    -------
    (N, classes) array of `dtype`

    Raises
    ------
    TypeError
        `y` is not an array of integers.
    ValueError
        It is not one-dimensional, or a label is not in 0 ... classes - 1.
    """
    if getattr(getattr(y, "dtype", None), "kind", "") not in ("i", "u"):
        raise TypeError(f"labels must be an array of integers, got {getattr(y, 'dtype', type(y).__name__)}")
    if y.ndim != 1:
        raise ValueError(f"labels must have shape (N,), got {y.shape}")
    if y.size and (int(y.min()) < 0 or int(y.max()) >= classes):
        raise ValueError(f"labels must lie in 0 ... {classes - 1}, got {int(y.min())} ... {int(y.max())}")
    xp = backend_of(y).xp if is_device_array(y) else np
    result = xp.zeros((len(y), classes), dtype=dtype)
    result[xp.arange(len(y)), y] = 1
    return result


def split(x: Any, y: Any, sizes: Sequence[int] | Sequence[float], seed: Seed = None) -> list[tuple[Any, Any]]:
    """Cut a set into disjoint parts.

    Parameters
    ----------
    x, y : (N, ...) array
    sizes : sequence of int, or of float
        How many samples each part gets, or which fraction of them. What is left over is in no part:
        ``split(x, y, (2000,))`` gives the first 2,000.
    seed : int or numpy.random.Generator, optional
        Draw the parts from this seed; without one they follow the set's order, and are views of it.

    Returns
    -------
    list of (x, y)
        One pair for each size.

    Raises
    ------
    TypeError
        `sizes` mixes numbers and fractions, or holds neither.
    ValueError
        `x` and `y` differ in length, or `sizes` asks for more than there is.
    """
    n = _common_length(x, y)
    if not all(0 <= size <= max(n, 1) for size in sizes):
        raise ValueError(f"cannot take parts of {tuple(sizes)} from {n} samples")
    if all(isinstance(size, numbers.Integral) for size in sizes):
        ends = np.cumsum([0, *sizes])
    elif all(isinstance(size, float | np.floating) for size in sizes):
        # Rounding the ends, not the sizes: fractions that add up to one (as floats, 0.7 + 0.2 + 0.1 do not
        # quite) then use every sample, and never one too many.
        ends = np.rint(np.cumsum([0.0, *sizes]).round(9) * n).astype(np.int64)
    else:
        raise TypeError(f"sizes must be all integers or all fractions, got {tuple(sizes)}")
    if ends[-1] > n:
        raise ValueError(f"cannot take parts of {tuple(sizes)} from {n} samples")
    order = None if seed is None else np.random.default_rng(seed).permutation(n)
    return [
        (_take(x, order, start, stop), _take(y, order, start, stop))
        for start, stop in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    ]


def batches(
    x: Any, y: Any, batch_size: int, *, seed: Seed = None, shuffle: bool = True, drop_last: bool = False
) -> Iterator[tuple[Any, Any]]:
    """One epoch of mini-batches.

    Parameters
    ----------
    x, y : (N, ...) array
    batch_size : int
    seed : int or numpy.random.Generator, optional
        Where the order is drawn from; by default fastnn's own generator (:func:`fastnn.seed`). Give one
        generator to all epochs, so that each has an order of its own.
    shuffle : bool
        Draw an order; otherwise the batches follow the set's, and are views of it.
    drop_last : bool
        Leave out a last batch that is not full.

    Returns
    -------
    iterator of (x, y)

    Raises
    ------
    ValueError
        `x` and `y` differ in length, or `batch_size` is below 1.
    """
    n = _common_length(x, y)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    order = (rng() if seed is None else np.random.default_rng(seed)).permutation(n) if shuffle else None
    stop = n - n % batch_size if drop_last else n
    starts = range(0, stop, batch_size)
    return ((_take(x, order, i, i + batch_size), _take(y, order, i, i + batch_size)) for i in starts)


def _common_length(x: Any, y: Any) -> int:
    if len(x) != len(y):
        raise ValueError(f"x and y must hold as many samples, got {len(x)} and {len(y)}")
    return len(x)


def _take(array: Any, order: np.ndarray | None, start: int, stop: int) -> Any:
    if order is None:
        return array[start:stop]
    index = order[start:stop]
    # CuPy takes no index from the host.
    return array[backend_of(array).xp.asarray(index) if is_device_array(array) else index]
