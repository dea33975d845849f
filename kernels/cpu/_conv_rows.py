"""An image's part of a convolution on the register tile of ``tile.py``: what ``conv.py`` and ``conv_pool.py``
share.

A filter row of a channels-last image is one contiguous run of KW·C floats, so the tile *addresses* the rows
that im2col would build. What it cannot address is padding. Where there is some, the image is first placed in
a small zero-bordered scratch (one that fits the L2 cache), and read from there.

Kernels take the geometry as one tuple: the strides (rows, columns), where the first input pixel is placed
(top, left), how far apart its pixels are (row step, column step; the gradient of a strided convolution puts
zeros between them), the dilations, the number of groups, whether the groups' filters lie side by side (a
layer's do), and whether windows are read `direct`ly from the image.
"""

from __future__ import annotations

import functools

import numpy as np

from fastnn.kernels.reference._shared import output_shape

from ._jit import inline
from ._memory import aligned, clear, copy, hwio, move
from .tile import multiply

TASKS = 16  # of a forward pass at most; each has a scratch of its own
CHUNKS = 8  # parts of the batch that are summed apart for a weight's gradient


@inline
def place(image, scratch, first_row, top, row_step, left, column_step):
    """Write `image` (H, W, C) into `scratch`: its pixel (y, x) at row top + y*row_step - first_row, column
    left + x*column_step.

    The rest of the scratch becomes zero; what would fall outside is dropped.
    """
    H, W, C = image.shape
    rows, columns, _ = scratch.shape
    pixel = C * image.itemsize
    begin = min(max(left, 0), columns)  # of the columns that are not zero, where pixels lie side by side
    end = min(max(left + W, begin), columns)
    for r in range(rows):
        y = r + first_row - top
        row = scratch.ctypes.data + r * columns * pixel
        if y < 0 or y % row_step != 0 or y // row_step >= H:
            clear(row, columns * pixel)
            continue
        pixels = image.ctypes.data + y // row_step * W * pixel
        if column_step == 1:
            clear(row, begin * pixel)
            move(row + begin * pixel, pixels + (begin - left) * pixel, (end - begin) * pixel)
            clear(row + end * pixel, (columns - end) * pixel)
        else:
            clear(row, columns * pixel)
            for x in range(W):
                column = left + x * column_step
                if 0 <= column < columns:
                    move(row + column * pixel, pixels + x * pixel, pixel)


