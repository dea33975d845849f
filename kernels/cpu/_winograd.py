"""3 x 3 convolution by Winograd's minimal filtering: fewer multiplications for more additions.

An output tile of m x m pixels reads n x n of the image, n = m + 2. With the matrices of F(m, 3), here m = 4,

    U = G w G'     a filter                 n x n numbers for each (channel, output)
    V = B d B'     a patch of the image     n x n numbers for each (tile, channel)
    y = A (U * V) A'                        m x m pixels

where * multiplies number by number and the sum over channels makes it n² products of matrices, (tiles, C)
times (C, O). A direct convolution multiplies 9 times for each pixel, channel and output; this
one n²/m² = 2.25 times.

All transforms are emitted from their matrices as straight lines over a vector of channels. Where a 2 x 2
max-pooling follows, its windows lie inside a tile: the tile is pooled in registers.

Rounding is relative to the largest number of a patch, not of a window, and a number that is not finite makes
a NaN of its tile. So this is for float32 only, and images whose results are not all finite are left to the
direct way.

Source: Lavin & Gray (2016), "Fast algorithms for convolutional neural networks".
"""

from __future__ import annotations

import functools

import numpy as np

from ._conv_rows import place
from ._desks import desks, leave, sit_down
from ._jit import inline, jit
from ._memory import aligned, bias_or_zeros, copy
from ._tape import doubts, moved_by_python
from ._transforms import M, N, make_transform, matrices
from .activation import apply
from .threads import get_num_threads, parallel_for, pool
from .tile import lanes, multiply, panels

_EACH = 4  # tasks for each thread: some are left to take over from one that fell behind
_TILES = 24  # that are transformed, multiplied and transformed back at a time
_PAD = 16  # floats between planes of numbers: a page apart they would fall into one cache set
_MOST = 7000  # C * O, from which on U does not fit the L2 cache
_LEAST = 64  # tiles: for fewer, transforming the filters takes too long
_WORTH = 1.6  # how many times fewer the multiplications must be
_NOWHERE = np.empty((0, 0, 0, 0), np.int32)


@functools.cache
def _filter_kernel(size):
    """The kernel that makes U, (36, C * O + pad), of HWIO filters of floats of `size` bytes."""
    transform, width = make_transform(size, matrices()[2], ""), lanes(size)

    @inline
    def task(c, weight, U):
        _, _, C, O = weight.shape
        plane = U.shape[1]
        for o in range(0, O, width):
            source = weight.ctypes.data + (c * O + o) * size
            out = U.ctypes.data + (c * O + o) * size
            transform(source, 3 * C * O, C * O, out, N * plane, plane, 0, 0, 0, 0, 0)

    @functools.partial(jit, variant=f"{size} bytes, {width} lanes")
    def kernel(pool, weight, U):
        parallel_for(pool, weight.shape[2], task, (weight, U))

    return kernel


