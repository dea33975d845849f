"""Max and average pooling over channels-last memory: a vector of channels takes a tap in one comparison.

Torch's rules: padding is -inf to a maximum, a NaN wins it, the first of equal values (row by row in the
window) gives the index, and with `ceil_mode` a last window that would begin in the padding on the far side
is dropped. A task is one image or, in the forward pass, a part of its rows.
"""

from __future__ import annotations

import functools

import numpy as np

from fastnn.kernels.reference._shared import pooled_shape

from ._jit import inline, jit
from ._memory import empty_nchw, nhwc, plain
from ._pool_window import make_window_max, spread_window
from ._turn import lanes_of
from .threads import parallel_for, pool, row_blocks
from .tile import lanes

_FAR = 1 << 26  # bytes of a gradient that no cache holds until it is read


@functools.cache
def max_rows(size):
    """The function that pools rows of one image, for floats of `size` bytes: `image`, `out` and `where` are
    the addresses of its first row and of the first rows of its results."""
    window_max = make_window_max(size)
    width = lanes(size)

    @inline
    def rows(image, shape, out, where, first, end, across, geometry):
        KH, KW, sh, sw, ph, pw, dh, dw = geometry
        H, W, C = shape
        for oy in range(first, end):
            y, rows = _inside(oy * sh - ph, KH, dh, H)
            for ox in range(across):
                z, columns = _inside(ox * sw - pw, KW, dw, W)
                at = (oy * across + ox) * C
                for c in range(0, C, width):
                    best, place = out + (at + c) * size, where + (at + c) * 4
                    window_max(image + c * size, best, place, C - c, y, rows, dh, z, columns, dw, W, C)

    return rows


