"""Operators on images: convolution, pooling, batch normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import fastnn.functional as F
from fastnn.backend import get_backend
from fastnn.onnx_backend.node import Array, Node, operator
from fastnn.onnx_backend.window import Placed, Window, framed, on_images, windows


@operator("Conv", 1, 11, 22)
def conv(node: Node) -> Callable[..., Any]:
    window, groups = Window(node), node.attribute("group", 1)

    def compute(x: Array, weight: Array, bias: Array | None = None) -> Array:
        weight = weight[:, :, None] if weight.ndim == 3 else weight
        placed = window.over(x.shape[2:], weight.shape[2:])
        padding = placed.before
        if placed.before != placed.after:
            x, padding = framed(x, 0, placed, windows(x.shape[2:], placed, False)), (0, 0)
        return F.conv2d(
            x, weight, bias, stride=placed.stride, padding=padding, dilation=placed.dilation, groups=groups
        )

    return on_images(node, compute)


@operator("MaxPool", 1, 8, 10, 11, 12, 22)
def max_pool(node: Node) -> Callable[..., Any]:
    window, ceil_mode = Window(node), bool(node.attribute("ceil_mode", 0))
    by_columns = bool(node.attribute("storage_order", 0))

    def compute(x: Array) -> Any:
        placed = _placed(window, x)
        options: dict[str, Any] = {"stride": placed.stride, "dilation": placed.dilation}
        if _is_even(placed):
            options.update(padding=placed.before, ceil_mode=ceil_mode)
        elif node.wants(1):
            raise window.refused("Indices need padding that is even and at most half the window")
        else:
            x = framed(x, -math.inf, placed, windows(x.shape[2:], placed, ceil_mode))
        if not node.wants(1):
            return F.max_pool2d(x, placed.kernel, **options)
        out, indices = F.max_pool2d(x, placed.kernel, return_indices=True, **options)
        return out, _in_tensor(indices, x.shape, by_columns)

    return on_images(node, compute)


@operator("AveragePool", 1, 7, 10, 11, 19, 22)
def average_pool(node: Node) -> Callable[..., Any]:
    window, ceil_mode = Window(node), bool(node.attribute("ceil_mode", 0))
    include = bool(node.attribute("count_include_pad", 0))
    if window.dilations is not None and max(window.dilations) > 1:
        raise node.unsupported("dilations", window.dilations, "fastnn's average pooling has none")

    def compute(x: Array) -> Array:
        placed = _placed(window, x)
        kernel, stride, before, after, _ = placed
        if _is_even(placed):
            return F.avg_pool2d(
                x, kernel, stride=stride, padding=before, ceil_mode=ceil_mode, count_include_pad=include
            )
        # The mean of what counts is the mean of all that is in the window over the share of it that counts.
        counts, xp = windows(x.shape[2:], placed, ceil_mode), get_backend().xp
        means = F.avg_pool2d(framed(x, 0, placed, counts), kernel, stride=stride)
        if include:
            size = [sum(lengths) for lengths in zip(x.shape[2:], before, after, strict=True)]
            counting = framed(xp.ones((1, 1, *size), x.dtype), 0, placed._replace(before=(0, 0)), counts)
        else:
            counting = framed(xp.ones((1, 1, *x.shape[2:]), x.dtype), 0, placed, counts)
        return means / F.avg_pool2d(counting, kernel, stride=stride)

    return on_images(node, compute)


def _placed(window: Window, x: Array) -> Placed:
    """A pooling's window over `x`; refused where it may see nothing but padding: of that there is no mean."""
    placed = window.over(x.shape[2:])
    for kernel, _, before, after, dilation in zip(*placed, strict=True):
        if max(before, after) > (kernel - 1) * dilation:
            raise window.refused("a window could lie in the padding as a whole")
    return placed


def _is_even(placed: Placed) -> bool:
    """Whether the padding is what fastnn.functional pools with: even, and at most half the window."""
    halves = (kernel // 2 for kernel in placed.kernel)
    return placed.before == placed.after and all(p <= h for p, h in zip(placed.before, halves, strict=True))


def _in_tensor(indices: Array, shape: tuple[int, ...], by_columns: bool) -> Array:
    """Places in each image as places in the whole tensor, as ONNX counts them."""
    n, c, height, width = shape
    indices = indices.astype("int64")
    if by_columns:
        indices = indices % width * height + indices // width
    planes = get_backend().xp.arange(n * c, dtype="int64").reshape(n, c, 1, 1)
    return planes * (height * width) + indices


def _whole(pool: Callable[..., Any]) -> Callable[[Node], Callable[..., Any]]:
    """A pooling whose one window is the image, of however many axes."""

    def build(node: Node) -> Callable[..., Any]:
        def compute(x: Array) -> Array:
            images = _as_images(x)
            return pool(images, images.shape[2:]).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))

        return compute

    return build


operator("GlobalAveragePool", 1, 22)(_whole(F.avg_pool2d))
operator("GlobalMaxPool", 1, 22)(_whole(F.max_pool2d))


def _as_images(x: Array) -> Array:
    """`x`, (N, C, ...), as (N, C, H, W), for operators that do not care where a pixel lies."""
    return x if x.ndim in (2, 4) else x.reshape(*x.shape[:2], 1, math.prod(x.shape[2:]))


@operator("BatchNormalization", 6, 7, 9, 14, 15)
def batch_normalization(node: Node) -> Callable[..., Any]:
    eps, momentum = node.attribute("epsilon", 1e-5), node.attribute("momentum", 0.9)
    training = bool(node.attribute("training_mode", 0))
    if not node.attribute("is_test", node.version > 6):
        raise node.unsupported("is_test", 0, "in training opset 6 wants other statistics than fastnn has")
    if not node.attribute("spatial", 1):
        raise node.unsupported("spatial", 0, "statistics are those of channels")
    if not training and any(map(node.wants, range(1, 5))):
        raise node.unsupported("training_mode", 0, "only training in opset 14 or later gives statistics")

    def compute(x: Array, weight: Array, bias: Array, mean: Array, var: Array) -> Any:
        images = _as_images(x)
        if not training:
            return F.batch_norm(images, weight, bias, mean, var, eps=eps)[0].reshape(x.shape)
        # With momentum 1 the running statistics become those of the batch. ONNX's variance is of the batch
        # itself, fastnn's is the estimate that has one value less in the divisor.
        xp = get_backend().xp
        batch_mean, batch_var = xp.zeros_like(mean), xp.zeros_like(var)
        out, *_ = F.batch_norm(
            images, weight, bias, batch_mean, batch_var, training=True, momentum=1.0, eps=eps
        )
        values = x.size // x.shape[1]
        batch_var *= (values - 1) / values
        mean, var = (
            old * momentum + new * (1 - momentum) for old, new in ((mean, batch_mean), (var, batch_var))
        )
        return out.reshape(x.shape), mean, var

    return compute
