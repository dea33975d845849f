"""Both gradients of a convolution and the max-pooling behind it, by lists.

Each filter gets the list of its gradients that are not zero and of the windows of the image they belong to,
and ``_windows.py`` runs along these lists. That is a quarter of the arithmetic of a convolution's gradients
for windows of 2 x 2, less where a ReLU behind the pooling has zeroed gradients too. Lists are made by vectors
where these can be compressed (``_sort.py``), number by number elsewhere.
"""

from __future__ import annotations

import functools

import numpy as np

from . import _sort
from ._conv_rows import add_parts, scratches, whole
from ._jit import call_code, inline, jit
from ._memory import aligned, copy, empty_nchw, nhwc, on_a_line, whole_vectors
from ._pixels import CASES, WORD, codes
from ._windows import passes
from .activation import slope_code_of
from .threads import parallel_for
from .threads import pool as threads
from .tile import lanes, widest

_PIXELS = 32  # whose gradients are sorted by filter at a time
_NO_OUTPUT = {np.dtype(t): np.empty((0, 0, 0, 0), t) for t in (np.float32, np.float64)}


@inline
def _lists(grad, indices, begins, places, values, counts, sums):
    """For each filter, the gradients of one image that are not zero and where their windows begin; how many
    there are, and their sum.

    A few pixels at a time, which stay in the L1 cache while one filter after the other picks its own.
    """
    pixels, O = grad.shape
    counts[:] = 0
    for first in range(0, pixels, _PIXELS):
        end = min(first + _PIXELS, pixels)
        for o in range(O):
            count = np.uint64(counts[o])
            place, value = places[o], values[o]
            total = sums[o]
            for p in range(first, end):
                slope = grad[p, o]
                place[count] = begins[np.uint32(indices[p, o])]
                value[count] = slope
                total += slope
                count += np.uint64(slope != 0)
            counts[o], sums[o] = count, total


@inline
def _sorted(way, grad, indices, begins, places, values, counts, sums):
    """The same by the code of ``_sort.py``."""
    code, multiplier, shift, step, jump = way
    pixels, O = grad.shape
    operands = grad.ctypes.data, indices.ctypes.data, pixels, O
    results = places.ctypes.data, values.ctypes.data, places.shape[1], counts.ctypes.data, sums.ctypes.data
    if indices.itemsize == 1:
        call_code(code, (*operands, begins.ctypes.data, step, jump, *results))
    else:
        call_code(code, (*operands, multiplier, shift, step, jump, *results))


@inline
def _along_lists(passes, length, filters, image, runs, places, values, counts, add):
    """Run each filter of `filters` (O, taps) along its list, with the windows of the image at address
    `image`, see ``_windows.py``.

    Every other list is taken from its end: it meets the part of the image that the list before has left in
    the L1 cache, which may not hold all of it.
    """
    size = filters.itemsize
    for o in range(filters.shape[0]):
        own, count = filters[o].ctypes.data, counts[o]
        first_entry, step = (0, 1) if o % 2 == 0 else (max(count - 1, 0), -1)
        for p in range(len(passes)):
            code, run, first, last = passes[p]
            W, begins = own + (run * length + first) * size, runs[run:].ctypes.data
            words = (W, length, image + first * size, begins, places[o, first_entry:].ctypes.data,
                     values[o, first_entry:].ctypes.data, count, step, last, add)  # fmt: skip
            call_code(code, words)


@inline
def _along_pixels(code, filters, image, grad, indices, words):
    """Fill `image` with what the filters ``[block of channels, ...]`` send back, see ``_pixels.py``."""
    cases, whole, rest, width, across, top, left, everywhere = code
    (PH, PW, O), (H, W, C), itemsize = grad.shape, image.shape, image.itemsize
    call_code(cases, (grad.ctypes.data, indices.ctypes.data, words.ctypes.data, PH, PW, O, across))
    if not everywhere:
        image[:] = 0
    for block in range(len(filters)):
        first = block * width
        address, last = (whole, width) if first + width <= C else (rest, C - first)
        own = image.ctypes.data + first * itemsize, C, H, W, top, left
        call_code(
            address, (*own, grad.ctypes.data, words.ctypes.data, filters[block].ctypes.data, PH, PW, O, last)
        )


