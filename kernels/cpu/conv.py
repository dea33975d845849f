"""Convolution and its gradients on the register tile of ``tile.py``, over channels-last memory and without
an im2col buffer.

A filter row of a channels-last image is one contiguous run of KW·C floats, so the tile *addresses* the rows
that im2col would build. What it cannot address is padding. Where there is some, each task first places its
image in a small zero-bordered scratch (one that fits the L2 cache), and reads from there. The gradient of
the input is a convolution of the output's gradient with the filters flipped; a stride becomes zeros between
its pixels, which the same placement inserts.

The gradient of the weight sums over images. The batch is cut into `_CHUNKS` parts at most, each summed by
one task into a partial result of its own, and the parts are added in order: the cut depends on the shape
alone, so the sum does too.
"""

from __future__ import annotations

import numpy as np

from fastnn.kernels.reference._shared import output_shape

from . import _conv_columns
from ._columns import col2im, im2col
from ._jit import inline, jit
from ._memory import empty, empty_nchw, nhwc, plain
from .activation import CODES, finish
from .linear import none
from .threads import parallel_for, pool
from .tile import multiply, panels

__all__ = ["col2im", "conv2d", "conv2d_backward", "im2col"]

_CHUNKS = 8  # parts of the batch that are summed apart for a weight's gradient
_TASKS = 16  # of a forward pass at most; each has a scratch of its own
_ROW_BLOCKS = 8  # parts that an image is cut into when there are too few images to share out


@inline
def _place(image, scratch, first_row, top, row_step, left, column_step):
    """Write `image` (H, W, C) into `scratch`: its pixel (y, x) at row top + y*row_step - first_row, column
    left + x*column_step.

    The rest of the scratch becomes zero; what would fall outside is dropped.
    """
    H, W, _ = image.shape
    rows, columns, _ = scratch.shape
    for r in range(rows):
        y = r + first_row - top
        row = scratch[r]
        if y < 0 or y % row_step != 0 or y // row_step >= H:
            row[:] = 0
            continue
        y //= row_step
        if column_step == 1:
            begin, end = max(left, 0), min(left + W, columns)
            row[:begin] = 0
            row[max(end, 0) :] = 0
            if end > begin:
                row[begin:end] = image[y, begin - left : end - left]
        else:
            row[:] = 0
            for x in range(W):
                column = left + x * column_step
                if 0 <= column < columns:
                    row[column] = image[y, x]


@inline
def _pixels(table, columns, row, column):
    """Where the pixels of a grid with `columns` columns lie, row after row."""
    for i in range(table.size):
        table[i] = i // columns * row + i % columns * column


@inline
def _offsets(offsets, KH, KW, row, column, joined):
    """Where each part of a filter's window begins; a whole row of it where the columns join, else each of
    its pixels."""
    if joined:
        for f in range(KH):
            offsets[f] = f * row
    else:
        for f in range(KH):
            for q in range(KW):
                offsets[f * KW + q] = f * row + q * column


