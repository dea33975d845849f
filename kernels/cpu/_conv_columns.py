"""The gradient of a convolution's input by columns: for few input channels, or a stride.

``conv.py`` computes it as a convolution with flipped filters, whose result has the input's channels in the
lanes of a vector: with 6 channels of 16 lanes, most of the arithmetic is on nothing. Here dY W' gives all
KH·KW·C gradients that one output pixel sends out, lanes full, a row of pixels at a time (it stays in the L1
cache), and they are added where they belong: a filter row at a time, since that is one run of memory.
"""

from __future__ import annotations

import numpy as np

from ._jit import inline, jit
from ._memory import aligned, hwio
from .threads import parallel_for, pool
from .tile import lanes, multiply, panels

_ADD = 4  # what adding one vector of a column costs, in multiply-adds


def pays(x_shape, weight_shape, grad_shape, groups, itemsize):
    """Whether this way takes less time than the flipped convolution; both in multiply-adds on vectors."""
    if groups != 1:
        return False
    width = lanes(itemsize)
    O, C, KH, KW = weight_shape
    flipped = x_shape[2] * x_shape[3] * KH * KW * O * -(-C // width)
    columns = grad_shape[2] * grad_shape[3] * (-(-KH * KW * C // width) * O + KH * -(-KW * C // width) * _ADD)
    return columns < flipped


@inline
def _image(n, tiles, grad, weight, out, geometry):
    sh, sw, ph, pw, dh, dw = geometry
    _, OH, OW, O = grad.shape
    _, H, W, C = out.shape
    _, KH, KW, _ = weight.shape
    size = grad.itemsize
    length = KH * KW * C
    columns = np.empty((OW, length), grad.dtype)
    table = O * np.arange(OW)
    no_offset = np.zeros(1, np.int64)
    image = out[n].reshape(H * W * C)
    image[:] = 0
    run = KW if dw == 1 else 1  # neighbouring taps that are neighbours in memory
    for y in range(OH):
        A, B = grad.ctypes.data + (n * OH + y) * OW * O * size, weight.ctypes.data
        multiply(tiles, columns.ctypes.data, length, A, table, 1, no_offset, 1, O, B, length, 0, OW, length,
                 0, 0, size)  # fmt: skip
        for f in range(KH):
            row = y * sh - ph + f * dh
            if row < 0 or row >= H:
                continue
            for z in range(OW):
                pixel = columns[z]
                for q in range(0, KW, run):
                    column = z * sw - pw + q * dw
                    first, end = max(0, -column), min(run, W - column)
                    # unsigned: for a signed index Numba tests whether it counts from the end, and then
                    # there is no vector code
                    target = np.uint64((row * W + column + first) * C)
                    source = np.uint64((f * KW + q + first) * C)
                    for i in range(np.uint64(max(end - first, 0) * C)):
                        image[target + i] += pixel[source + i]


@jit
def _scatter(pool, tiles, grad, weight, out, geometry):
    parallel_for(pool, out.shape[0], _image, (tiles, grad, weight, out, geometry))


@inline
def _turn_task(o, weight, out):
    KH, KW, C, _ = weight.shape
    for f in range(KH):
        for q in range(KW):
            for c in range(C):
                out[o, f, q, c] = weight[f, q, c, o]


@jit
def _turn(pool, weight, out):
    parallel_for(pool, out.shape[0], _turn_task, (weight, out))


def by_output(weight):
    """OIHW filters as an (O, KH, KW, I) array."""
    O, C, KH, KW = weight.shape
    turned = aligned((O, KH, KW, C), weight.dtype)
    _turn(pool(), hwio(weight), turned)
    return turned


def grad_input(grad, weight, out, stride, padding, dilation):
    """Fill NHWC `out` from NHWC `grad` and OIHW `weight`."""
    geometry = (*stride, *padding, *dilation)
    _scatter(pool(), panels(grad.itemsize), grad, by_output(weight), out, geometry)