@functools.cache
def _max_kernel(size):
    """The kernel for floats of `size` bytes."""
    rows_of = max_rows(size)

    @inline
    def part(t, blocks, x, out, indices, geometry):
        _, H, W, C = x.shape
        _, OH, OW, _ = out.shape
        n, b = t // blocks, t % blocks
        image, at = x.ctypes.data + n * H * W * C * size, n * OH * OW * C
        best, where = out.ctypes.data + at * size, indices.ctypes.data + at * 4
        rows_of(image, (H, W, C), best, where, b * OH // blocks, (b + 1) * OH // blocks, OW, geometry)

    @functools.partial(jit, variant=f"{size} bytes, {lanes(size)} lanes")
    def kernel(pool, blocks, x, out, indices, geometry):
        parallel_for(pool, x.shape[0] * blocks, part, (blocks, x, out, indices, geometry))

    return kernel


@inline
def _inside(start, taps, step, size):
    """The first of `taps` taps from `start` on that lies inside an axis of length `size`, and how many do."""
    skipped = (step - 1 - start) // step if start < 0 else 0
    first = start + skipped * step
    return first, max(0, min(taps - skipped, (size - 1 - first) // step + 1))


@inline
def _spread(image, grad, indices, far):
    """The gradient of windows of 2 x 2 side by side, where every pixel is written once; or False, where
    `indices` do not come from such windows. What is written `far` away goes past the caches: a line that is
    written in a cache would be fetched first."""
    (OH, OW, C), W = grad.shape, image.shape[1]
    real, size = grad.dtype.type(0), grad.itemsize
    width = lanes_of(real)
    stream = far and C % width == 0 and image.ctypes.data % (width * size) == 0
    strays = 0
    for oy in range(OH):
        for ox in range(OW):
            place = 2 * (oy * W + ox)
            slopes, places = (oy * OW + ox) * C, image.ctypes.data + place * C * size
            for c in range(0, C, width):
                strays += spread_window(real, grad.ctypes.data + (slopes + c) * size,
                                        indices.ctypes.data + (slopes + c) * 4, places + c * size, place, W,
                                        C, C - c, stream)  # fmt: skip
        if strays:
            return False
    return True


@inline
def _max_backward_image(n, grad, indices, out, far):
    _, H, W, C = out.shape
    _, OH, OW, _ = grad.shape
    if 2 * OH == H and 2 * OW == W and _spread(out[n], grad[n], indices[n], far):
        return
    image = out[n].reshape(H * W, C)
    image[:] = 0
    for oy in range(OH):
        for ox in range(OW):
            for c in range(C):
                image[indices[n, oy, ox, c], c] += grad[n, oy, ox, c]


@jit
def _max_backward(pool, grad, indices, out, far):
    parallel_for(pool, out.shape[0], _max_backward_image, (grad, indices, out, far))


@inline
def _window(o, kernel, stride, padding, size, count_include_pad):
    """``(first, end)`` of the taps inside the image of output `o`, and how many taps the mean divides by,
    along one axis."""
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
            mean, count = out[n, oy, ox], x.dtype.type(rows * columns)
            if y1 - y0 == 2 and z1 - z0 == 2:  # as almost all are
                first, second = x[n, y0, z0:z1], x[n, y0 + 1, z0:z1]
                for c in range(C):
                    mean[c] = (first[0, c] + first[1, c] + second[0, c] + second[1, c]) / count
                continue
            mean[:] = 0
            for y in range(y0, y1):
                for z in range(z0, z1):
                    for c in range(C):
                        mean[c] += x[n, y, z, c]
            for c in range(C):
                mean[c] /= count


@jit
def _average(pool, blocks, x, out, geometry):
    parallel_for(pool, x.shape[0] * blocks, _average_rows, (blocks, x, out, geometry))


@inline
def _average_backward_image(n, grad, out, geometry):
    KH, KW, sh, sw, ph, pw, count_include_pad = geometry
    _, H, W, C = out.shape
    _, OH, OW, _ = grad.shape
    if ph == 0 and pw == 0 and sh == KH and sw == KW:
        _share_out_apart(out[n], grad[n], KH, KW, count_include_pad)
        return
    reached = (
        0  # rows, each zeroed shortly before a first window reaches it: it is then still in the L1 cache
    )
    for oy in range(OH):
        y0, y1, rows = _window(oy, KH, sh, ph, H, count_include_pad)
        if y1 > reached:
            out[n, reached:y1] = 0
            reached = y1
        for ox in range(OW):
            z0, z1, columns = _window(ox, KW, sw, pw, W, count_include_pad)
            share = out.dtype.type(1) / out.dtype.type(rows * columns)
            for y in range(y0, y1):
                for z in range(z0, z1):
                    for c in range(C):
                        out[n, y, z, c] += grad[n, oy, ox, c] * share
    out[n, reached:] = 0


@inline
def _share_out_apart(image, grad, KH, KW, count_include_pad):
    """The same for windows side by side: every pixel is written once, row after row."""
    (OH, OW, C), (H, W, _) = grad.shape, image.shape
    for y in range(min(H, OH * KH)):
        oy = y // KH
        _, _, rows = _window(oy, KH, KH, 0, H, count_include_pad)
        for ox in range(OW):
            first, end, columns = _window(ox, KW, KW, 0, W, count_include_pad)
            share = image.dtype.type(1) / image.dtype.type(rows * columns)
            for z in range(first, end):
                for c in range(C):
                    image[y, z, c] = grad[oy, ox, c] * share
        image[y, OW * KW :] = 0
    image[OH * KH :] = 0


@jit
def _average_backward(pool, grad, out, geometry):
    parallel_for(pool, out.shape[0], _average_backward_image, (grad, out, geometry))


def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    N, C, H, W = x.shape
    OH = pooled_shape(H, kernel_size[0], stride[0], padding[0], dilation[0], ceil_mode)
    OW = pooled_shape(W, kernel_size[1], stride[1], padding[1], dilation[1], ceil_mode)
    memory, out = empty_nchw(N, C, OH, OW, x.dtype)
    where, indices = empty_nchw(N, C, OH, OW, np.dtype(np.int32))
    geometry = (*kernel_size, *stride, *padding, *dilation)
    _max_kernel(x.itemsize)(pool(), row_blocks(N, OH), nhwc(x), memory, where, geometry)
    return out, indices


def max_pool2d_backward(grad, indices, input_shape, pooling=None):
    N, C, H, W = input_shape
    memory, out = empty_nchw(N, C, H, W, grad.dtype)
    where = plain(indices.transpose(0, 2, 3, 1)).astype(np.int32, copy=False)
    _max_backward(pool(), nhwc(grad), where, memory, memory.nbytes > _FAR)
    return out


def avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad):
    N, C, H, W = x.shape
    OH = pooled_shape(H, kernel_size[0], stride[0], padding[0], 1, ceil_mode)
    OW = pooled_shape(W, kernel_size[1], stride[1], padding[1], 1, ceil_mode)
    memory, out = empty_nchw(N, C, OH, OW, x.dtype)
    geometry = (*kernel_size, *stride, *padding, bool(count_include_pad))
    _average(pool(), row_blocks(N, OH), nhwc(x), memory, geometry)
    return out


def avg_pool2d_backward(grad, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad):
    memory, out = empty_nchw(*input_shape, grad.dtype)
    geometry = (*kernel_size, *stride, *padding, bool(count_include_pad))
    _average_backward(pool(), nhwc(grad), memory, geometry)
    return out
