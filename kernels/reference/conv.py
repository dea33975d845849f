"""Convolution by im2col, and im2col itself.

Inside, everything is channels-last: a row of the column matrix is one output pixel, its columns are the
window's (KH, KW, C / groups) inputs, so that the rows copy in long runs and the product with the (KH·KW·C, O)
weight matrix lands as (N, OH, OW, O) without a transpose. Backward runs the same two steps in reverse
(Chellapilla, Puri & Simard 2006).
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fastnn.kernels.reference._elementwise import activate
from fastnn.kernels.reference._shared import Pair, channels_last, output_shape, quiet, sum_rows, tap_slices

# With so few values in a run it is faster to copy tap by tap, each a run of pixels: BLAS takes either order.
SHORT = 16


def _padded(x: np.ndarray, padding: Pair, axis: int) -> np.ndarray:
    """`x` with zeros around axes `axis` and `axis` + 1, C-contiguous."""
    if padding == (0, 0):
        return np.ascontiguousarray(x)
    shape = list(x.shape)
    inside: list[slice] = [slice(None)] * x.ndim
    for i, pad in zip((axis, axis + 1), padding, strict=True):
        inside[i] = slice(pad, pad + shape[i])
        shape[i] += 2 * pad
    padded = np.zeros(shape, x.dtype)
    padded[tuple(inside)] = x
    return padded


def _columns(
    x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Column matrices (groups, N·OH·OW, KH·KW·C/groups) of `x`, and (N, OH, OW)."""
    padded = _padded(x.transpose(0, 2, 3, 1), padding, 1)
    (n, height, width, channels), (kh, kw) = padded.shape, kernel_size
    oh = output_shape(height, kh, stride[0], 0, dilation[0])
    ow = output_shape(width, kw, stride[1], 0, dilation[1])
    image, row, pixel, channel = padded.strides
    per_group = channels // groups
    windows = as_strided(
        padded,
        (groups, n, oh, ow, kh, kw, per_group),
        (
            per_group * channel,
            image,
            row * stride[0],
            pixel * stride[1],
            row * dilation[0],
            pixel * dilation[1],
            channel,
        ),
        writeable=False,
    )
    taps, pixels = kh * kw * per_group, n * oh * ow
    if kw * per_group < SHORT:
        columns = windows.transpose(0, 4, 5, 6, 1, 2, 3).reshape(groups, taps, pixels).transpose(0, 2, 1)
    else:
        columns = windows.reshape(groups, pixels, taps)
    return columns, (n, oh, ow)