@inline
def _pixels(table, columns, row, column):
    """Where the pixels of a grid with `columns` columns lie, row after row."""
    for y in range(table.size // max(columns, 1)):
        for x in range(columns):
            table[y * columns + x] = y * row + x * column


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
def tables(x, weight, scratches, geometry, rows, width):
    """The tables by which the tile reads `rows` rows of `width` output pixels: where their windows begin, and
    where the parts of a window do."""
    sh, sw, _, _, _, _, dh, dw, groups, _, direct = geometry
    _, KH, KW, _, _ = weight.shape
    C = x.shape[3]
    across = x.shape[2] if direct else scratches.shape[2]
    joined = dw == 1 and groups == 1
    offsets = np.empty(KH if joined else KH * KW, np.int64)
    _offsets(offsets, KH, KW, dh * across * C, dw * C, joined)
    table = np.empty(rows * width, np.int64)
    _pixels(table, width, sh * across * C, sw * C)
    return table, offsets


@inline
def whole(x, n, scratch, geometry):
    """Where the windows of image n begin: in the image itself, or in `scratch` after placing it there."""
    _, _, top, left, row_step, column_step, _, _, _, _, direct = geometry
    if direct:
        return x.ctypes.data + n * x.shape[1] * x.shape[2] * x.shape[3] * x.itemsize
    place(x[n], scratch, 0, top, row_step, left, column_step)
    return scratch.ctypes.data


@inline
def lay_out(x, n, scratch, geometry, KH, first, end):
    """Where the windows of rows `first` to `end` of image n's result begin: in the image itself, or in
    `scratch` after placing there what they need of it."""
    _, H, W, C = x.shape
    sh, _, top, left, row_step, column_step, dh, _, _, _, direct = geometry
    if direct:
        return x.ctypes.data + (n * H + first * sh) * W * C * x.itemsize
    height = (end - first - 1) * sh + dh * (KH - 1) + 1
    place(x[n], scratch[:height], first * sh, top, row_step, left, column_step)
    return scratch.ctypes.data


@inline
def convolve(tiles, start, C, weight, bias, table, offsets, geometry, pixels, relu, out):
    """A convolution's result for `pixels` pixels whose windows begin `table` elements after address `start`,
    in an image of C channels, written to address `out`.

    `weight` is (groups, KH, KW, inputs of a group, columns): the columns are all outputs where the groups
    share rows, else those of one group.
    """
    dw, groups, shared = geometry[7], geometry[8], geometry[9]
    _, KH, KW, Cg, columns = weight.shape
    Og = columns // groups if shared else columns
    O = groups * Og
    size = weight.itemsize
    S, K = (KH, KW * C) if dw == 1 and groups == 1 else (KH * KW, Cg)
    for g in range(groups):
        own = 0 if shared else g
        B = weight.ctypes.data + (own * KH * KW * Cg * columns + (g * Og if shared else 0)) * size
        bias_at = bias.ctypes.data + g * Og * size if bias.size else 0
        A, Y = start + g * Cg * size, out + g * Og * size
        multiply(tiles, Y, O, A, table, 1, offsets, S, K, B, columns, bias_at, pixels, Og, 0, relu, size)


@inline
def add_parts(parts, total):
    """Fill `total` with the sum of the rows of `parts`, in order."""
    copy(parts[0], total)
    for t in range(1, len(parts)):
        for i in range(total.size):
            total[i] += parts[t, i]


@functools.lru_cache(maxsize=1024)  # a network asks for the same few at every step
def plan(image, kernel_size, size, stride, corner, step, dilation, groups, shared, rows):
    """The geometry for images of `image` pixels placed with the first at `corner` and the others `step`
    apart, and the (height, width) of a scratch for `rows` rows of the result, which has the pixels `size`."""
    height, width = (
        (n - 1) * s + d * (k - 1) + 1
        for n, s, d, k in zip((rows, size[1]), stride, dilation, kernel_size, strict=True)
    )
    entire = height + (size[0] - rows) * stride[0]
    direct = corner == (0, 0) and step == (1, 1) and width <= image[1] and entire <= image[0]
    return (*stride, *corner, *step, *dilation, groups, shared, direct), (height, width)


def scratches(tasks, size, x, geometry):
    """Memory for `tasks` images of `size` pixels, or a stand-in where windows are read from the images."""
    if geometry[-1]:
        return _NO_SCRATCH[x.dtype]
    return aligned((tasks, *size, x.shape[3]), x.dtype)


_NO_SCRATCH = {np.dtype(t): np.empty((1, 1, 1, 1), t) for t in (np.float32, np.float64)}


@functools.lru_cache(maxsize=256)
def runs_of(dilation, row, C, KH, KW):
    """Where each contiguous part of a window begins, in an image with rows of `row` pixels."""
    # not of the platform's int: the kernels read 64 bits
    runs = np.arange(KH, dtype=np.int64) * dilation[0] * row * C
    return runs if dilation[1] == 1 else (runs[:, None] + np.arange(KW) * dilation[1] * C).ravel()


def gradients(shape, dtype, out):
    """The arrays of a backward for the gradients of OIHW filters of this shape and of the bias: those of
    `out`, or new ones; and the (KH, KW, I, O) memory for kernels to write the first to, the gradient's own
    where it lies so."""
    O, I, KH, KW = shape
    if out is None:
        out = (np.empty((KH, KW, I, O), dtype).transpose(3, 2, 0, 1), np.empty(O, dtype))
    hwio = out[0].transpose(2, 3, 1, 0)
    return out, hwio if hwio.flags.carray else np.empty(hwio.shape, dtype)


@functools.lru_cache(maxsize=1024)
def output_size(image, kernel_size, stride, padding, dilation):
    """(OH, OW) for images of `image` pixels."""
    axes = zip(image, kernel_size, stride, padding, dilation, strict=True)
    return tuple([output_shape(*axis) for axis in axes])


def filters_of(weight: np.ndarray) -> np.ndarray:
    """OIHW filters as the (1, KH, KW, I, O) array the tile reads: their own memory where they lie so, else
    a copy."""
    return hwio(weight)[None]