@inline
def _forward_task(t, tasks, blocks, tiles, x, weight, bias, out, scratches, geometry, code):
    # weight: (groups, KH, KW, inputs of a group, columns); columns are all outputs where groups share rows,
    # see `shared`
    N, OH, OW, O = out.shape
    _, H, W, C = x.shape
    sh, sw, top, left, row_step, column_step, dh, dw, groups, shared, direct = geometry
    _, KH, KW, Cg, columns = weight.shape
    Og = O // groups
    size = x.itemsize
    joined = dw == 1 and groups == 1
    scratch = scratches[0 if direct else t]
    Wp = W if direct else scratch.shape[1]
    offsets = np.empty(KH * KW, np.int64)
    _offsets(offsets, KH, KW, dh * Wp * C, dw * C, joined)
    table = np.empty((OH + blocks - 1) // blocks * OW, np.int64)
    _pixels(table, OW, sh * Wp * C, sw * C)
    S, K = (KH, KW * C) if joined else (KH * KW, Cg)
    units = N * blocks
    for unit in range(t * units // tasks, (t + 1) * units // tasks):
        n, b = unit // blocks, unit % blocks
        first, end = b * OH // blocks, (b + 1) * OH // blocks
        if direct:
            start = x.ctypes.data + (n * H + first * sh) * W * C * size
        else:
            height = (end - first - 1) * sh + dh * (KH - 1) + 1
            _place(x[n], scratch[:height], first * sh, top, row_step, left, column_step)
            start = scratch.ctypes.data
        for g in range(groups):
            own = 0 if shared else g
            B = weight.ctypes.data + (own * KH * KW * Cg * columns + (g * Og if shared else 0)) * size
            bias_at = bias.ctypes.data + g * Og * size if bias.size else 0
            A, Y = start + g * Cg * size, out.ctypes.data + ((n * OH + first) * OW * O + g * Og) * size
            multiply(tiles, Y, O, A, table, 1, offsets, S, K, B, columns, bias_at, (end - first) * OW, Og, 0,
                     code == 1, size)  # fmt: skip
        finish(out[n, first:end].reshape((end - first) * OW * O), code)


@jit
def _forward(pool, tasks, blocks, tiles, x, weight, bias, out, scratches, geometry, code):
    arguments = (tasks, blocks, tiles, x, weight, bias, out, scratches, geometry, code)
    parallel_for(pool, tasks, _forward_task, arguments)


@inline
def _weight_task(t, tasks, tiles, x, grad, partial, partial_bias, scratches, geometry):
    N, OH, OW, O = grad.shape
    _, H, W, C = x.shape
    sh, sw, top, left, _, _, dh, dw, groups, _, direct = geometry
    _, KH, KW, Cg, _ = partial.shape
    Og = O // groups
    size = x.itemsize
    scratch = scratches[0 if direct else t]
    Wp = W if direct else scratch.shape[1]
    table = np.empty(KH * KW * Cg, np.int64)
    for i in range(table.size):
        tap = i // Cg
        table[i] = tap // KW * dh * Wp * C + tap % KW * dw * C + i % Cg
    offsets = np.empty(OH, np.int64)
    for y in range(OH):
        offsets[y] = y * sh * Wp * C
    sums = partial_bias[t]
    sums[:] = 0
    begin, end = t * N // tasks, (t + 1) * N // tasks
    for n in range(begin, end):
        if direct:
            start = x.ctypes.data + n * H * W * C * size
        else:
            _place(x[n], scratch, 0, top, 1, left, 1)
            start = scratch.ctypes.data
        pixels = grad[n].reshape(OH * OW, O)
        for p in range(OH * OW):
            pixel = pixels[p]
            for o in range(sums.size):
                sums[o] += pixel[o]
        for g in range(groups):
            A, B = start + g * Cg * size, grad.ctypes.data + (n * OH * OW * O + g * Og) * size
            sum_at = partial.ctypes.data + (t * KH * KW * Cg * O + g * Og) * size
            multiply(tiles, sum_at, O, A, table, sw * C, offsets, OH, OW, B, O, 0, table.size, Og,
                     1 if n > begin else 0, 0, size)  # fmt: skip


@jit
def _weight_gradient(
    pool, tasks, tiles, x, grad, partial, partial_bias, grad_weight, grad_bias, scratches, geometry
):
    arguments = (tasks, tiles, x, grad, partial, partial_bias, scratches, geometry)
    parallel_for(pool, tasks, _weight_task, arguments)
    parts, total = partial.reshape(tasks, grad_weight.size), grad_weight.reshape(grad_weight.size)
    total[:] = 0
    grad_bias[:] = 0
    for t in range(tasks):
        for i in range(total.size):
            total[i] += parts[t, i]
        for o in range(grad_bias.size):
            grad_bias[o] += partial_bias[t, o]


@inline
def _flip_task(t, weight, out):
    _, KH, KW, Og, I = out.shape
    g, f, q = t // (KH * KW), t // KW % KH, t % KW
    for o in range(Og):
        for i in range(I):
            out[g, f, q, o, i] = weight[KH - 1 - f, KW - 1 - q, i, g * Og + o]


@jit
def _flip(pool, weight, out):
    parallel_for(pool, out.shape[0] * out.shape[1] * out.shape[2], _flip_task, (weight, out))


def _filters(weight: np.ndarray) -> np.ndarray:
    """OIHW filters as the (1, KH, KW, I, O) array the tile reads: their own memory where they lie so, else
    a copy."""
    return plain(weight.transpose(2, 3, 1, 0))[None]


def _flipped(weight: np.ndarray, groups: int) -> np.ndarray:
    """The filters of the gradient's convolution: (groups, KH, KW, O of a group, I), turned by 180 degrees."""
    O, I, KH, KW = weight.shape
    out = empty((groups, KH, KW, O // groups, I), weight.dtype)
    _flip(pool(), plain(weight.transpose(2, 3, 1, 0)), out)
    return out


def _scratches(tasks, height, width, channels, direct, dtype):
    return empty((1, 1, 1, 1) if direct else (tasks, height, width, channels), dtype)


def _run_forward(x, filters, bias, out, stride, corner, step, dilation, groups, shared, code):
    """Convolve NHWC `x`, placed with its first pixel at `corner` and its pixels `step` apart, into NHWC
    `out`."""
    N, OH, OW, _ = out.shape
    if out.size == 0:
        return
    (sh, sw), (dh, dw) = stride, dilation
    KH, KW = filters.shape[1:3]
    width = (OW - 1) * sw + dw * (KW - 1) + 1
    height = (OH - 1) * sh + dh * (KH - 1) + 1
    direct = corner == (0, 0) and step == (1, 1) and width <= x.shape[2] and height <= x.shape[1]
    blocks = 1 if N >= _ROW_BLOCKS else min(OH, _ROW_BLOCKS)
    tasks = min(N * blocks, _TASKS)
    tallest = ((OH + blocks - 1) // blocks - 1) * sh + dh * (KH - 1) + 1
    scratches = _scratches(tasks, tallest, width, x.shape[3], direct, x.dtype)
    geometry = (sh, sw, *corner, *step, dh, dw, groups, shared, direct)
    _forward(pool(), tasks, blocks, panels(x.itemsize), x, filters, bias, out, scratches, geometry, code)


def conv2d(x, weight, bias, stride, padding, dilation, groups, activation):
    N, _, H, W = x.shape
    O, _, KH, KW = weight.shape
    OH = output_shape(H, KH, stride[0], padding[0], dilation[0])
    OW = output_shape(W, KW, stride[1], padding[1], dilation[1])
    memory, out = empty_nchw(N, O, OH, OW, x.dtype)
    bias = none(x.dtype) if bias is None else plain(bias)
    _run_forward(
        nhwc(x),
        _filters(weight),
        bias,
        memory,
        stride,
        padding,
        (1, 1),
        dilation,
        groups,
        True,
        CODES[activation],
    )
    return out


def conv2d_backward(grad, x, weight, stride, padding, dilation, groups, input_grad, out=None):
    grad, x_memory = nhwc(grad), nhwc(x)
    grad_x = None
    if input_grad:
        N, C, H, W = x.shape
        KH, KW = weight.shape[2:]
        memory, grad_x = empty_nchw(N, C, H, W, x.dtype)
        if _conv_columns.pays(
            x.shape, weight.shape, (N, *grad.shape[3:], *grad.shape[1:3]), groups, x.itemsize
        ):
            _conv_columns.grad_input(grad, weight, memory, stride, padding, dilation)
        else:
            corner = (dilation[0] * (KH - 1) - padding[0], dilation[1] * (KW - 1) - padding[1])
            filters = _flipped(weight, groups)
            _run_forward(
                grad, filters, none(x.dtype), memory, (1, 1), corner, stride, dilation, groups, False, 0
            )
    grad_weight, grad_bias = _weight(grad, x_memory, weight.shape, stride, padding, dilation, groups, out)
    return grad_x, grad_weight, grad_bias


def _weight(grad, x, shape, stride, padding, dilation, groups, out):
    N, H, W, C = x.shape
    O, I, KH, KW = shape
    if out is None:
        out = (np.empty((KH, KW, I, O), x.dtype).transpose(3, 2, 0, 1), np.empty(O, x.dtype))
    grad_weight, grad_bias = out
    if N == 0:
        grad_weight[:] = 0
        grad_bias[:] = 0
        return out
    tasks = min(N, _CHUNKS)
    direct = padding == (0, 0)
    scratches = _scratches(tasks, H + 2 * padding[0], W + 2 * padding[1], C, direct, x.dtype)
    partial = empty((tasks, KH, KW, I, O), x.dtype)
    partial_bias = np.empty((tasks, O), x.dtype)
    geometry = (*stride, *padding, 1, 1, *dilation, groups, False, direct)
    memory = grad_weight.transpose(2, 3, 1, 0)
    own = memory if memory.flags.carray else np.empty(memory.shape, x.dtype)
    tiles = panels(x.itemsize)
    _weight_gradient(
        pool(), tasks, tiles, x, grad, partial, partial_bias, own, grad_bias, scratches, geometry
    )
    if own is not memory:
        memory[:] = own
    return out
