"""Convolution on a GPU: ``conv.cu``, by the tiles of ``product.cuh``."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.reference._shared import output_shape

from ._launch import launch, xp
from ._memory import deliver, empty_nchw, fillable, nhwc, plain
from .linear import CODES, TILE, column_sums, finish_parts, parts_for


def _filters(weight: Any) -> Any:
    """OIHW filters as the (KH, KW, I, O) array that kernels read: their own memory where they lie so."""
    return plain(weight.transpose(2, 3, 1, 0))


def count_windows(
    image: tuple, kernel_size: tuple, stride: tuple, padding: tuple, dilation: tuple
) -> list[int]:
    """[OH, OW] for images of `image` pixels."""
    axes = zip(image, kernel_size, stride, padding, dilation, strict=True)
    return [output_shape(*axis) for axis in axes]


def _shapes(x_shape: tuple, weight: Any, out_shape: tuple, stride, padding, dilation, groups) -> tuple:
    """What every kernel of ``conv.cu`` is told, from logical shapes."""
    N, C, H, W = x_shape
    O, _, KH, KW = weight.shape
    return (N, H, W, C, *out_shape[2:], O, KH, KW, *stride, *padding, *dilation, groups)


def conv2d(x, weight, bias, stride, padding, dilation, groups, activation):
    N, O = len(x), len(weight)
    size = count_windows(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    memory, out = empty_nchw(N, O, *size, x.dtype)
    shapes = _shapes(x.shape, weight, out.shape, stride, padding, dilation, groups)
    filters = _filters(weight)
    given = memory if bias is None else plain(bias)
    grid = (-(-out.size // O // TILE), -(-(O // groups) // TILE), groups)
    ending = given, bias is not None, CODES[activation]
    launch("conv", "forward", x.dtype, out.size, nhwc(x), filters, memory, *shapes, *ending, grid=grid)
    return out


def conv2d_backward(grad, x, weight, stride, padding, dilation, groups, input_grad, out=None):
    grad_memory, x_memory, filters = nhwc(grad), nhwc(x), _filters(weight)
    (O, I, KH, KW), (N, C, H, W) = weight.shape, x.shape
    shapes = _shapes(x.shape, weight, grad.shape, stride, padding, dilation, groups)
    grad_x = None
    if input_grad:
        memory, grad_x = empty_nchw(N, C, H, W, x.dtype)
        grid = (-(-N * H * W // TILE), -(-(C // groups) // TILE), groups)
        launch("conv", "grad_input", x.dtype, memory.size, grad_memory, filters, memory, *shapes, grid=grid)
    grad_weight, grad_bias = out or (_new_filters(weight), xp().empty(O, x.dtype))
    hwio = grad_weight.transpose(2, 3, 1, 0)
    dense, sums = fillable(hwio), fillable(grad_bias)
    if grad.size == 0:
        dense[...] = 0
        sums[...] = 0
    else:
        pixels = grad.size // O
        parts = parts_for(KH * KW * I, O // groups, pixels)
        target = xp().empty((parts, KH, KW, I, O), x.dtype) if parts > 1 else dense
        grid = (-(-KH * KW * I // TILE), -(-(O // groups) // TILE), groups * parts)
        arrays = x_memory, grad_memory, target
        launch("conv", "grad_weight", x.dtype, dense.size, *arrays, *shapes, parts, grid=grid)
        if parts > 1:
            finish_parts("conv", target, dense, None, 0)
        column_sums("conv", grad_memory.reshape(pixels, O), sums)
    deliver((dense, hwio), (sums, grad_bias))
    return grad_x, grad_weight, grad_bias


def _new_filters(weight: Any) -> Any:
    O, I, KH, KW = weight.shape
    return xp().empty((KH, KW, I, O), weight.dtype).transpose(3, 2, 0, 1)


def im2col(x, kernel_size, stride, padding, dilation):
    N, C, H, W = x.shape
    OH, OW = count_windows((H, W), kernel_size, stride, padding, dilation)
    cols = xp().empty((N, C * kernel_size[0] * kernel_size[1], OH * OW), x.dtype)
    sizes = (N, C, H, W, OH, OW, *kernel_size, *stride, *padding, *dilation)
    launch("conv", "im2col", x.dtype, cols.size, plain(x), cols, *sizes)
    return cols


def col2im(cols, output_size, kernel_size, stride, padding, dilation):
    N, C = len(cols), cols.shape[1] // (kernel_size[0] * kernel_size[1])
    windows = count_windows(output_size, kernel_size, stride, padding, dilation)
    out = xp().empty((N, C, *output_size), cols.dtype)
    sizes = (N, C, *output_size, *windows, *kernel_size)
    launch("conv", "col2im", cols.dtype, out.size, plain(cols), out, *sizes, *stride, *padding, *dilation)
    return out
