"""The gradient of a 3 x 3 convolution's weight by the transpose of Winograd's algorithm.

With U = G w G', V = B d B' and y = A (U * V) A' as in ``_winograd.py``, the chain rule gives, from the
gradient e of the 4 x 4 pixels y of a tile,

    W  = A' e A                            36 numbers for each (tile, output)
    dU = sum over tiles of V * W           36 products of matrices, (C, tiles) times (tiles, O)
    dw = G' dU G                           once for each (channel, output)

A direct way multiplies 9 times for each pixel, channel and output, this one 36 / 16 = 2.25 times. Some images
at a time are transformed, each by a task, and then multiplied, each of the 36 products by a task. So the sum
over tiles has one order whatever the threads, and V and W of these images stay in the caches.

As there, a number that is not finite makes NaN of all that it meets, and such a gradient is left to the
direct way. Rounding is about five times as much as there, some millionths of a gradient's largest number.
"""

from __future__ import annotations

import functools

import numpy as np

from ._conv_rows import place
from ._jit import inline, jit
from ._memory import aligned
from ._tape import doubts, moved_by_python
from ._transforms import M, N, make_transform, matrices
from ._winograd import _PAD, grid_of, suits
from .threads import parallel_for, pool
from .tile import lanes, multiply, panels

_TOGETHER = 128  # tiles that are transformed before they are multiplied, at least those of ...
_FEWEST = 4  # ... so many images
_LARGEST = 64  # tiles of an image
_CHANNELS = 2000  # C * O, below which transforming takes longer than what it spares


def _transposed(matrix):
    return [list(column) for column in zip(*matrix, strict=True)]


@functools.cache
def _kernel(size):
    """The kernel for floats of `size` bytes."""
    A, B, G = matrices()
    of_image, width = make_transform(size, B, ""), lanes(size)
    of_gradient, back = make_transform(size, _transposed(A), ""), make_transform(size, _transposed(G), "")

    @inline
    def transform_task(t, first, x, grad, V, W, images, gradients, sums, corner, grid):
        image, pixels = images[t], gradients[t]
        C, O = x.shape[3], grad.shape[3]
        place(x[first + t], image, 0, corner[0], 1, corner[1], 1)
        place(grad[first + t], pixels, 0, 0, 1, 0, 1)
        total = sums[first + t]
        total[:] = 0
        for i in range(pixels.shape[0]):
            for j in range(pixels.shape[1]):
                for o in range(O):
                    total[o] += pixels[i, j, o]
        x_row, y_row = image.shape[1] * C, pixels.shape[1] * O
        for y in range(grid[0]):
            for z in range(grid[1]):
                tile = (t * grid[0] + y) * grid[1] + z
                source = image.ctypes.data + M * (y * x_row + z * C) * size
                out, plane = V.ctypes.data + tile * C * size, V.shape[1]
                for c in range(0, C, width):
                    of_image(source + c * size, x_row, C, out + c * size, N * plane, plane, 0, 0, 0, 0, 0)
                source = pixels.ctypes.data + M * (y * y_row + z * O) * size
                out, plane = W.ctypes.data + tile * O * size, W.shape[1]
                for o in range(0, O, width):
                    of_gradient(source + o * size, y_row, O, out + o * size, N * plane, plane, 0, 0, 0, 0, 0)

    @inline
    def multiply_task(p, count, add, tiles, V, W, dU, C, O):
        left, right = V.ctypes.data + p * V.shape[1] * size, W.ctypes.data + p * W.shape[1] * size
        out, table = dU.ctypes.data + p * dU.shape[1] * size, np.arange(C)
        no_offset = np.zeros(1, np.int64)
        multiply(tiles, out, O, left, table, C, no_offset, 1, count, right, O, 0, C, O, add, 0, size)

    @inline
    def back_task(c, dU, grad_weight):
        _, _, C, O = grad_weight.shape
        plane = dU.shape[1]
        for o in range(0, O, width):
            source = dU.ctypes.data + (c * O + o) * size
            out = grad_weight.ctypes.data + (c * O + o) * size
            back(source, N * plane, plane, out, 3 * C * O, C * O, 0, 0, 0, 0, 0)

    @functools.partial(jit, variant=f"{size} bytes, {width} lanes")
    def kernel(
        pool, tiles, x, grad, V, W, dU, images, gradients, sums, corner, grid, grad_weight, grad_bias, doubt
    ):
        C, O = x.shape[3], grad.shape[3]
        for first in range(0, len(x), len(images)):
            count = min(len(images), len(x) - first)
            arguments = (first, x, grad, V, W, images, gradients, sums, corner, grid)
            parallel_for(pool, count, transform_task, arguments)
            add = 1 if first > 0 else 0
            arguments = (count * grid[0] * grid[1], add, tiles, V, W, dU, C, O)
            parallel_for(pool, N * N, multiply_task, arguments)
        parallel_for(pool, C, back_task, (dU, grad_weight))
        grad_bias[:] = 0
        for n in range(len(x)):
            for o in range(O):
                grad_bias[o] += sums[n, o]
        total, flat = 0.0, grad_weight.reshape(grad_weight.size)
        for i in range(flat.size):
            total += abs(flat[i])
        doubt[0] = not np.isfinite(total)

    return kernel


@functools.lru_cache(maxsize=1024)
def pays(images, filters, size, stride, dilation, groups, itemsize):
    """Whether this way is open for `images` (N, C, H, W), `filters` (O, C, KH, KW) and a gradient of `size`
    pixels, and takes less time than the direct one."""
    O, C, *window = filters
    rows, columns = grid_of(size)
    return (
        suits(images[0], window, C, O, itemsize, size, stride, dilation, groups)
        and C * O >= _CHANNELS
        and rows * columns <= _LARGEST
        and images[0] >= _FEWEST
    )


def run(x, grad, padding, grad_weight, grad_bias):
    """Fill `grad_weight` (3, 3, C, O) and `grad_bias` from NHWC `x` and `grad`; False if they did not come
    out finite, to be computed in the direct way."""
    n, C, O, grid = len(x), x.shape[3], grad.shape[3], grid_of(grad.shape[1:3])
    each = min(n, max(_FEWEST, _TOGETHER // (grid[0] * grid[1])))
    count = each * grid[0] * grid[1]
    scratch = [
        aligned((N * N, count * C + _PAD), x.dtype),
        aligned((N * N, count * O + _PAD), x.dtype),
        aligned((N * N, C * O + _PAD), x.dtype),
        aligned((each, grid[0] * M + 2, grid[1] * M + 2, C), x.dtype),
        aligned((each, grid[0] * M, grid[1] * M, O), x.dtype),
        np.empty((n, O), x.dtype),
    ]
    doubt = doubts(1)
    _kernel(x.itemsize)(
        pool(), panels(x.itemsize), x, grad, *scratch, padding, grid, grad_weight, grad_bias, doubt
    )
    if doubt[0]:
        moved_by_python()
    return not doubt[0]
