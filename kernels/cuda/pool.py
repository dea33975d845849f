"""Pooling on a GPU: ``pool.cu``."""

from __future__ import annotations

import numpy as np

from fastnn.kernels.reference._shared import pooled_shape

from ._launch import launch
from ._memory import empty_nchw, nhwc, plain


def max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode):
    N, C, H, W = x.shape
    OH = pooled_shape(H, kernel_size[0], stride[0], padding[0], dilation[0], ceil_mode)
    OW = pooled_shape(W, kernel_size[1], stride[1], padding[1], dilation[1], ceil_mode)
    memory, out = empty_nchw(N, C, OH, OW, x.dtype)
    where, indices = empty_nchw(N, C, OH, OW, np.int32)
    geometry = (*kernel_size, *stride, *padding, *dilation)
    sizes = (N, H, W, C, OH, OW)
    launch("pool", "max_pool", x.dtype, out.size, nhwc(x), memory, where, *sizes, *geometry)
    return out, indices


def max_pool2d_backward(grad, indices, input_shape):
    N, C, H, W = input_shape
    memory, out = empty_nchw(N, C, H, W, grad.dtype)
    where = plain(indices.transpose(0, 2, 3, 1)).astype(np.int32, copy=False)
    outputs = grad.shape[2] * grad.shape[3]
    launch("pool", "max_pool_backward", grad.dtype, N * C, nhwc(grad), where, memory, N, C, H * W, outputs)
    return out


def _average_sizes(shape, kernel_size, stride, padding, ceil_mode):
    N, C, H, W = shape
    OH = pooled_shape(H, kernel_size[0], stride[0], padding[0], 1, ceil_mode)
    OW = pooled_shape(W, kernel_size[1], stride[1], padding[1], 1, ceil_mode)
    return N, H, W, C, OH, OW


def avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad):
    sizes = _average_sizes(x.shape, kernel_size, stride, padding, ceil_mode)
    memory, out = empty_nchw(*x.shape[:2], *sizes[4:], x.dtype)
    geometry = (*kernel_size, *stride, *padding, int(count_include_pad))
    launch("pool", "avg_pool", x.dtype, out.size, nhwc(x), memory, *sizes, *geometry)
    return out


def avg_pool2d_backward(grad, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad):
    memory, out = empty_nchw(*input_shape, grad.dtype)
    sizes = _average_sizes(input_shape, kernel_size, stride, padding, ceil_mode)
    geometry = (*kernel_size, *stride, *padding, int(count_include_pad))
    launch("pool", "avg_pool_backward", grad.dtype, out.size, nhwc(grad), memory, *sizes, *geometry)
    return out