@inline
def _backward_task(t, tasks, operands, activated, partials, grad_x, scratch, plans, geometry):
    x, grad, indices, weight = operands
    output, slope_code = activated
    sums, bias_sums = partials
    images, slopes = scratch
    runs, sorting, begins, gather, scatter, code = plans
    N, PH, PW, O = grad.shape
    _, H, W, C = x.shape
    top, left, direct = geometry[2], geometry[3], geometry[-1]
    image, slope = images[0 if direct else t], slopes[0 if direct else t]
    pixels, length = PH * PW, sums.shape[2] // runs.size
    # a vector more than can be, which `_sorted` may write; and one: lists a power of two apart would share
    # cache sets (2 to 4 % slower)
    lists = whole_vectors(O, code[3]), pixels + code[3] + 1
    places, values, counts = np.empty(lists, np.int32), np.empty(lists, x.dtype), np.empty(lists[0], np.int64)
    cases = np.empty((pixels if code[0] != 0 else 0, -(-O // WORD), len(CASES)), np.int64)
    own = on_a_line(pixels * O if slope_code != 0 else 0, x)
    bias_sums[t] = 0
    begin, end = t * N // tasks, (t + 1) * N // tasks
    for n in range(begin, end):
        slopes_of, indices_of = grad[n].reshape(pixels, O), indices[n].reshape(pixels, O)
        if slope_code != 0:
            words = grad[n].ctypes.data, output[n].ctypes.data, own.ctypes.data, own.size
            call_code(slope_code, words)
            slopes_of = own.reshape(pixels, O)
        if sorting[0] != 0:
            _sorted(sorting, slopes_of, indices_of, begins, places, values, counts, bias_sums[t])
        else:
            _lists(slopes_of, indices_of, begins, places, values, counts, bias_sums[t])
        start = whole(x, n, image, geometry)
        _along_lists(gather, length, sums[t], start, runs, places, values, counts, n > begin)
        if code[0] != 0:
            _along_pixels(code, weight, grad_x[n], slopes_of.reshape(PH, PW, O), indices[n], cases)
        elif len(scatter) > 0:
            back = grad_x[n] if direct else slope
            back[:] = 0
            _along_lists(scatter, length, weight, back.ctypes.data, runs, places, values, counts, True)
            if not direct:
                for y in range(H):
                    copy(slope[top + y, left : left + W].reshape(W * C), grad_x[n, y].reshape(W * C))


@inline
def _sum_task(block, width, sums, grad_weight):
    tasks, O, _ = sums.shape
    taps, C, _ = grad_weight.shape
    first, end = block * width, min((block + 1) * width, O)
    total = sums[0, first:end].reshape((end - first) * taps * C)
    for t in range(1, tasks):
        part = sums[t, first:end].reshape(total.size)
        for i in range(total.size):
            total[i] += part[i]
    for tap in range(taps):  # (transposed in registers these are 10 us less, and two seconds of compiling)
        for c in range(C):
            for o in range(first, end):
                grad_weight[tap, c, o] = sums[0, o, tap * C + c]


@jit
def _backward(
    pool, tasks, operands, activated, partials, grad_x, scratch, plans, geometry, grad_weight, grad_bias
):
    arguments = (tasks, operands, activated, partials, grad_x, scratch, plans, geometry)
    parallel_for(pool, tasks, _backward_task, arguments)
    sums, bias_sums = partials
    width, O = plans[-1][3], grad_weight.shape[2]
    parallel_for(pool, (O + width - 1) // width, _sum_task, (width, sums, grad_weight))
    add_parts(bias_sums, grad_bias)


@functools.lru_cache(maxsize=256)
def _plans(between, pooled, geometry, size, taps, runs, itemsize, back, short):
    """How lists are made by vectors, see `_sorted`; where the window of each pixel of the convolution begins,
    or where `short` of the first one under each pooled pixel, in a padded image of that `size`; the passes of
    both products along the lists; and the code that goes by pixels, see `_along_pixels`."""
    (sh, sw, top, left), (H, W, C) = geometry[:4], size
    across = W + 2 * left
    y, z = np.arange(between[0]) * sh * across, np.arange(between[1]) * sw
    begins, length = ((y[:, None] + z) * C).astype(np.int32), taps // runs
    sorting = (0, 0, 0, 0, 0)
    if short:
        begins = begins[: 2 * pooled[0] : 2, : 2 * pooled[1] : 2]
        sorting = (_sort.compiled(itemsize, True), 0, 0, sw * C, sh * across * C)
    elif widest():
        jump = (sh * across - sw * between[1]) * C
        sorting = (_sort.compiled(itemsize, False), *_sort.divided_by(between[1]), sw * C, jump)
    begins = np.append(begins, np.zeros(-begins.size % lanes(itemsize), np.int32))
    gather = passes(itemsize, runs, length, False)
    scatter = passes(itemsize, runs, length, True) if back == "lists" else gather[:0]
    KH, KW = runs, length // C
    code = codes(itemsize, KH, KW, C, short) if back == "pixels" else (0, 0, 0)
    everywhere = 2 * pooled[0] + KH - 1 >= H + top and 2 * pooled[1] + KW - 1 >= W + left
    return sorting, begins, gather, scatter, (*code, lanes(itemsize), between[1], top, left, everywhere)


def run(operands, activated, filters, tasks, images, runs, between, geometry, back, grad_weight, grad_bias):
    """Fill `grad_weight` (taps, O) and `grad_bias`, and return the gradient of the images or None.

    `operands` are NHWC images, gradients and their places, int32 in a convolution of `between` pixels or,
    with the widest vectors only, uint8 in a window of 2 x 2; `activated` is None or the name and the output
    of an activation behind the pooling, whose gradients they then are; `images` are the tasks' scratches,
    `runs` where each contiguous part of a window begins. `back` is how to make the images' gradient: by
    "lists", of `filters` (O, taps); by "pixels", of `filters` as ``_pixels.by_channels`` lays them out; "" is
    not at all.
    """
    x, grad, where = operands
    output, slope_code = _NO_OUTPUT[x.dtype], 0
    if activated is not None:
        output, slope_code = nhwc(activated[1]), slope_code_of(activated[0], x.itemsize)
    (taps, O), (N, H, W, C) = grad_weight.shape, x.shape
    top, left = geometry[2:4]
    memory, grad_x = empty_nchw(N if back else 0, C, H, W, x.dtype)
    slopes = scratches(tasks, (H + 2 * top, W + 2 * left), x, geometry) if back == "lists" else images
    partials = (aligned((tasks, O, taps), x.dtype), np.empty((tasks, O), x.dtype))
    short = where.dtype == np.uint8
    ways = _plans(between, grad.shape[1:3], geometry, x.shape[1:], taps, len(runs), x.itemsize, back, short)
    _backward(
        threads(), tasks, (x, grad, where, filters), (output, slope_code), partials, memory,
        (images, slopes), (runs, *ways), geometry, grad_weight.reshape(taps // C, C, O), grad_bias,
    )  # fmt: skip
    return grad_x if back else None
