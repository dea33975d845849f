"""Max and average pooling, with torch's rules for padding, dilation and ceil_mode."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fastnn.functional._check import (
    Array,
    Pair,
    as_array,
    common_backend,
    pair,
    place,
    same_shape,
)
from fastnn.kernels.reference._shared import pooled_shape

IntPair = int | Pair
_NAMES = ("kernel_size", "stride", "padding", "dilation")


@lru_cache(maxsize=1024, typed=True)  # a network asks for the same few plans at every step
def _plan_cached(
    size: Pair,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    names: tuple[str, ...],
) -> tuple[Any, ...]:
    kernel_size, padding = pair(names[0], kernel_size, 1), pair(names[2], padding, 0)
    stride = kernel_size if stride is None else pair(names[1], stride, 1)
    dilation = pair(names[3], dilation, 1)
    windows_per_axis = []
    for length, kernel, step, pad, gap in zip(size, kernel_size, stride, padding, dilation, strict=True):
        if pad > kernel // 2:
            raise ValueError(f"{names[2]} {padding} is more than half of {names[0]} {kernel_size}")
        windows = pooled_shape(length, kernel, step, pad, gap, ceil_mode) if length else 0
        if windows < 1:
            raise ValueError(
                f"a window of {kernel_size} with dilation {dilation} does not fit an input of {size} "
                f"with padding {padding}"
            )
        # Only a dilated window can step over the whole image, from the padding before it to that behind.
        starts = range(-pad, min(0, windows * step - pad), step) if gap > 1 else ()
        if any(
            not any(0 <= tap < length for tap in range(start, start + kernel * gap, gap)) for start in starts
        ):
            raise ValueError(
                f"a window of {kernel_size} with dilation {dilation} misses every pixel of an input of {size}"
            )
        windows_per_axis.append(windows)
    return kernel_size, stride, padding, dilation, tuple(windows_per_axis)


def plan(
    size: tuple[int, ...],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
    names: tuple[str, ...] = _NAMES,
) -> tuple:
    """(kernel_size, stride, padding, dilation, (OH, OW)), all pairs; ValueError where a window misfits.

    `names` are what the caller calls the four options.
    """
    try:
        return _plan_cached(size, kernel_size, stride, padding, dilation, bool(ceil_mode), names)
    except TypeError:
        pass  # a list does not hash, and what is no pair gets its message without the cache
    return _plan_cached.__wrapped__(size, kernel_size, stride, padding, dilation, bool(ceil_mode), names)


def check_countable(size: tuple[int, ...]) -> None:
    """ValueError if an image of `size` has more pixels than the int32 indices of its maxima can name."""
    if size[0] * size[1] > 2**31:
        raise ValueError(
            f"an image of {size[0]} x {size[1]} pixels has more than int32 indices can name: cut it"
        )


def _image_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` as a tuple; ValueError unless it has four axes."""
    if len(shape) != 4:
        raise ValueError(f"{name} must be (N, C, H, W), not {tuple(shape)}")
    return tuple(shape)


def max_pool2d(
    x: Array,
    kernel_size: IntPair,
    *,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Array | tuple[Array, Array]:
    """Maximum over each window.

    Padding counts as −inf; a NaN in the window is the maximum.

    Parameters
    ----------
    x : array (N, C, H, W)
    kernel_size : int or pair
    stride : int or pair, optional
        The kernel size where not given.
    padding : int or pair
        At most half the kernel size.
    dilation : int or pair
    ceil_mode : bool
        Round the output size up: a last window may reach beyond the padding, but not start there.
    return_indices : bool
        Also return where each maximum was, which :func:`max_pool2d_backward` needs.

    Returns
    -------
    out : array (N, C, OH, OW), channels-last in memory
    indices : int32 array of that shape, with `return_indices`
        ``row · W + column`` in the unpadded image; of equal maxima the first in the window's row-major order,
        of several NaNs the last.

    Raises
    ------
    TypeError
        `x` is not a float32 or float64 array, or an option is no int or pair of ints.
    ValueError
        `x` has not four axes, a window does not fit the padded image, or this has more than 2³¹ pixels.
    """
    backend, (x,) = place(("x",), x)
    size = _image_shape("the shape of x", x.shape)[2:]
    check_countable(size)
    kernel_size, stride, padding, dilation, _ = plan(size, kernel_size, stride, padding, dilation, ceil_mode)
    out, indices = backend.pool.max_pool2d(x, kernel_size, stride, padding, dilation, bool(ceil_mode))
    return (out, indices) if return_indices else out


def checked_indices(grad: Array, indices: Any, shape: tuple[int, ...]) -> Array:
    """`indices` as an array that fits `grad` and points into images of `shape`; TypeError or ValueError where
    they do not.
    """
    if type(indices) is not np.ndarray:
        indices = as_array("indices", indices)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"indices has dtype {indices.dtype}: pass the integers that the forward returned")
    same_shape("grad", grad, "indices", indices)
    if grad.ndim != 4 or grad.shape[:2] != shape[:2]:
        raise ValueError(f"grad has shape {grad.shape} but the input had {shape}: N and C must agree")
    if type(indices) is np.ndarray:
        indices = indices if indices.dtype == np.int32 else indices.astype(np.int64)
        # An index outside would write to foreign memory. Seen as unsigned, negative ones are too large too.
        if indices.size and indices.view(f"u{indices.itemsize}").max() >= shape[2] * shape[3]:
            raise ValueError(
                f"indices reach from {indices.min()} to {indices.max()}, outside the "
                f"{shape[2] * shape[3]} pixels of an input of shape {shape}"
            )
    return indices


