"""Convolution and its gradients on the register tile of ``tile.py``, over channels-last memory and without
an im2col buffer (``_conv_rows.py`` says how). Images of few channels go by ``_few_channels.py``, the gradient
of their filters by ``_few_taps.py``, their own by ``_few_outputs.py``; those of many by ``_winograd.py``.

The gradient of the input is a convolution of the output's gradient with the filters flipped; a stride becomes
zeros between its pixels, which placing an image in its scratch inserts.

The gradient of the weight sums over images. The batch is cut into `CHUNKS` parts at most, each summed by
one task into a partial result of its own, and the parts are added in order: the cut depends on the shape
alone, so the sum does too.
"""

from __future__ import annotations

import numpy as np

from . import _conv_columns, _few_channels, _few_outputs, _few_taps, _winograd, _winograd_weight
from ._columns import col2im, im2col
from ._conv_rows import (
    CHUNKS,
    TASKS,
    add_parts,
    convolve,
    filters_of,
    gradients,
    lay_out,
    output_size,
    plan,
    runs_of,
    scratches,
    tables,
    whole,
)
from ._jit import inline, jit
from ._math import like
from ._memory import aligned, empty, empty_nchw, hwio, nhwc, plain
from ._rows import add_columns
from ._vectors import LINE
from .activation import RELU, code_of, finish
from .linear import none
from .threads import parallel_for, pool, row_blocks
from .tile import NOTHING, multiply, panels

__all__ = ["col2im", "conv2d", "conv2d_backward", "im2col"]


