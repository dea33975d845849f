"""Pooling on a GPU: ``pool.cu``."""

from __future__ import annotations

import numpy as np

from fastnn.kernels.reference._shared import pooled_shape

from . import _products
from ._launch import launch
from ._memory import cast, empty_nchw, nhwc, plain
from ._products import divisor, wide

_THREADS = 1 << 16  # that keep a GPU busy


def _threads(out) -> int:
    """One for each number of (N, C, H, W), or for 4 channels."""
    return out.size // 4 if out.shape[1] % 4 == 0 and out.size <= _products.MOST else out.size


def _sizes(x, out, results, kernel_size, stride, padding, *rest) -> tuple:
    """What kernels are told of windows over `x`, whose results are `out`, where each thread has one of
    `results`; `rest` is what one of them wants to know beside.
    """
    (N, C, H, W), (OH, OW), large = x.shape, out.shape[2:], wide(x, out)
    packs = C // 4 if C % 4 == 0 and not large else C
    divisors = [divisor(max(by, 1)) for by in (packs, *reversed(results.shape[2:]), *stride)]
    return N, H, W, C, OH, OW, *kernel_size, *stride, *padding, *divisors, *rest, large


def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    N, C, H, W = x.shape
    OH = pooled_shape(H, kernel_size[0], stride[0], padding[0], dilation[0], ceil_mode)
    OW = pooled_shape(W, kernel_size[1], stride[1], padding[1], dilation[1], ceil_mode)
    memory, out = empty_nchw(N, C, OH, OW, x.dtype)
    where, indices = empty_nchw(N, C, OH, OW, np.int32)
    sizes = _sizes(x, out, out, kernel_size, stride, padding, *dilation)
    launch("pool", "max_pool", x.dtype, _threads(out), nhwc(x), memory, where, *sizes)
    return out, indices


def max_pool2d_backward(grad, indices, input_shape, pooling=None):
    N, C, H, W = input_shape
    memory, out = empty_nchw(N, C, H, W, grad.dtype)
    where = cast(plain(indices.transpose(0, 2, 3, 1)), np.int32)
    arrays, (OH, OW) = (nhwc(grad), where, memory), grad.shape[2:]
    if pooling is not None:
        kernel_size, stride, padding, dilation = pooling[:4]
        sizes = _sizes(out, grad, out, kernel_size, stride, padding, *dilation)
        launch("pool", "max_pool_backward", grad.dtype, _threads(out), *arrays, *sizes)
    elif out.size:
        band = -(-H * W // max(1, min(H * W, _THREADS // (N * C))))
        bands = -(-H * W // band)
        sizes = (N, C, H * W, OH * OW, band, bands)
        launch("pool", "max_pool_backward_anywhere", grad.dtype, N * C * bands, *arrays, *sizes)
    return out


def avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad):
    N, C, H, W = x.shape
    OH = pooled_shape(H, kernel_size[0], stride[0], padding[0], 1, ceil_mode)
    OW = pooled_shape(W, kernel_size[1], stride[1], padding[1], 1, ceil_mode)
    memory, out = empty_nchw(N, C, OH, OW, x.dtype)
    sizes = _sizes(x, out, out, kernel_size, stride, padding, count_include_pad)
    launch("pool", "avg_pool", x.dtype, _threads(out), nhwc(x), memory, *sizes)
    return out


def avg_pool2d_backward(grad, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad):
    memory, out = empty_nchw(*input_shape, grad.dtype)
    sizes = _sizes(out, grad, out, kernel_size, stride, padding, count_include_pad)
    launch("pool", "avg_pool_backward", grad.dtype, _threads(out), nhwc(grad), memory, *sizes)
    return out