def max_pool2d_backward(grad: Array, indices: Array, input_shape: tuple[int, int, int, int]) -> Array:
    """Gradient of :func:`max_pool2d`: each gradient added to the pixel its maximum came from.

    Parameters
    ----------
    grad : array (N, C, OH, OW)
    indices : int array of that shape
        As the forward returned them.
    input_shape : (N, C, H, W)
        Of the forward's input.

    Returns
    -------
    array (N, C, H, W), channels-last in memory

    Raises
    ------
    TypeError
        `grad` is not a float32 or float64 array, or `indices` not one of integers.
    ValueError
        The shapes do not fit, or an index lies outside the image. (Of indices on a GPU only the shape is
        checked.)
    """
    backend, (grad,) = place(("grad",), grad)
    shape = _image_shape("input_shape", input_shape)
    indices = checked_indices(grad, indices, shape)
    backend = common_backend(grad, indices) if backend.room != "cuda" else backend
    return backend.pool.max_pool2d_backward(backend.asarray(grad), backend.asarray(indices), shape)


def avg_pool2d(
    x: Array,
    kernel_size: IntPair,
    *,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Mean over each window.

    Parameters
    ----------
    x : array (N, C, H, W)
    kernel_size : int or pair
    stride : int or pair, optional
        The kernel size where not given.
    padding : int or pair
        Zeros around the image, at most half the kernel size.
    ceil_mode : bool
        Round the output size up: a last window may reach beyond the padding, but not start there.
    count_include_pad : bool
        Whether padding counts in the number that the sum is divided by. What is beyond it never does.

    Returns
    -------
    array (N, C, OH, OW), channels-last in memory

    Raises
    ------
    TypeError
        `x` is not a float32 or float64 array, or an option is no int or pair of ints.
    ValueError
        `x` has not four axes, or a window does not fit the padded image.
    """
    backend, (x,) = place(("x",), x)
    size = _image_shape("the shape of x", x.shape)[2:]
    kernel_size, stride, padding, _, _ = plan(size, kernel_size, stride, padding, 1, ceil_mode)
    return backend.pool.avg_pool2d(x, kernel_size, stride, padding, bool(ceil_mode), bool(count_include_pad))


def avg_pool2d_backward(
    grad: Array,
    input_shape: tuple[int, int, int, int],
    kernel_size: IntPair,
    *,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Gradient of :func:`avg_pool2d`: each gradient shared among the pixels of its window.

    Parameters
    ----------
    grad : array (N, C, OH, OW)
    input_shape : (N, C, H, W)
        Of the forward's input.
    kernel_size, stride, padding, ceil_mode, count_include_pad : as given to :func:`avg_pool2d`

    Returns
    -------
    array (N, C, H, W), channels-last in memory

    Raises
    ------
    TypeError
        `grad` is not a float32 or float64 array, or an option is no int or pair of ints.
    ValueError
        `grad` has not the shape of the forward's output.
    """
    backend, (grad,) = place(("grad",), grad)
    shape = _image_shape("input_shape", input_shape)
    kernel_size, stride, padding, _, size = plan(shape[2:], kernel_size, stride, padding, 1, ceil_mode)
    if grad.shape != shape[:2] + size:
        raise ValueError(f"grad has shape {grad.shape}, but pooling {shape} gives {shape[:2] + size}")
    return backend.pool.avg_pool2d_backward(
        grad, shape, kernel_size, stride, padding, bool(ceil_mode), bool(count_include_pad)
    )
