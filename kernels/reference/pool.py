"""Max and average pooling, over channels-last memory, one strided pass for each tap of the window."""

from __future__ import annotations

import numpy as np

from fastnn.kernels.reference._shared import Pair, channels_last, pooled_shape, quiet, tap_slices


@quiet
def max_pool2d(
    x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Maximum over each window, and where it was found.

    Padding counts as −inf. Of equal maxima the first in row-major order of the window gives the index; NaN
    beats every number, and of several NaNs the last gives the index. A window of nothing but −inf gives its
    first pixel.

    Parameters
    ----------
    x : (N, C, H, W)
    kernel_size, stride, padding, dilation : pairs
        Every window must hold at least one pixel of `x`.
    ceil_mode : bool
        See ``pooled_shape``.

    Returns
    -------
    out : (N, C, OH, OW), channels-last in memory
    indices : int32, the same shape and memory order
        ``row · W + column`` of the maximum, in the unpadded input.
    """
    (n, channels, height, width), (kh, kw) = x.shape, kernel_size
    oh = pooled_shape(height, kh, stride[0], padding[0], dilation[0], ceil_mode)
    ow = pooled_shape(width, kw, stride[1], padding[1], dilation[1], ceil_mode)
    pixels = channels_last(x)
    best = np.full((n, oh, ow, channels), -np.inf, x.dtype)
    # The number of the winning tap, u·KW + v: at first that of the first tap inside the image. It grows with
    # every win, so that a maximum of bytes keeps it.
    number = np.uint8 if kh * kw <= 256 else np.uint32
    winner = np.empty(best.shape, number)
    top, left = np.arange(oh) * stride[0] - padding[0], np.arange(ow) * stride[1] - padding[1]
    winner[...] = (_taps_before(top, dilation[0])[:, None] * kw + _taps_before(left, dilation[1]))[:, :, None]
    for u in range(kh):
        inputs_h, outputs_h = tap_slices(height, oh, u, stride[0], padding[0], dilation[0])
        for v in range(kw):
            inputs_w, outputs_w = tap_slices(width, ow, v, stride[1], padding[1], dilation[1])
            candidate, so_far = pixels[:, inputs_h, inputs_w], best[:, outputs_h, outputs_w]
            wins = candidate > so_far
            wins |= candidate != candidate
            np.maximum(so_far, candidate, out=so_far)
            who = winner[:, outputs_h, outputs_w]
            np.maximum(who, np.multiply(wins, number(u * kw + v), dtype=number), out=who)
    from_corner = np.arange(kh)[:, None] * (dilation[0] * width) + np.arange(kw) * dilation[1]
    indices = from_corner.astype(np.int32).ravel()[winner]
    indices += (top[:, None] * width + left).astype(np.int32)[:, :, None]
    return best.transpose(0, 3, 1, 2), indices.transpose(0, 3, 1, 2)


def _taps_before(start: np.ndarray, dilation: int) -> np.ndarray:
    """How many taps come before pixel 0 in the windows along one axis that start at `start`."""
    return -(np.minimum(start, 0) // dilation)


@quiet
def max_pool2d_backward(
    grad: np.ndarray,
    indices: np.ndarray,
    input_shape: tuple[int, int, int, int],
    pooling: tuple[Pair, Pair, Pair, Pair, bool] | None = None,
) -> np.ndarray:
    """Each gradient added to the pixel its maximum came from; zero elsewhere.

    Parameters
    ----------
    grad, indices : (N, C, OH, OW)
        Indices as :func:`max_pool2d` returns them, of any integer dtype.
    input_shape : (N, C, H, W)
    pooling : (kernel_size, stride, padding, dilation, ceil_mode), optional
        Of the call that the indices are from: a backend may look for a pixel's gradients only where these
        windows hold it.

    Returns
    -------
    (N, C, H, W), channels-last in memory
    """
    n, channels, height, width = input_shape
    places = channels_last(indices).astype(np.intp)
    places += np.arange(n)[:, None, None, None] * (height * width)
    places *= channels
    places += np.arange(channels)
    size = n * height * width * channels
    # bincount is NumPy's fastest scatter-add, and its float64 sums are the most exact
    grad_x = np.bincount(places.ravel(), channels_last(grad).ravel(), size).astype(grad.dtype, copy=False)
    return grad_x.reshape(n, height, width, channels).transpose(0, 3, 1, 2)


def _counts(
    size: int, outputs: int, kernel: int, stride: int, padding: int, count_include_pad: bool, dtype: np.dtype
) -> np.ndarray:
    """How many positions each window holds along one axis: with the padding (but no further), or without."""
    start = np.arange(outputs) * stride - padding
    if count_include_pad:
        return (np.minimum(start + kernel, size + padding) - start).astype(dtype)
    return (np.minimum(start + kernel, size) - np.maximum(start, 0)).astype(dtype)


@quiet
def avg_pool2d(
    x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair, ceil_mode: bool, count_include_pad: bool
) -> np.ndarray:
    """Mean over each window; padding counts as zeros, or not at all where `count_include_pad` is false.

    Parameters
    ----------
    x : (N, C, H, W)
    kernel_size, stride, padding : pairs
    ceil_mode : bool
        See ``pooled_shape``; what such a window has beyond the padding never counts.

    Returns
    -------
    (N, C, OH, OW), channels-last in memory
    """
    (n, channels, height, width), (kh, kw) = x.shape, kernel_size
    oh = pooled_shape(height, kh, stride[0], padding[0], 1, ceil_mode)
    ow = pooled_shape(width, kw, stride[1], padding[1], 1, ceil_mode)
    pixels = channels_last(x)
    # A window's sum is the sum of its rows' sums: KH + KW passes, not KH · KW.
    across = np.zeros((n, height, ow, channels), x.dtype)
    for v in range(kw):
        inputs, outputs = tap_slices(width, ow, v, stride[1], padding[1], 1)
        across[:, :, outputs] += pixels[:, :, inputs]
    out = np.zeros((n, oh, ow, channels), x.dtype)
    for u in range(kh):
        inputs, outputs = tap_slices(height, oh, u, stride[0], padding[0], 1)
        out[:, outputs] += across[:, inputs]
    count_h = _counts(height, oh, kh, stride[0], padding[0], count_include_pad, x.dtype)
    count_w = _counts(width, ow, kw, stride[1], padding[1], count_include_pad, x.dtype)
    out /= (count_h[:, None] * count_w)[:, :, None]
    return out.transpose(0, 3, 1, 2)


@quiet
def avg_pool2d_backward(
    grad: np.ndarray,
    input_shape: tuple[int, int, int, int],
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
) -> np.ndarray:
    """Each gradient, divided by its window's count, added to every pixel of the window.

    Parameters
    ----------
    grad : (N, C, OH, OW)
    input_shape : (N, C, H, W)
    kernel_size, stride, padding, ceil_mode, count_include_pad : as given to :func:`avg_pool2d`

    Returns
    -------
    (N, C, H, W), channels-last in memory
    """
    (n, channels, height, width), (oh, ow), (kh, kw) = input_shape, grad.shape[2:], kernel_size
    count_h = _counts(height, oh, kh, stride[0], padding[0], count_include_pad, grad.dtype)
    count_w = _counts(width, ow, kw, stride[1], padding[1], count_include_pad, grad.dtype)
    share = grad.transpose(0, 2, 3, 1) / (count_h[:, None] * count_w)[:, :, None]
    across = np.zeros((n, height, ow, channels), grad.dtype)
    for u in range(kh):
        inputs, outputs = tap_slices(height, oh, u, stride[0], padding[0], 1)
        across[:, inputs] += share[:, outputs]
    grad_x = np.zeros((n, height, width, channels), grad.dtype)
    for v in range(kw):
        inputs, outputs = tap_slices(width, ow, v, stride[1], padding[1], 1)
        grad_x[:, :, inputs] += across[:, :, outputs]
    return grad_x.transpose(0, 3, 1, 2)
