"""What several stems of the room use."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

Pair = tuple[int, int]


def quiet(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """`kernel` without NumPy's floating-point warnings: inf and NaN are results here, not accidents."""

    @wraps(kernel)
    def run(*args: Any, **options: Any) -> Any:
        with np.errstate(all="ignore"):
            return kernel(*args, **options)

    return run


def sum_rows(matrix: np.ndarray) -> np.ndarray:
    """Column sums of an (M, K) matrix, in its dtype.

    A product with ones: BLAS adds with SIMD and in several accumulators, ``sum(axis=0)`` with neither.
    """
    return np.ones(len(matrix), matrix.dtype) @ matrix


def channels_last(x: np.ndarray) -> np.ndarray:
    """(N, C, H, W) as C-contiguous (N, H, W, C); a view where memory is channels-last already."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def output_shape(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Length of one output axis: ``⌊(size + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1``."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def pooled_shape(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """Length of one output axis, as for a convolution; with `ceil_mode` the quotient is rounded up.

    A last window that would then start in the right padding is dropped.
    """
    if not ceil_mode:
        return output_shape(size, kernel, stride, padding, dilation)
    windows = output_shape(size + stride - 1, kernel, stride, padding, dilation)
    return windows - 1 if (windows - 1) * stride >= size + padding else windows


def in_windows(indices: np.ndarray, across: int) -> np.ndarray:
    """Of ``row · across + column`` in an image, ``2 · row + column`` in its window of 2 x 2, as uint8."""
    row, column = np.divmod(indices, across)
    return (2 * (row % 2) + column % 2).astype(np.uint8)


def in_image(within: np.ndarray, across: int) -> np.ndarray:
    """The inverse of :func:`in_windows`, as int32, for an (N, C, H, W) array of windows."""
    rows, columns = (np.arange(length, dtype=np.int32) for length in within.shape[2:])
    corners = 2 * (rows[:, None] * across + columns)
    return corners + (within >> 1) * np.int32(across) + (within & 1)


def tap_slices(
    size: int, outputs: int, tap: int, stride: int, padding: int, dilation: int
) -> tuple[slice, slice]:
    """Which inputs meet tap number `tap` of the window along one axis, and the outputs they meet it for.

    Output o reads input ``o·stride + tap·dilation − padding``; outputs that would read padding are left out.
    """
    shift = tap * dilation - padding
    first = max(0, -(shift // stride))
    last = max(first, min(outputs, (size - 1 - shift) // stride + 1))
    start = first * stride + shift
    return slice(start, start + (last - first) * stride, stride), slice(first, last)


def check_companions(params: Any, lists: Any, dense: Callable[[Any], bool]) -> None:
    """ValueError unless each array of `lists` lies in memory as its parameter does, without gaps.

    `dense` says whether an array has no gaps and can be written to, on its device.
    """
    for companions in lists:
        if len(companions) != len(params):
            raise ValueError(f"{len(params)} parameters, but {len(companions)} arrays to go with them")
    for p, row in enumerate(zip(params, *lists, strict=True)):
        same = (row[0].shape, params[0].dtype, _strides(row[0]))
        for a in row:
            if not dense(a) or (a.shape, a.dtype, _strides(a)) != same:
                raise ValueError(
                    f"parameter {p}: shape {a.shape}, {a.dtype}, strides {a.strides} does not go with shape "
                    f"{same[0]}, {same[1]}, strides {row[0].strides}: all must be dense memory in one order"
                )


def _strides(a: Any) -> list[int]:
    """The strides that matter: those of axes longer than 1."""
    return [stride for stride, length in zip(a.strides, a.shape, strict=True) if length > 1]