@functools.cache
def _kernel(size, ending):
    """The kernel for floats of `size` bytes, and an `ending` "bias", "pool" or "pool, short"."""
    A, B, _ = matrices()
    into, back, width = make_transform(size, B, ""), make_transform(size, A, ending), lanes(size)
    step = 1 if ending == "bias" else 2  # pixels of the convolution for one of the result
    side = M // step

    @inline
    def patches(s, count, begin, x, image, corner, grid, V, placed):
        """Fill V for `count` tiles, from tile s of the task on; the image that was placed last."""
        C, plane, row = x.shape[3], V.shape[1], image.shape[1] * x.shape[3]
        for i in range(count):
            n, tile = (s + i) // (grid[0] * grid[1]), (s + i) % (grid[0] * grid[1])
            if n != placed:
                place(x[begin + n], image, 0, corner[0], 1, corner[1], 1)
                placed = n
            start = image.ctypes.data + (tile // grid[1] * M * row + tile % grid[1] * M * C) * size
            for c in range(0, C, width):
                out = V.ctypes.data + (i * C + c) * size
                into(start + c * size, row, C, out, N * plane, plane, 0, 0, 0, 0, 0)
        return placed

    @inline
    def tile_back(source, plane, shift, doubt, results, n, y, x, o, across):
        """Write the tile whose first pixel is (y, x), for the outputs from o on."""
        out, indices = results
        _, height, wide, O = out.shape
        top, left, first = y // step, x // step, y * across + x
        rows, columns = min(side, height - top), min(side, wide - left)
        if rows == side and columns == side:
            at = ((n * height + top) * wide + left) * O + o
            back(source, N * plane, plane, out.ctypes.data + at * size, wide * O, O, shift, doubt,
                 indices.ctypes.data + at * indices.itemsize, first, across)  # fmt: skip
            return
        spare, where = np.empty((side, side, width), out.dtype), np.empty((side, side, width), indices.dtype)
        back(source, N * plane, plane, spare.ctypes.data, side * width, width, shift, doubt,
             where.ctypes.data, first, across)  # fmt: skip
        for a in range(rows):
            for b in range(columns):
                copy(spare[a, b], out[n, top + a, left + b, o : o + width])
                if step == 2:
                    copy(where[a, b], indices[n, top + a, left + b, o : o + width])

    @inline
    def task(t, tasks, tiles, x, U, bias, results, free, scratch, corner, grid, across, code, again):
        desk = sit_down(free)
        image, V, products, doubt = scratch[0][desk], scratch[1][desk], scratch[2][desk], scratch[3][desk]
        C, O, plane = x.shape[3], bias.size, products.shape[1]
        begin, end = t * len(x) // tasks, (t + 1) * len(x) // tasks
        table, no_offset = C * np.arange(_TILES), np.zeros(1, np.int64)
        doubt[:] = 0
        placed, total = -1, (end - begin) * grid[0] * grid[1]
        turns = (total + _TILES - 1) // _TILES
        for turn in range(turns):
            s = turn * total // turns
            count = (turn + 1) * total // turns - s
            placed = patches(s, count, begin, x, image, corner, grid, V, placed)
            for p in range(N * N):
                sums, numbers = products.ctypes.data + p * plane * size, V.ctypes.data + p * V.shape[1] * size
                filters = U.ctypes.data + p * U.shape[1] * size
                multiply(
                    tiles, sums, O, numbers, table, 1, no_offset, 1, C, filters, O, 0, count, O, 0, 0, size
                )
            for i in range(count):
                n, tile = (s + i) // (grid[0] * grid[1]), (s + i) % (grid[0] * grid[1])
                for o in range(0, O, width):
                    source, shift = products.ctypes.data + (i * O + o) * size, bias.ctypes.data + o * size
                    y, z = tile // grid[1] * M, tile % grid[1] * M
                    unsure = doubt.ctypes.data + n * width * 4
                    tile_back(source, plane, shift, unsure, results, begin + n, y, z, o, across)
        for n in range(begin, end):
            for lane in range(width):
                again[n] |= doubt[n - begin, lane] != 0
            apply(results[0][n].reshape(results[0][n].size), code)
        leave(free, desk)

    @functools.partial(jit, variant=f"{size} bytes, {width} lanes, {ending}")
    def kernel(pool, tasks, tiles, x, U, bias, results, free, scratch, corner, grid, across, code, again):
        arguments = (tasks, tiles, x, U, bias, results, free, scratch, corner, grid, across, code, again)
        parallel_for(pool, tasks, task, arguments)

    return kernel


def grid_of(size):
    """How many tiles lie below each other and side by side on `size` pixels of a result."""
    return -(-size[0] // M), -(-size[1] // M)


def suits(images, window, C, O, itemsize, size, stride, dilation, groups):
    """Whether filters of `window`, from C channels to O, on so many `images` with results of `size` pixels
    can go by tiles, and then multiply so much less that it pays."""
    width, (rows, columns) = lanes(itemsize), grid_of(size)
    return (
        (*window, *stride, *dilation, groups) == (3, 3, 1, 1, 1, 1, 1)
        and itemsize == 4
        and C % width == 0
        and O % width == 0
        and C * O <= _MOST
        and images * rows * columns >= _LEAST
        and rows * columns * N * N * _WORTH <= size[0] * size[1] * 9
    )


@functools.lru_cache(maxsize=1024)
def pays(shape, filters, itemsize, size, stride, step, dilation, groups):
    """Whether this way is open for NHWC images and (1, KH, KW, C, O) filters of these shapes, and takes less
    time than the direct one."""
    _, KH, KW, C, O = filters
    fits = suits(shape[0], (KH, KW), C, O, itemsize, size, stride, dilation, groups)
    return fits and step == (1, 1)


def run(x, filters, bias, out, indices, corner, size, code):
    """Convolve NHWC `x`, placed with its first pixel at `corner`, for `size` pixels; into NHWC `out`, or with
    `indices`, int32 or uint8, into its 2 x 2 maxima. Returns which images did not come out finite, to be done
    again.
    """
    n, C, O = len(x), x.shape[3], filters.shape[4]
    grid = grid_of(size)
    tasks = min(n, _EACH * get_num_threads())
    free = desks(tasks)
    U = aligned((N * N, C * O + _PAD), x.dtype)
    _filter_kernel(x.itemsize)(pool(), filters[0], U)
    scratch = (
        aligned((len(free), grid[0] * M + 2, grid[1] * M + 2, C), x.dtype),
        aligned((len(free), N * N, _TILES * C + _PAD), x.dtype),
        aligned((len(free), N * N, _TILES * O + _PAD), x.dtype),
        np.empty((len(free), n // tasks + 1, lanes(x.itemsize)), np.int32),
    )
    again = doubts(n)
    bias = bias_or_zeros(bias, O)
    ending, where = ("bias", _NOWHERE) if indices is None else ("pool", indices)
    if where.dtype == np.uint8:
        ending = "pool, short"
    _kernel(x.itemsize, ending)(
        pool(), tasks, panels(x.itemsize), x, U, bias, (out, where), free, scratch, corner, grid, size[1],
        code, again,
    )  # fmt: skip
    return again


def redo(again, x, results, direct):
    """Let ``direct(x, results)`` fill `results` anew for the images that :func:`run` named."""
    if again.any():
        moved_by_python()
        parts = tuple([result[again] for result in results])
        direct(x[again], parts)
        for result, part in zip(results, parts, strict=True):
            result[again] = part
