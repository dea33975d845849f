"""im2col and its adjoint col2im: the explicit columns of a convolution, for those who multiply them by
themselves.

``conv.py`` does not need them. A task is one channel of one image; inside, a kernel tap moves a whole
output row at a time.
"""

from __future__ import annotations

import numpy as np

from fastnn.kernels.reference._shared import output_shape

from ._jit import inline, jit
from ._memory import plain
from .threads import parallel_for, pool


@inline
def _reach(o_count, tap, stride, padding, size):
    """The outputs ``first <= o < end`` whose input ``o*stride - padding + tap`` lies inside the image."""
    first = max(0, (padding - tap + stride - 1) // stride)
    end = min(o_count, (size - 1 + padding - tap) // stride + 1)
    return first, max(end, first)


@inline
def _im2col_channel(t, x, cols, geometry):
    KH, KW, sh, sw, ph, pw, dh, dw = geometry
    _, C, H, W = x.shape
    _, _, OH, OW = cols.shape
    n, c = t // C, t % C
    image = x[n, c]
    for f in range(KH):
        y0, y1 = _reach(OH, f * dh, sh, ph, H)
        for q in range(KW):
            z0, z1 = _reach(OW, q * dw, sw, pw, W)
            out = cols[n, (c * KH + f) * KW + q]
            out[:y0] = 0
            out[y1:] = 0
            for y in range(y0, y1):
                row, source = out[y], image[y * sh - ph + f * dh]
                row[:z0] = 0
                row[z1:] = 0
                for z in range(z0, z1):
                    row[z] = source[z * sw - pw + q * dw]


@jit
def _im2col(pool, x, cols, geometry):
    parallel_for(pool, x.shape[0] * x.shape[1], _im2col_channel, (x, cols, geometry))


@inline
def _col2im_channel(t, cols, out, geometry):
    KH, KW, sh, sw, ph, pw, dh, dw = geometry
    _, C, H, W = out.shape
    _, _, OH, OW = cols.shape
    n, c = t // C, t % C
    image = out[n, c]
    image[:] = 0
    for f in range(KH):
        y0, y1 = _reach(OH, f * dh, sh, ph, H)
        for q in range(KW):
            z0, z1 = _reach(OW, q * dw, sw, pw, W)
            column = cols[n, (c * KH + f) * KW + q]
            for y in range(y0, y1):
                target, row = image[y * sh - ph + f * dh], column[y]
                for z in range(z0, z1):
                    target[z * sw - pw + q * dw] += row[z]


@jit
def _col2im(pool, cols, out, geometry):
    parallel_for(pool, out.shape[0] * out.shape[1], _col2im_channel, (cols, out, geometry))


def im2col(x, kernel_size, stride, padding, dilation):
    N, C, H, W = x.shape
    KH, KW = kernel_size
    OH = output_shape(H, KH, stride[0], padding[0], dilation[0])
    OW = output_shape(W, KW, stride[1], padding[1], dilation[1])
    cols = np.empty((N, C * KH * KW, OH, OW), x.dtype)
    _im2col(pool(), plain(x), cols, (KH, KW, *stride, *padding, *dilation))
    return cols.reshape(N, C * KH * KW, OH * OW)


def col2im(cols, output_size, kernel_size, stride, padding, dilation):
    N, rows, _ = cols.shape
    KH, KW = kernel_size
    H, W = output_size
    OH = output_shape(H, KH, stride[0], padding[0], dilation[0])
    OW = output_shape(W, KW, stride[1], padding[1], dilation[1])
    out = np.empty((N, rows // (KH * KW), H, W), cols.dtype)
    _col2im(pool(), plain(cols).reshape(N, rows, OH, OW), out, (KH, KW, *stride, *padding, *dilation))
    return out