@inline
def _forward_task(t, tasks, blocks, tiles, x, weight, bias, out, scratches, geometry, code):
    N, OH, OW, O = out.shape
    direct = geometry[-1]
    scratch = scratches[0 if direct else t]
    table, offsets = tables(x, weight, scratches, geometry, (OH + blocks - 1) // blocks, OW)
    units = N * blocks
    for unit in range(t * units // tasks, (t + 1) * units // tasks):
        n, b = unit // blocks, unit % blocks
        first, end = b * OH // blocks, (b + 1) * OH // blocks
        start = lay_out(x, n, scratch, geometry, weight.shape[1], first, end)
        at, pixels = out.ctypes.data + (n * OH + first) * OW * O * out.itemsize, (end - first) * OW
        convolve(tiles, start, x.shape[3], weight, bias, table, offsets, geometry, pixels, code == RELU, at)
        finish(out[n, first:end].reshape(pixels * O), code)


@jit
def _forward(pool, tasks, blocks, tiles, x, weight, bias, out, scratches, geometry, code):
    arguments = (tasks, blocks, tiles, x, weight, bias, out, scratches, geometry, code)
    parallel_for(pool, tasks, _forward_task, arguments)


@inline
def _weight_task(t, tasks, tiles, x, grad, partial, partial_bias, scratches, geometry):
    N, OH, OW, O = grad.shape
    W, C = x.shape[2:]
    sh, sw, _, _, _, _, dh, dw, groups, _, direct = geometry
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
    real = like(x[0, 0, 0, 0], 0)
    for n in range(begin, end):
        start = whole(x, n, scratch, geometry)
        add_columns(real, grad[n].ctypes.data, O, OH * OW, O, sums.ctypes.data)
        image = OH * OW * O * size
        coming = grad.ctypes.data + (n + 1) * image
        needed = (coming, OW * LINE, coming + image) if n + 1 < end else NOTHING
        for g in range(groups):
            A, B = start + g * Cg * size, grad.ctypes.data + (n * OH * OW * O + g * Og) * size
            sum_at = partial.ctypes.data + (t * KH * KW * Cg * O + g * Og) * size
            multiply(tiles, sum_at, O, A, table, sw * C, offsets, OH, OW, B, O, 0, table.size, Og,
                     1 if n > begin else 0, 0, size, needed if g == 0 else NOTHING)  # fmt: skip


@jit
def _weight_gradient(
    pool, tasks, tiles, x, grad, partial, partial_bias, grad_weight, grad_bias, scratches, geometry
):
    arguments = (tasks, tiles, x, grad, partial, partial_bias, scratches, geometry)
    parallel_for(pool, tasks, _weight_task, arguments)
    add_parts(partial.reshape(tasks, grad_weight.size), grad_weight.reshape(grad_weight.size))
    add_parts(partial_bias, grad_bias)


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


def _flipped(weight: np.ndarray, groups: int) -> np.ndarray:
    """The filters of the gradient's convolution: (groups, KH, KW, O of a group, I), turned by 180 degrees."""
    O, I, KH, KW = weight.shape
    out = empty((groups, KH, KW, O // groups, I), weight.dtype)
    _flip(pool(), hwio(weight), out)
    return out


def _run_forward(x, filters, bias, out, stride, corner, step, dilation, groups, shared, code):
    """Convolve NHWC `x`, placed with its first pixel at `corner` and its pixels `step` apart, into NHWC
    `out`."""
    OH, OW = out.shape[1:3]
    if out.size == 0:
        return
    rest = (stride, corner, step, dilation, groups, shared, code)
    if _winograd.pays(x.shape, filters.shape, x.itemsize, (OH, OW), stride, step, dilation, groups):
        again = _winograd.run(x, filters, bias, out, None, corner, (OH, OW), code)
        _winograd.redo(again, x, (out,), lambda x, part: _run_direct(x, filters, bias, *part, *rest))
    else:
        _run_direct(x, filters, bias, out, *rest)


def _run_direct(x, filters, bias, out, stride, corner, step, dilation, groups, shared, code):
    N, OH, OW, _ = out.shape
    blocks = row_blocks(N, OH)
    tasks = min(N * blocks, TASKS)
    rows = (OH + blocks - 1) // blocks
    geometry, size = plan(
        x.shape[1:3], filters.shape[1:3], (OH, OW), stride, corner, step, dilation, groups, shared, rows
    )
    operands = x, filters, bias, out, scratches(tasks, size, x, geometry), geometry, code
    if _few_channels.pays(filters.shape, OW, dilation, groups):
        _few_channels.run(tasks, blocks, *operands)
    else:
        _forward(pool(), tasks, blocks, panels(x.itemsize), *operands)


def conv2d(x, weight, bias, stride, padding, dilation, groups, activation):
    size = output_size(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    memory, out = empty_nchw(len(x), len(weight), *size, x.dtype)
    bias = none(x.dtype) if bias is None else plain(bias)
    filters, code = filters_of(weight), code_of(activation, x.itemsize)
    _run_forward(nhwc(x), filters, bias, memory, stride, padding, (1, 1), dilation, groups, True, code)
    return out


def conv2d_backward(grad, x, weight, stride, padding, dilation, groups, input_grad, out=None):
    grad, x_memory = nhwc(grad), nhwc(x)
    grad_x = None
    if input_grad:
        N, C, H, W = x.shape
        KH, KW = weight.shape[2:]
        memory, grad_x = empty_nchw(N, C, H, W, x.dtype)
        if _few_outputs.pays(weight.shape, W, stride, padding, dilation, groups, x.itemsize):
            _few_outputs.grad_input(grad, weight, memory, padding)
        elif _conv_columns.pays(
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
    N, I = len(x), shape[1]
    out, own = gradients(shape, x.dtype, out)
    grad_weight, grad_bias = out
    if N == 0:
        grad_weight[:] = 0
        grad_bias[:] = 0
        return out
    pays = _winograd_weight.pays((N, I), shape, grad.shape[1:3], stride, dilation, groups, x.itemsize)
    if not (pays and _winograd_weight.run(x, grad, padding, own, grad_bias)):
        _weight_directly(grad, x, own, grad_bias, stride, padding, dilation, groups)
    if not np.shares_memory(own, grad_weight):
        grad_weight[:] = own.transpose(3, 2, 0, 1)
    return out


def _weight_directly(grad, x, own, grad_bias, stride, padding, dilation, groups):
    N, H, W, _ = x.shape
    tasks = min(N, CHUNKS)
    geometry = (*stride, *padding, 1, 1, *dilation, groups, False, padding == (0, 0))
    padded = (H + 2 * padding[0], W + 2 * padding[1])
    scratch = scratches(tasks, padded, x, geometry)
    KH, KW, C, O = own.shape
    runs = runs_of(dilation, padded[1], C, KH, KW)
    if groups == 1 and _few_taps.pays_everywhere((O, C, KH, KW), runs.size, x.itemsize):
        operands, flat = (x, grad, None), own.reshape(-1, O)
        _few_taps.run(operands, (O, C, KH, KW), tasks, scratch, runs, 0, geometry, flat, grad_bias)
        return
    partial = aligned((tasks, *own.shape), x.dtype)
    partial_bias = np.empty((tasks, grad.shape[3]), x.dtype)
    tiles = panels(x.itemsize)
    _weight_gradient(pool(), tasks, tiles, x, grad, partial, partial_bias, own, grad_bias, scratch, geometry)
