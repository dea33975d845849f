"""Pixels to network inputs: scaling and standardising, in pieces that fit the cache.

A piece is computed in float64 and rounded once into the result, so that a value does not depend on the size
of the set, and a float64 copy of a set is never made. Arrays on a GPU stay there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastnn.backend import backend_of, is_device_array

Per = Literal["feature", "channel", "global"]
_PIECE = 2**15  # elements: 256 KiB as float64, to stay in a core's cache


def scale(x: Any, low: float = 0.0, high: float = 1.0, *, dtype: npt.DTypeLike = np.float32) -> Any:
    """Bring pixels to the range `low` ... `high`: ``low + x / 255 * (high - low)``.

    Parameters
    ----------
    x : (N, ...) array of uint8
    low, high : float
        What 0 and 255 become.
    dtype : float32 or float64

    Returns
    -------
    array of `dtype`, of the shape of `x`

    Raises
    ------
    TypeError
        `x` is not uint8 (its range would not be known), or `dtype` is neither float32 nor float64.
    """
    if getattr(x, "dtype", None) != np.uint8:
        raise TypeError(f"scale takes pixels as a uint8 array, got {_kind(x)}")
    result = _empty_like(x, dtype)
    for rows, piece in _pieces(x):
        piece /= 255.0
        if (low, high) != (0.0, 1.0):
            piece *= high - low
            piece += low
        result[rows] = piece
    return result


def standardize(
    x: Any, mean: Any = None, std: Any = None, *, per: Per = "feature", dtype: npt.DTypeLike = np.float32
) -> tuple[Any, Any, Any]:
    """Subtract the mean and divide by the standard deviation: ``(x - mean) / std``.

    Take both from the training set, and give them back for the other sets::

        x_train, mean, std = standardize(x_train)
        x_test, _, _ = standardize(x_test, mean, std)

    Parameters
    ----------
    x : (N, ...) array
        Of pixels or any real numbers.
    mean, std : array or float, optional
        Both or neither, of a shape that broadcasts to that of `x`. Where they are not given, those of `x`
        (the standard deviation of the population, divided by N).
    per : {"feature", "channel", "global"}
        What a mean is taken of: each feature over the samples, each channel (axis 1) over samples and
        positions, or everything. Not read where `mean` and `std` are given.
    dtype : float32 or float64

    Returns
    -------
    x : array of `dtype`
    mean, std : array of `dtype`
        As used: of shape ``x.shape[1:]`` per feature, ``(C, 1, 1)`` per channel of images, ``()`` of
        everything. A standard deviation of zero, that of a feature that never varies, is replaced by 1.

    Raises
    ------
    TypeError
        `x` is not an array of real numbers, or `dtype` is neither float32 nor float64.
    ValueError
        Only one of `mean` and `std` is given, their shape does not fit, or there are no samples to take them
        of.
    """
    _check_real(x)
    if (mean is None) != (std is None):
        raise ValueError("give both mean and std, or neither")
    if mean is None:
        mean, std = _statistics(x, per, with_std=True)
    mean, std = _parameter("mean", mean, x, dtype), _parameter("std", std, x, dtype)
    std[std == 0] = 1
    return _normalised(x, mean, std, dtype), mean, std


def subtract_mean(x: Any, mean: Any = None, *, dtype: npt.DTypeLike = np.float32) -> tuple[Any, Any]:
    """Subtract the mean image: ``x - mean``.

    Parameters
    ----------
    x : (N, ...) array
    mean : array or float, optional
        Of a shape that broadcasts to that of `x`, as a call on the training set returned it; by default the
        mean of `x` over the samples.
    dtype : float32 or float64

    Returns
    -------
    x : array of `dtype`
    mean : array of `dtype`
        As used, by default of shape ``x.shape[1:]``.

    Raises
    ------
    TypeError, ValueError
        As :func:`standardize`.
    """
    _check_real(x)
    if mean is None:
        mean, _ = _statistics(x, "feature", with_std=False)
    mean = _parameter("mean", mean, x, dtype)
    return _normalised(x, mean, None, dtype), mean


def _statistics(x: Any, per: Per, with_std: bool) -> tuple[Any, Any]:
    """Mean and standard deviation in float64, in two passes."""
    if x.ndim == 0 or x.size == 0:
        raise ValueError(f"an array of shape {x.shape} has no mean: it holds no samples")
    every = range(x.ndim)
    axes = {"feature": (0,), "channel": tuple(a for a in every if a != 1), "global": tuple(every)}.get(per)
    if axes is None or (per == "channel" and x.ndim < 2):
        raise ValueError(f'per must be "feature", "channel" or "global", got {per!r} for shape {x.shape}')
    count = math.prod(x.shape[a] for a in axes)
    # Deviations from the first value, not values, are summed: where nothing varies, the variance is then
    # exactly zero.
    first = x[tuple(slice(0, 1) if a in axes else slice(None) for a in every)].astype(np.float64)
    total, squares = first * 0, first * 0
    for _, piece in _pieces(x):
        piece -= first
        total += piece.sum(axis=axes, keepdims=True)
    mean = first + total / count
    if with_std:
        for _, piece in _pieces(x):
            piece -= mean
            piece *= piece
            squares += piece.sum(axis=axes, keepdims=True)
    shape = () if per == "global" else mean.shape[1:]
    return mean.reshape(shape), ((squares / count) ** 0.5).reshape(shape)


def _normalised(x: Any, mean: Any, std: Any, dtype: npt.DTypeLike) -> Any:
    result = _empty_like(x, dtype)
    for rows, piece in _pieces(x):
        piece -= mean
        if std is not None:
            piece /= std
        result[rows] = piece
    return result


def _pieces(x: Any) -> Iterator[tuple[slice, Any]]:
    """`x` as float64, some samples at a time, with where they are; the pieces may be written to."""
    step = max(1, _PIECE // max(1, math.prod(x.shape[1:])))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        yield rows, x[rows].astype(np.float64)


def _parameter(name: str, value: Any, x: Any, dtype: npt.DTypeLike) -> Any:
    """A mean or standard deviation as a fresh array that broadcasts to `x`, where `x` is."""
    value = _module(x).array(value, dtype=_float(dtype))
    sizes = zip(value.shape[::-1], x.shape[::-1], strict=False)
    if value.ndim > x.ndim or any(a not in (1, b) for a, b in sizes):
        raise ValueError(f"{name} has shape {value.shape}, which does not broadcast to that of x, {x.shape}")
    return value


def _empty_like(x: Any, dtype: npt.DTypeLike) -> Any:
    return _module(x).empty(x.shape, dtype=_float(dtype))


def _module(x: Any) -> Any:
    return backend_of(x).xp if is_device_array(x) else np


def _float(dtype: npt.DTypeLike) -> np.dtype:
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, got {np.dtype(dtype)}")
    return np.dtype(dtype)


def _check_real(x: Any) -> None:
    if getattr(getattr(x, "dtype", None), "kind", "") not in ("b", "i", "u", "f"):
        raise TypeError(f"x must be an array of real numbers, got {_kind(x)}")


def _kind(x: Any) -> str:
    return f"an array of {x.dtype}" if hasattr(x, "dtype") else f"a {type(x).__name__}"
