"""Convolution and max-pooling as one operation.

Forward, a few rows of the convolution at a time go to a scratch and are pooled while the L1 cache holds them:
what is four times as large as the result never reaches memory. Few filters go by ``_narrow.py``, few channels
by ``_winograd_rows.py``, whole vectors of both by ``_winograd.py``.

Backward, the gradient of the convolution would be zeros but for one pixel a window. It is never built: what
is no zero is taken by lists (``_lists.py``) or, for filters of few taps, by masks (``_few_taps.py``); behind
windows of 2 x 2 the input's gradient is made a pooled pixel at a time (``_pixels.py``). Where over a third of
the gradient may be no zero (windows that overlap by more than half) or the channels fall into groups, the two
operations' own gradients are taken one after the other.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from fastnn.kernels.reference._shared import in_image, in_windows, pooled_shape

from . import _few_taps, _lists, _narrow, _pixels, _winograd, _winograd_rows, conv, pool
from ._conv_columns import by_output
from ._conv_rows import (
    CHUNKS,
    TASKS,
    convolve,
    filters_of,
    gradients,
    lay_out,
    output_size,
    plan,
    runs_of,
    scratches,
    tables,
)
from ._jit import inline, jit
from ._memory import aligned, empty_nchw, nhwc, plain
from .activation import SLOPES, apply, code_of
from .linear import none, none_2d
from .pool import max_rows
from .threads import parallel_for, row_blocks
from .threads import pool as threads
from .tile import lanes, panels, widest

_PIECE = 1 << 14  # bytes of the convolution that are computed, then pooled
_HALVING = ((2, 2), (2, 2), (0, 0), (1, 1))  # the usual window
_INT32, _UINT8 = np.dtype(np.int32), np.dtype(np.uint8)
_ZEROS = 3  # pixels of the convolution for each pooled one, from which on lists pay


@functools.cache
def _forward_kernel(size):
    """The kernel for floats of `size` bytes.

    `cut` is how many tasks there are, into how many blocks of pooled rows an image is cut, and how many
    pooled rows are computed at a time; `between` the (OH, OW) of the convolution.
    """
    pool_rows = max_rows(size)

    @inline
    def task(t, cut, tiles, operands, results, scratch, geometry, between, window, code):
        tasks, blocks, step = cut
        x, weight, bias = operands
        out, indices = results
        images, pieces = scratch
        OH, OW = between
        KH, sh, ph, dh = window[0], window[2], window[4], window[6]
        N, PH, PW, O = out.shape
        direct = geometry[-1]
        image, piece = images[0 if direct else t], pieces[t]
        table, offsets = tables(x, weight, images, geometry, piece.shape[0], OW)
        across = x.shape[2] if direct else images.shape[2]
        row = geometry[0] * across * x.shape[3] * size  # bytes from one row's windows to the next row's
        units = N * blocks
        for unit in range(t * units // tasks, (t + 1) * units // tasks):
            n, b = unit // blocks, unit % blocks
            first, end = b * PH // blocks, (b + 1) * PH // blocks
            top, bottom = max(first * sh - ph, 0), min((end - 1) * sh - ph + dh * (KH - 1) + 1, OH)
            start = lay_out(x, n, image, geometry, weight.shape[1], top, bottom)
            best, where = out.ctypes.data + n * PH * PW * O * size, indices.ctypes.data + n * PH * PW * O * 4
            for p in range(first, end, step):
                q = min(p + step, end)
                y, z = max(p * sh - ph, 0), min((q - 1) * sh - ph + dh * (KH - 1) + 1, OH)
                A, pixels = start + (y - top) * row, (z - y) * OW
                convolve(tiles, A, x.shape[3], weight, bias, table, offsets, geometry, pixels, 0,
                         piece.ctypes.data)  # fmt: skip
                whole = piece.ctypes.data - y * OW * O * size  # where row 0 of the convolution would be
                pool_rows(whole, (OH, OW, O), best, where, p, q, PW, window)
            apply(out[n, first:end].reshape((end - first) * PW * O), code)

    @functools.partial(jit, variant=f"{size} bytes, {lanes(size)} lanes")
    def kernel(pool, cut, tiles, operands, results, scratch, geometry, between, window, code):
        arguments = (cut, tiles, operands, results, scratch, geometry, between, window, code)
        parallel_for(pool, cut[0], task, arguments)

    return kernel


def conv2d_max_pool2d(x, weight, bias, convolution, pooling, activation, places="int32"):
    x, filters, code = nhwc(x), filters_of(weight), code_of(activation, x.itemsize)
    options = filters.shape, convolution, pooling, x.itemsize
    plan = _plan(x.shape, *options)
    short = places != "int32" and widest() and (plan.winograd or plan.by_rows)
    unwanted = places == "none" and plan.narrow
    memory, out = empty_nchw(*plan.out, x.dtype)
    shape = (0, 0, 0, 0) if unwanted else plan.out
    where, indices = empty_nchw(*shape, _UINT8 if short else _INT32)
    if out.size == 0:
        return out, indices
    bias = none(x.dtype) if bias is None else plain(bias)
    if plan.winograd or plan.by_rows:
        if plan.winograd:
            again = _winograd.run(x, filters, bias, memory, where, convolution[1], plan.between, code)
        else:
            results = (memory, where)
            again = _winograd_rows.run(x, filters, bias, results, convolution[1], plan.between[1], code)

        def direct(x, results):
            maxima, where = results
            whole = np.empty(where.shape, _INT32) if short else where
            _run_direct(x, filters, bias, (maxima, whole), _plan(x.shape, *options), code)
            if short:
                where[:] = in_windows(whole, plan.between[1])

        _winograd.redo(again, x, (memory, where), direct)
    elif plan.narrow:
        _narrow.run(x, filters, bias, (memory, where), convolution[1], plan.between[1], code)
    else:
        _run_direct(x, filters, bias, (memory, where), plan, code)
    return out, indices


class _Plan(NamedTuple):
    """How to go about NHWC images and (1, KH, KW, C, O) filters of certain shapes."""

    out: tuple[int, int, int, int]  # (N, O, PH, PW)
    winograd: bool  # which of these ways, or none
    by_rows: bool
    narrow: bool
    cut: tuple[int, int, int]  # this and the next three are as in `_forward_kernel`
    geometry: tuple
    between: tuple[int, int]
    window: tuple
    image: tuple[int, int]  # pixels of a scratch for images
    pieces: tuple[int, int, int, int]  # the scratch for results of the convolution


@functools.lru_cache(maxsize=1024)  # a network asks for the same few at every step
def _plan(shape, filters, convolution, pooling, itemsize):
    stride, padding, dilation, groups = convolution
    kernel_size, pool_stride, pool_padding, pool_dilation, _ = pooling
    N, O = shape[0], filters[4]
    between = output_size(shape[1:3], filters[1:3], stride, padding, dilation)
    axes = zip(between, *pooling[:4], strict=True)
    PH, PW = (pooled_shape(*axis, pooling[4]) for axis in axes)
    halved = pooling[:4] == _HALVING and (between[0] // 2, between[1] // 2) == (PH, PW)
    winograd = halved and _winograd.pays(shape, filters, itemsize, between, stride, (1, 1), dilation, groups)
    by_rows = halved and _winograd_rows.pays(N, filters, itemsize, (PH, PW), stride, dilation, groups)
    narrow = halved and _narrow.pays(filters, itemsize, (PH, PW), stride, dilation, groups)
    blocks = row_blocks(N, PH)
    tasks, unit = min(N * blocks, TASKS), (PH + blocks - 1) // max(blocks, 1)
    reach = pool_dilation[0] * (kernel_size[0] - 1) + 1  # rows that a row of windows reads

    def rows(count):  # of the convolution, under so many rows of windows
        return min(between[0], (count - 1) * pool_stride[0] + reach)

    step = unit  # rows that overlap would be computed once for each piece
    if reach <= pool_stride[0]:
        step = max(1, min(unit, _PIECE // max(pool_stride[0] * between[1] * O * itemsize, 1)))
    options = (stride, padding, (1, 1), dilation, groups, True, rows(unit))
    geometry, image = plan(shape[1:3], filters[1:3], between, *options)
    window = (*kernel_size, *pool_stride, *pool_padding, *pool_dilation)
    pieces = (tasks, rows(step), between[1], O)
    return _Plan(
        (N, O, PH, PW),
        winograd,
        by_rows,
        narrow,
        (tasks, blocks, step),
        geometry,
        between,
        window,
        image,
        pieces,
    )


def _run_direct(x, filters, bias, results, plan, code):
    """Fill the NHWC `results`, maxima and their places, by computing the convolution itself."""
    scratch = (scratches(plan.cut[0], plan.image, x, plan.geometry), aligned(plan.pieces, x.dtype))
    _forward_kernel(x.itemsize)(
        threads(), plan.cut, panels(x.itemsize), (x, filters, bias), results, scratch, plan.geometry,
        plan.between, plan.window, code,
    )  # fmt: skip


def _pays(x, weight, grad, between, padding, groups):
    """Whether lists are the way: most of the gradient is zero, and places fit 32 bits."""
    padded = (x.shape[2] + 2 * padding[0]) * (x.shape[3] + 2 * padding[1]) * x.shape[1]
    few = grad.shape[2] * grad.shape[3] * _ZEROS <= between[0] * between[1]
    return groups == 1 and few and grad.size > 0 and padded < 1 << 31


def _both_whole(size, between):
    """Whether no window of 2 x 2 reaches beyond the convolution."""
    return 2 * size[0] <= between[0] and 2 * size[1] <= between[1]


def _slope(grad, activated):
    """The gradient in front of the activation, where there was one."""
    return grad if activated is None else SLOPES[activated[0]](grad, activated[1])


def conv2d_max_pool2d_backward(
    grad, indices, x, weight, convolution, input_grad, out=None, pooling=None, activated=None, short=False
):
    stride, padding, dilation, groups = convolution
    between = output_size(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    halving = pooling is not None and pooling[:4] == _HALVING and _both_whole(grad.shape[2:], between)
    pays = _pays(x, weight, grad, between, padding, groups)
    if short and not (pays and halving and widest()):
        indices, short = in_image(indices, between[1]), False
    if not pays:
        slope = pool.max_pool2d_backward(_slope(grad, activated), indices, (*grad.shape[:2], *between))
        return conv.conv2d_backward(slope, x, weight, *convolution, input_grad, out)
    (O, C, KH, KW), (N, _, H, W) = weight.shape, x.shape
    (grad_weight, grad_bias), own = gradients(weight.shape, x.dtype, out)
    padded, tasks = (H + 2 * padding[0], W + 2 * padding[1]), min(N, CHUNKS)
    geometry = (*stride, *padding, 1, 1, *dilation, groups, True, padding == (0, 0))
    where = plain(indices.transpose(0, 2, 3, 1)).astype(_UINT8 if short else _INT32, copy=False)
    x, runs, flat = nhwc(x), runs_of(dilation, padded[1], C, KH, KW), own.reshape(-1, O)
    images, grad_x = scratches(tasks, padded, x, geometry), None
    few = halving and not input_grad
    if few and _few_taps.pays(weight.shape, (*stride, *dilation), runs.size, x.itemsize):
        operands = x, nhwc(_slope(grad, activated)), where
        _few_taps.run(operands, weight.shape, tasks, images, runs, between[1], geometry, flat, grad_bias)
    else:
        back, filters = "", none_2d(x.dtype)
        if input_grad and halving and stride == dilation == (1, 1) and _pixels.pays(KH, KW):
            back, filters = "pixels", _pixels.by_channels(weight)
        elif input_grad:
            back, filters = "lists", by_output(weight).reshape(O, -1)
        operands = x, nhwc(grad), where
        grad_x = _lists.run(
            operands, activated, filters, tasks, images, runs, between, geometry, back, flat, grad_bias
        )
    if not np.shares_memory(own, grad_weight):
        grad_weight[:] = own.transpose(3, 2, 0, 1)
    return grad_x, grad_weight, grad_bias
