"""Valid calls of every kernel with drawn shapes, strides and dtypes; here only drawn, not yet made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastnn.backend import Backend
from tests import layouts

Drawn = tuple[Callable[..., Any], tuple[Any, ...]]  # a kernel and its operands
Calls = dict[str, Callable[["Draw"], Drawn]]


class Draw:
    """Operands at random, for the kernels of a backend. Most lie as kernels take them without a copy, since
    only those can be overrun.
    """

    def __init__(self, seed: list[int], dtype: Any, backend: Backend) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.backend = backend

    def whole(self, low: int, high: int) -> int:
        """low ... high, both included."""
        return int(self.rng.integers(low, high + 1))

    def flag(self) -> bool:
        return bool(self.rng.integers(2))

    def size(self) -> int:
        """Mostly small or about a multiple of a vector; sometimes of many tiles."""
        kind = self.whole(0, 9)
        if kind == 0:
            return self.whole(90, 300)
        return self.whole(1, 9) if kind < 5 else max(1, 8 * self.whole(1, 9) + self.whole(-1, 1))

    def array(self, *shape: int) -> np.ndarray:
        x = self.rng.uniform(0.1, 1, shape).astype(self.dtype)
        return layouts.arrange(x, layouts.LAYOUTS[max(0, self.whole(-12, len(layouts.LAYOUTS) - 1))])

    def image(self, *shape: int) -> np.ndarray:
        x = self.array(*shape)
        return layouts.arrange(x, "channels_last") if self.whole(0, 3) else x

    def anything(self) -> np.ndarray:
        shape = [self.whole(1, 9) for _ in range(self.whole(0, 2))] + [self.size()]
        return self.image(*shape, 3, self.whole(1, 9)) if self.whole(0, 3) == 0 else self.array(*shape)


def draw_linear(d: Draw) -> Drawn:
    n, k, m = d.size() * d.whole(0, 20) // 20, d.size(), d.size()
    name = [None, "relu", "sigmoid", "tanh", "gelu", "leaky_relu"][d.whole(0, 5)]
    return d.backend.linear.linear, (d.array(n, k), d.array(k, m), d.array(m) if d.flag() else None, name)


def draw_linear_backward(d: Draw) -> Drawn:
    n, k, m = d.size(), d.size() + 256 * (d.whole(0, 9) == 0), d.size()
    out = (np.empty((k, m), d.dtype), np.empty(m, d.dtype)) if d.flag() else None
    return d.backend.linear.linear_backward, (d.array(n, m), d.array(n, k), d.array(k, m), d.flag(), out)


def draw_windows(d: Draw, pooling: bool = False) -> tuple:
    """Kernel size, stride, padding, dilation, an image's size that holds a window, and how many it holds."""
    per_axis = []
    for _ in "HW":
        k, s, gap = d.whole(1, 4), d.whole(1, 3), d.whole(1, 2)
        p = d.whole(0, k // 2 if pooling else 2)
        span = gap * (k - 1) + 1
        size = max(1, span - 2 * p + d.whole(0, 8))
        per_axis.append((k, s, p, gap, size, (size + 2 * p - span) // s + 1))
    return tuple(zip(*per_axis, strict=True))


def draw_filters(d: Draw) -> tuple:
    kernel, stride, padding, gap, image, out = draw_windows(d)
    groups = (1, 1, 1, 2, 3)[d.whole(0, 4)]
    few = d.whole(0, 3) > 0
    inputs, outputs = (d.whole(1, 6) if few else d.whole(1, 40) for _ in "IO")
    n, inner = d.whole(1, 5), groups * inputs
    weight = d.array(groups * outputs, inputs, *kernel)
    if d.whole(0, 3):
        weight = np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)
    return (
        d.image(n, inner, *image),
        weight,
        d.image(n, groups * outputs, *out),
        (stride, padding, gap, groups),
    )


def draw_conv2d(d: Draw) -> Drawn:
    x, weight, _, geometry = draw_filters(d)
    bias = d.array(len(weight)) if d.flag() else None
    return d.backend.conv.conv2d, (x, weight, bias, *geometry, [None, "relu", "tanh"][d.whole(0, 2)])


def draw_conv2d_backward(d: Draw) -> Drawn:
    x, weight, grad, geometry = draw_filters(d)
    out = (np.empty_like(weight), np.empty(len(weight), d.dtype)) if d.flag() else None
    return d.backend.conv.conv2d_backward, (grad, x, weight, *geometry, d.flag(), out)


def conv_pool_both_ways(
    conv_pool, x, weight, bias, convolution, pooling, activation, input_grad, out, told, short=False
):
    operands = x, weight, bias, convolution, pooling, activation
    pooled, indices = conv_pool.conv2d_max_pool2d(*operands, "short" if short else "int32")
    options = input_grad, out, pooling if told else None, None, indices.dtype == np.uint8
    return pooled, *conv_pool.conv2d_max_pool2d_backward(pooled, indices, x, weight, convolution, *options)


def draw_conv_pool(d: Draw) -> Drawn:
    x, weight, between, geometry = draw_filters(d)
    sizes, two = between.shape[2:], d.whole(0, 2) > 0  # windows of 2 x 2 mostly
    kernel = tuple(min(2 if two else d.whole(1, 3), size) for size in sizes)
    stride = kernel if two else (d.whole(1, 4), d.whole(1, 4))
    padding = tuple(0 if two else d.whole(0, k // 2) for k in kernel)
    gap = (
        2
        if d.whole(0, 3) == 0 and all(2 * k - 1 <= size for k, size in zip(kernel, sizes, strict=True))
        else 1
    )
    name = [None, "relu", "sigmoid", "tanh", "gelu", "leaky_relu"][d.whole(0, 5)]
    bias = d.array(len(weight)) if d.flag() else None
    out = (np.empty_like(weight), np.empty(len(weight), d.dtype)) if d.flag() else None
    pooling = kernel, stride, padding, (gap, gap), d.flag()
    return partial(conv_pool_both_ways, d.backend.conv_pool), (
        x,
        weight,
        bias,
        geometry,
        pooling,
        name,
        d.flag(),
        out,
        d.flag(),
    )


def draw_narrow(d: Draw) -> Drawn:
    """A convolution with few filters under windows of 2 x 2, for which ``_narrow.py`` is."""
    filters, kernel = d.whole(1, 8), (d.whole(1, 5), d.whole(1, 5))
    padding = tuple(d.whole(0, k // 2) for k in kernel)
    size = tuple(
        2 * d.whole(1, 20) + k - 1 - 2 * p + d.whole(0, 1) for k, p in zip(kernel, padding, strict=True)
    )
    x = d.image(d.whole(1, 18), d.whole(1, 3), *(max(1, n) for n in size))
    weight = d.array(filters, x.shape[1], *kernel)
    name = [None, "relu", "tanh"][d.whole(0, 2)]
    pooling = (2, 2), (2, 2), (0, 0), (1, 1), False
    geometry = (1, 1), padding, (1, 1), 1
    return d.backend.conv_pool.conv2d_max_pool2d, (
        x,
        weight,
        d.array(filters) if d.flag() else None,
        geometry,
        pooling,
        name,
    )


def draw_im2col(d: Draw) -> Drawn:
    kernel, stride, padding, gap, image, _ = draw_windows(d)
    return d.backend.conv.im2col, (
        d.image(d.whole(1, 3), d.whole(1, 5), *image),
        kernel,
        stride,
        padding,
        gap,
    )


def draw_col2im(d: Draw) -> Drawn:
    kernel, stride, padding, gap, image, out = draw_windows(d)
    cols = d.array(d.whole(1, 3), d.whole(1, 5) * kernel[0] * kernel[1], out[0] * out[1])
    return d.backend.conv.col2im, (cols, image, kernel, stride, padding, gap)


def max_pool_both_ways(pool, x, *geometry):
    out, indices = pool.max_pool2d(x, *geometry)
    return indices, pool.max_pool2d_backward(out, indices, x.shape)


def draw_max_pool2d(d: Draw) -> Drawn:
    kernel, stride, padding, gap, image, _ = draw_windows(d, pooling=True)
    if d.flag():  # the usual windows, on images that they cover and others
        kernel, stride, padding, gap, image = (2, 2), (2, 2), (0, 0), (1, 1), (d.whole(2, 9), d.whole(2, 9))
    operands = d.image(d.whole(1, 9), d.size(), *image), kernel, stride, padding, gap, d.flag()
    return partial(max_pool_both_ways, d.backend.pool), operands


def avg_pool_both_ways(pool, x, kernel, *geometry):
    out = pool.avg_pool2d(x, kernel, *geometry)
    return out, pool.avg_pool2d_backward(out, x.shape, kernel, *geometry)


def draw_avg_pool2d(d: Draw) -> Drawn:
    kernel, stride, padding, _, image, _ = draw_windows(d, pooling=True)
    x = d.image(d.whole(1, 9), d.size(), *image)
    return partial(avg_pool_both_ways, d.backend.pool), (x, kernel, stride, padding, d.flag(), d.flag())


def elementwise(name: str, *more: Any) -> Callable[[Draw], Drawn]:
    def draw(d: Draw) -> Drawn:
        x = d.anything()
        extra = tuple(d.whole(-x.ndim, x.ndim - 1) if value == "axis" else value for value in more)
        operands = (x, x.copy(order="K" if d.flag() else "C")) if name.endswith("backward") else (x,)
        return getattr(d.backend.activation, name), (*operands, *extra)

    return draw


def draw_cross_entropy(d: Draw) -> Drawn:
    n, classes = d.size(), d.size()
    labels = d.rng.integers(0, classes, n).astype(np.int64 if d.flag() else np.int32)
    return d.backend.loss.softmax_cross_entropy, (
        d.array(n, classes),
        labels if d.flag() else d.array(n, classes),
        0.5,
    )


def elementwise_loss(name: str) -> Callable[[Draw], Drawn]:
    def draw(d: Draw) -> Drawn:
        x = d.anything()
        return getattr(d.backend.loss, name), (x, x.copy(), 0.5)

    return draw


def draw_batch_norm(d: Draw) -> Drawn:
    images = d.flag()
    x = (
        d.image(d.whole(1, 9), d.size(), d.whole(1, 5), d.whole(1, 5))
        if images
        else d.array(d.size(), d.size())
    )
    training = d.flag()
    statistics = [d.rng.uniform(0.1, 1, x.shape[1]).astype(d.dtype) for _ in range(4)]
    if d.flag():
        return d.backend.norm.batch_norm, (x, *statistics, training, 0.1, 1e-5)
    return d.backend.norm.batch_norm_backward, (x.copy(order="K"), x, *statistics[:3], training, d.flag())


def draw_dropout(d: Draw) -> Drawn:
    x = d.array(8192 * d.whole(1, 2) + d.whole(-5, 5)) if d.whole(0, 9) == 0 else d.anything()
    kernel = d.backend.random.dropout if d.flag() else d.backend.random.dropout_backward
    return kernel, (x, 0.3, d.whole(0, 2**40), d.whole(0, 2**40))


def draw_flatten(d: Draw) -> Drawn:
    return d.backend.linear.flatten, (d.anything(),)


def optimiser(name: str, states: int, *numbers: Any) -> Callable[[Draw], Drawn]:
    def step(update, *lists):
        result = getattr(update, name)(update.bind(*lists), *numbers)
        arrays = tuple(a for arrays in lists for a in arrays)
        return arrays if result is None else (result, *arrays)

    def draw(d: Draw) -> Drawn:
        shapes = [(d.size(), d.size()) if d.flag() else (d.size(),) for _ in range(d.whole(1, 4))]
        order = "CF"[d.whole(0, 1)]
        return partial(step, d.backend.update), tuple(
            [np.asarray(d.rng.uniform(0.1, 1, s), d.dtype, order=order) for s in shapes]
            for _ in range(2 + states)
        )

    return draw


KERNELS: Calls = {
    "linear": draw_linear,
    "linear_backward": draw_linear_backward,
    "flatten": draw_flatten,
    "conv2d": draw_conv2d,
    "conv2d_backward": draw_conv2d_backward,
    "conv2d_max_pool2d": draw_conv_pool,
    "conv2d_max_pool2d, few filters": draw_narrow,
    "max_pool2d": draw_max_pool2d,
    "im2col": draw_im2col,
    "col2im": draw_col2im,
    "avg_pool2d": draw_avg_pool2d,
    "softmax_cross_entropy": draw_cross_entropy,
    "sigmoid_cross_entropy": elementwise_loss("sigmoid_cross_entropy"),
    "mse": elementwise_loss("mse"),
    "batch_norm": draw_batch_norm,
    "dropout": draw_dropout,
    "sgd": optimiser("sgd", 0, 0.1, 0.0, 0.0, 0.1, False, False),
    "sgd with momentum": optimiser("sgd", 1, 0.1, 0.9, 0.1, 0.1, True, False),
    "sgd, its first step": optimiser("sgd", 1, 0.1, 0.9, 0.1, 0.1, False, True),
    "adam": optimiser("adam", 2, 0.1, 0.9, 0.99, 1e-8, 0.1, True, 3),
    "rmsprop": optimiser("rmsprop", 1, 0.1, 0.9, 1e-8, 0.1, 0.0),
    "rmsprop with momentum": optimiser("rmsprop", 2, 0.1, 0.9, 1e-8, 0.1, 0.9),
    "l2_penalty": optimiser("l2_penalty", 0, 0.01),
}
_EXTRA: dict[str, tuple[Any, ...]] = {"leaky_relu": (0.01,), "gelu": ("none",), "softmax": ("axis",)}
for _name in ("relu", "leaky_relu", "sigmoid", "tanh", "gelu", "softmax", "log_softmax"):
    for _whole_name in (_name, f"{_name}_backward"):
        KERNELS[_whole_name] = elementwise(_whole_name, *_EXTRA.get(_name.removeprefix("log_"), ()))
