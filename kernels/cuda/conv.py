"""Convolution on a GPU: ``conv.cu``, by the tiles of ``product.cuh``."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.reference._shared import output_shape

from ._launch import launch, xp
from ._memory import deliver, empty_nchw, fillable, nhwc, plain
from ._products import CODES, add_parts, divisor, pieces, plan, wide
from .precision import stem_for


def filters_of(weight: Any) -> Any:
    """OIHW filters as the (KH, KW, I, O) array that kernels read: their own memory where they lie so."""
    return plain(weight.transpose(2, 3, 1, 0))


def count_windows(
    image: tuple, kernel_size: tuple, stride: tuple, padding: tuple, dilation: tuple
) -> list[int]:
    """[OH, OW] for images of `image` pixels."""
    axes = zip(image, kernel_size, stride, padding, dilation, strict=True)
    return [output_shape(*axis) for axis in axes]


class Shapes:
    """What the kernels are told of a convolution, and the pieces of the batch that it is made in."""

    def __init__(self, x_shape: tuple, weight: Any, stride, padding, dilation, groups) -> None:
        self.N, self.C, self.H, self.W = x_shape
        self.O, self.I, self.KH, self.KW = weight.shape
        self.groups = groups
        OH, OW = count_windows((self.H, self.W), (self.KH, self.KW), stride, padding, dilation)
        self.size = OH, OW
        self.pixels = OH * OW
        self._windows = (*stride, *padding, *dilation)
        self.pieces = pieces(self.N, max(self.H * self.W, self.pixels))

    def of(self, count: int, grid: tuple[int, int], channels: int) -> tuple:
        """For `count` images, windows over such a `grid` of pixels, and so many `channels` of a group."""
        shapes = (count, self.H, self.W, self.C, *self.size, self.O, self.KH, self.KW)
        divisors = [divisor(by) for by in (*grid, channels, self.KW, *self._windows[:2])]
        return (*shapes, *self._windows, self.groups, *divisors)


def conv2d(x, weight, bias, stride, padding, dilation, groups, activation):
    s = Shapes(x.shape, weight, stride, padding, dilation, groups)
    memory, out = empty_nchw(s.N, s.O, *s.size, x.dtype)
    images, filters, bias = nhwc(x), filters_of(weight), None if bias is None else plain(bias)
    stem = stem_for("conv", x.dtype)
    for piece in s.pieces:
        part, target = images[piece], memory[piece]
        by = plan(len(part) * s.pixels, s.O // groups, s.KH * s.KW * s.I, groups, False, x.itemsize)
        sizes = (*s.of(len(part), s.size, s.I), by.chunk, 0, 1)
        launch(stem, f"forward_{by.name}", x.dtype, target.size, part, filters, target, None, *sizes, bias,
               CODES[activation], grid=(by.blocks, groups))  # fmt: skip
    return out


def conv2d_backward(grad, x, weight, stride, padding, dilation, groups, input_grad, out=None):
    s = Shapes(x.shape, weight, stride, padding, dilation, groups)
    slopes, images, filters = nhwc(grad), nhwc(x), filters_of(weight)
    grad_x = _input_gradient(s, slopes, filters) if input_grad else None
    grad_weight, grad_bias = out or (_new_filters(weight), xp().empty(s.O, x.dtype))
    hwio = grad_weight.transpose(2, 3, 1, 0)
    dense, sums = fillable(hwio), fillable(grad_bias)
    _parameter_gradients(s, slopes, images, dense, sums)
    deliver((dense, hwio), (sums, grad_bias))
    return grad_x, grad_weight, grad_bias


def _input_gradient(s: Shapes, slopes: Any, filters: Any) -> Any:
    memory, out = empty_nchw(s.N, s.C, s.H, s.W, slopes.dtype)
    stem, outputs = stem_for("conv", slopes.dtype), s.O // s.groups
    for piece in s.pieces:
        part, target = slopes[piece], memory[piece]
        terms = s.KH * s.KW * outputs
        by = plan(len(part) * s.H * s.W, s.I, terms, s.groups, False, slopes.itemsize)
        sizes = (*s.of(len(part), (s.H, s.W), outputs), by.chunk, 0, 1)
        launch(stem, f"grad_input_{by.name}", slopes.dtype, target.size, part, filters, target, None, *sizes,
               None, 0, grid=(by.blocks, s.groups))  # fmt: skip
    return out


def _parameter_gradients(s: Shapes, slopes: Any, images: Any, dense: Any, sums: Any) -> None:
    stem, dtype, rows = stem_for("conv", slopes.dtype), slopes.dtype, s.KH * s.KW * s.I
    batches = [(images[piece], slopes[piece]) for piece in s.pieces]
    plans = [
        plan(rows, s.O // s.groups, len(batch) * s.pixels, s.groups, True, dtype.itemsize)
        for batch, _ in batches
    ]
    parts, first = sum(by.parts for by in plans), 0
    result = xp().empty((parts, (rows + 1) * s.O), dtype) if parts > 1 else dense
    for (batch, slope), by in zip(batches, plans, strict=True):
        sizes = (*s.of(len(batch), s.size, s.I), by.chunk, first, parts)
        launch(stem, f"grad_weight_{by.name}", dtype, dense.size, batch, slope, result, sums, *sizes, None, 0,
               grid=(by.blocks, s.groups, by.parts))  # fmt: skip
        first += by.parts
    if parts > 1:
        add_parts(stem, result, dense, sums, None, 0)


def _new_filters(weight: Any) -> Any:
    O, I, KH, KW = weight.shape
    return xp().empty((KH, KW, I, O), weight.dtype).transpose(3, 2, 0, 1)


def im2col(x, kernel_size, stride, padding, dilation):
    N, C, H, W = x.shape
    OH, OW = count_windows((H, W), kernel_size, stride, padding, dilation)
    cols = xp().empty((N, C * kernel_size[0] * kernel_size[1], OH * OW), x.dtype)
    sizes = (N, C, H, W, OH, OW, *kernel_size, *stride, *padding, *dilation, wide(x, cols))
    launch("conv", "im2col", x.dtype, cols.size, plain(x), cols, *sizes)
    return cols


def col2im(cols, output_size, kernel_size, stride, padding, dilation):
    N, C = len(cols), cols.shape[1] // (kernel_size[0] * kernel_size[1])
    windows = count_windows(output_size, kernel_size, stride, padding, dilation)
    out = xp().empty((N, C, *output_size), cols.dtype)
    sizes = (N, C, *output_size, *windows, *kernel_size, *stride, *padding, *dilation, wide(cols, out))
    launch("conv", "col2im", cols.dtype, out.size, plain(cols), out, *sizes)
    return out