def _weight_matrices(weight: np.ndarray, groups: int) -> np.ndarray:
    """(O, C/groups, KH, KW) as (groups, KH·KW·C/groups, O/groups)."""
    o, per_group, kh, kw = weight.shape
    split = weight.reshape(groups, o // groups, per_group, kh, kw) if groups > 1 else weight[None]
    return split.transpose(0, 3, 4, 2, 1).reshape(groups, kh * kw * per_group, o // groups)


def _by_group(matrix: np.ndarray, groups: int) -> np.ndarray:
    """(M, O) as a (groups, M, O/groups) view."""
    return matrix.reshape(len(matrix), groups, matrix.shape[1] // groups).transpose(1, 0, 2)


@quiet
def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    activation: str | None,
) -> np.ndarray:
    """Cross-correlation with zero padding, bias and an optional activation.

    ``out[n, o, i, j] = b[o] + Σ_{c, u, v} w[o, c, u, v] · x[n, c, i·stride + u·dilation − padding, j·…]``,
    with c running over the channels of o's group. Backends may add the terms in any order.

    Parameters
    ----------
    x : (N, C, H, W)
    weight : (O, C/groups, KH, KW)
    bias : (O,) or None
    stride, padding, dilation : pairs
    groups : int
        Input and output channels fall into this many blocks that do not see each other.
    activation : as in :func:`fastnn.kernels.reference.linear.linear`

    Returns
    -------
    (N, O, OH, OW), channels-last in memory
    """
    columns, (n, oh, ow) = _columns(x, weight.shape[2:], stride, padding, dilation, groups)
    out = np.empty((columns.shape[1], len(weight)), x.dtype)
    np.matmul(columns, _weight_matrices(weight, groups), out=_by_group(out, groups))
    if bias is not None:
        out += bias
    return activate(out, activation).reshape(n, oh, ow, len(weight)).transpose(0, 3, 1, 2)


@quiet
def conv2d_backward(
    grad: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    input_grad: bool,
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Gradients of :func:`conv2d` without activation.

    With X the column matrix of `x` and G the (N·OH·OW, O) matrix of `grad`: ``Xᵀ G`` for the weights, the
    column sums of G for the bias, and col2im of ``G Wᵀ`` for the input.

    Parameters
    ----------
    grad : (N, O, OH, OW)
    x, weight, stride, padding, dilation, groups : as given to :func:`conv2d`
    input_grad : bool
        Whether the gradient with respect to `x` is wanted.
    out : (grad_weight, grad_bias) or None
        Arrays to fill, of any strides.

    Returns
    -------
    grad_x : (N, C, H, W), channels-last in memory, or None
    grad_weight : (O, C/groups, KH, KW), by default over (KH, KW, C/groups, O) memory
    grad_bias : (O,)
    """
    o, per_group, kh, kw = weight.shape
    columns, (n, oh, ow) = _columns(x, (kh, kw), stride, padding, dilation, groups)
    grad_rows = channels_last(grad).reshape(n * oh * ow, o)
    grad_groups = _by_group(grad_rows, groups)
    product = np.matmul(columns.transpose(0, 2, 1), grad_groups)
    product = product.reshape(groups, kh, kw, per_group, o // groups).transpose(1, 2, 3, 0, 4)
    grad_weight = product.reshape(kh, kw, per_group, o).transpose(3, 2, 0, 1)
    grad_bias = sum_rows(grad_rows)
    if out is not None:
        out[0][...], out[1][...] = grad_weight, grad_bias
        grad_weight, grad_bias = out
    if not input_grad:
        return None, grad_weight, grad_bias

    weights = _weight_matrices(weight, groups)
    if per_group < SHORT:
        taps = np.matmul(weights, grad_groups.transpose(0, 2, 1)).reshape(
            groups, kh, kw, per_group, n, oh, ow
        )
        taps = taps.transpose(1, 2, 4, 5, 6, 0, 3)
        pixels = np.zeros((groups, per_group, n, *x.shape[2:]), x.dtype).transpose(2, 3, 4, 0, 1)
    else:
        taps = np.empty((n, oh, ow, groups, kh, kw, per_group), x.dtype)
        rows = taps.reshape(n * oh * ow, groups, kh * kw * per_group).transpose(1, 0, 2)
        np.matmul(grad_groups, weights.transpose(0, 2, 1), out=rows)
        taps = taps.transpose(4, 5, 0, 1, 2, 3, 6)
        pixels = np.zeros((n, *x.shape[2:], groups, per_group), x.dtype)
    _add_taps(taps, pixels, stride, padding, dilation)
    grad_x = np.ascontiguousarray(pixels).reshape(n, *x.shape[2:], x.shape[1])
    return grad_x.transpose(0, 3, 1, 2), grad_weight, grad_bias


def _add_taps(taps: np.ndarray, pixels: np.ndarray, stride: Pair, padding: Pair, dilation: Pair) -> None:
    """Add `taps` (KH, KW, N, OH, OW, ...) to the `pixels` (N, H, W, ...) that the taps of a window read."""
    for u in range(taps.shape[0]):
        inputs_h, outputs_h = tap_slices(
            pixels.shape[1], taps.shape[3], u, stride[0], padding[0], dilation[0]
        )
        for v in range(taps.shape[1]):
            inputs_w, outputs_w = tap_slices(
                pixels.shape[2], taps.shape[4], v, stride[1], padding[1], dilation[1]
            )
            pixels[:, inputs_h, inputs_w] += taps[u, v, :, outputs_h, outputs_w]


def im2col(x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> np.ndarray:
    """Every window of `x` as a column.

    ``cols[n, (c·KH + u)·KW + v, i·OW + j]`` is the ``x[n, c]`` that tap (u, v) reads for output (i, j).

    Returns
    -------
    (N, C·KH·KW, OH·OW), zeros where a window reaches into the padding
    """
    padded = _padded(x, padding, 2)
    (n, channels, height, width), (kh, kw) = padded.shape, kernel_size
    oh = output_shape(height, kh, stride[0], 0, dilation[0])
    ow = output_shape(width, kw, stride[1], 0, dilation[1])
    image, channel, row, pixel = padded.strides
    windows = as_strided(
        padded,
        (n, channels, kh, kw, oh, ow),
        (image, channel, row * dilation[0], pixel * dilation[1], row * stride[0], pixel * stride[1]),
        writeable=False,
    )
    cols = np.empty(windows.shape, x.dtype)
    cols[...] = windows
    return cols.reshape(n, channels * kh * kw, oh * ow)


@quiet
def col2im(
    cols: np.ndarray, output_size: Pair, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    """Adjoint of :func:`im2col`: each column added back to the pixels it was read from.

    Parameters
    ----------
    cols : (N, C·KH·KW, OH·OW)
    output_size : pair
        (H, W) of the result.

    Returns
    -------
    (N, C, H, W), channels-last in memory
    """
    (height, width), (kh, kw) = output_size, kernel_size
    oh = output_shape(height, kh, stride[0], padding[0], dilation[0])
    ow = output_shape(width, kw, stride[1], padding[1], dilation[1])
    taps = cols.reshape(len(cols), cols.shape[1] // (kh * kw), kh, kw, oh, ow)
    image = np.zeros((*taps.shape[:2], height, width), cols.dtype)
    _add_taps(taps.transpose(2, 3, 0, 4, 5, 1), image.transpose(0, 2, 3, 1), stride, padding, dilation)
    return channels_last(image).transpose(0, 3, 1, 2)
