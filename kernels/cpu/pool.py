"""Max and average pooling over channels-last memory: the loop over channels is innermost, so that taps are compared as vectors.

Torch's rules: padding is -inf to a maximum, a NaN wins it, the first of equal values (row by row in the window) gives the index, and with
`ceil_mode` a last window that would begin in the padding on the far side is dropped. A task is one image or, in the forward pass, a part of its rows.
"""

from __future__ import annotations

import numpy as np

from ._jit import inline, jit
from ._memory import empty_nchw, nhwc, plain
from .threads import parallel_for, pool

_ROW_BLOCKS = 8


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    out = (-(-span // stride) if ceil_mode else span // stride) + 1
    if ceil_mode and (out - 1) * stride >= size + padding:
        out -= 1
    return out


@inline
def _max_rows(t, blocks, x, out, indices, geometry):
    KH, KW, sh, sw, ph, pw, dh, dw = geometry
    _, H, W, C = x.shape
    _, OH, OW, _ = out.shape
    n, b = t // blocks, t % blocks
    for oy in range(b * OH // blocks, (b + 1) * OH // blocks):
        for ox in range(OW):
            best, where = out[n, oy, ox], indices[n, oy, ox]
            first = True
            for f in range(KH):
                y = oy * sh - ph + f * dh
                if y < 0 or y >= H:
                    continue
                for q in range(KW):
                    z = ox * sw - pw + q * dw
                    if z < 0 or z >= W:
                        continue
                    tap, place = x[n, y, z], np.int32(y * W + z)
                    if first:
                        for c in range(C):
                            best[c] = tap[c]
                            where[c] = place
                        first = False
                    else:
                        for c in range(C):
                            wins = tap[c] > best[c] or tap[c] != tap[c]
                            best[c] = tap[c] if wins else best[c]
                            where[c] = place if wins else where[c]


@jit
def _max(pool, blocks, x, out, indices, geometry):
    parallel_for(pool, x.shape[0] * blocks, _max_rows, (blocks, x, out, indices, geometry))


@inline
def _max_backward_image(n, grad, indices, out):
    _, H, W, C = out.shape
    image = out[n].reshape(H * W, C)
    image[:] = 0
    for oy in range(grad.shape[1]):
        for ox in range(grad.shape[2]):
            for c in range(C):
                image[indices[n, oy, ox, c], c] += grad[n, oy, ox, c]


@jit
def _max_backward(pool, grad, indices, out):
    parallel_for(pool, out.shape[0], _max_backward_image, (grad, indices, out))


@inline
def _window(o, kernel, stride, padding, size, count_include_pad):
    """``(first, end)`` of the taps inside the image of output `o`, and how many taps the mean divides by, along one axis."""
    start = o * stride - padding
    end = min(start + kernel, size + padding)
    first, last = max(start, 0), min(end, size)
    return first, last, end - start if count_include_pad else last - first


@inline
def _average_rows(t, blocks, x, out, geometry):
    KH, KW, sh, sw, ph, pw, count_include_pad = geometry
    _, H, W, C = x.shape
    _, OH, OW, _ = out.shape
    n, b = t // blocks, t % blocks
    for oy in range(b * OH // blocks, (b + 1) * OH // blocks):
        y0, y1, rows = _window(oy, KH, sh, ph, H, count_include_pad)
        for ox in range(OW):
            z0, z1, columns = _window(ox, KW, sw, pw, W, count_include_pad)
            mean = out[n, oy, ox]
            mean[:] = 0
            for y in range(y0, y1):
                for z in range(z0, z1):
                    for c in range(C):
                        mean[c] += x[n, y, z, c]
            count = x.dtype.type(rows * columns)
            for c in range(C):
                mean[c] /= count


@jit
def _average(pool, blocks, x, out, geometry):
    parallel_for(pool, x.shape[0] * blocks, _average_rows, (blocks, x, out, geometry))


@inline
def _average_backward_image(n, grad, out, geometry):
    KH, KW, sh, sw, ph, pw, count_include_pad = geometry
    _, H, W, C = out.shape
    out[n] = 0
    for oy in range(grad.shape[1]):
        y0, y1, rows = _window(oy, KH, sh, ph, H, count_include_pad)
        for ox in range(grad.shape[2]):
            z0, z1, columns = _window(ox, KW, sw, pw, W, count_include_pad)
            share = out.dtype.type(1) / out.dtype.type(rows * columns)
            for y in range(y0, y1):
                for z in range(z0, z1):
                    for c in range(C):
                        out[n, y, z, c] += grad[n, oy, ox, c] * share


@jit
def _average_backward(pool, grad, out, geometry):
    parallel_for(pool, out.shape[0], _average_backward_image, (grad, out, geometry))


def _row_blocks(images: int, rows: int) -> int:
    return 1 if images >= _ROW_BLOCKS else min(rows, _ROW_BLOCKS)


def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    N, C, H, W = x.shape
    OH = output_size(H, kernel_size[0], stride[0], padding[0], dilation[0], ceil_mode)
    OW = output_size(W, kernel_size[1], stride[1], padding[1], dilation[1], ceil_mode)
    memory, out = empty_nchw(N, C, OH, OW, x.dtype)
    where, indices = empty_nchw(N, C, OH, OW, np.dtype(np.int32))
    geometry = (*kernel_size, *stride, *padding, *dilation)
    _max(pool(), _row_blocks(N, OH), nhwc(x), memory, where, geometry)
    return out, indices


def max_pool2d_backward(grad, indices, input_shape):
    N, C, H, W = input_shape
    memory, out = empty_nchw(N, C, H, W, grad.dtype)
    where = plain(indices.transpose(0, 2, 3, 1)).astype(np.int32, copy=False)
    _max_backward(pool(), nhwc(grad), where, memory)
    return out


def avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad):
    N, C, H, W = x.shape
    OH = output_size(H, kernel_size[0], stride[0], padding[0], 1, ceil_mode)
    OW = output_size(W, kernel_size[1], stride[1], padding[1], 1, ceil_mode)
    memory, out = empty_nchw(N, C, OH, OW, x.dtype)
    geometry = (*kernel_size, *stride, *padding, bool(count_include_pad))
    _average(pool(), _row_blocks(N, OH), nhwc(x), memory, geometry)
    return out


def avg_pool2d_backward(grad, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad):
    memory, out = empty_nchw(*input_shape, grad.dtype)
    geometry = (*kernel_size, *stride, *padding, bool(count_include_pad))
    _average_backward(pool(), nhwc(grad), memory, geometry)
    return out
