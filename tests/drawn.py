"""Valid calls of every CPU kernel with drawn shapes, strides and dtypes; here only drawn, not yet made."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.kernels.cpu import activation, conv, conv_pool, linear, loss, norm, pool, random, update
from fastnn.kernels.cpu._jit import jit
from fastnn.kernels.cpu._turn import turn_all
from fastnn.kernels.cpu._windows import passes
from fastnn.kernels.cpu.tile import panels
from tests import parity

Drawn = tuple[Callable[..., Any], tuple[Any, ...]]  # a kernel and its operands
Calls = dict[str, Callable[["Draw"], Drawn]]


class Draw:
    """Operands at random. Most lie as kernels take them without a copy, since only those can be overrun."""

    def __init__(self, seed: list[int], dtype: Any) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype

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
        return parity.arrange(x, parity.LAYOUTS[max(0, self.whole(-12, len(parity.LAYOUTS) - 1))])

    def image(self, *shape: int) -> np.ndarray:
        x = self.array(*shape)
        return parity.arrange(x, "channels_last") if self.whole(0, 3) else x

    def anything(self) -> np.ndarray:
        shape = [self.whole(1, 9) for _ in range(self.whole(0, 2))] + [self.size()]
        return self.image(*shape, 3, self.whole(1, 9)) if self.whole(0, 3) == 0 else self.array(*shape)


def run_panel(at, nv, last, a, transposed, b, bias, c, table, offsets, add, relu):
    rows, terms = c.shape[0], b.shape[0] // max(len(offsets), 1)
    bias_at = bias.ctypes.data if bias is not None else 0
    a_k = rows if transposed else 1
    panel = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 15)(int(panels(c.itemsize)[at + nv]))
    panel(c.ctypes.data, c.shape[1], a.ctypes.data, table.ctypes.data, a_k, offsets.ctypes.data, len(offsets),
          terms, b.ctypes.data, b.shape[1], bias_at, rows, last, add, relu)  # fmt: skip
    return c


def draw_panel(d: Draw) -> Drawn:
    lanes, widest = (int(n) for n in panels(d.dtype().itemsize)[:2])
    nv, last, M, S, K = d.whole(1, widest), d.whole(1, lanes), d.whole(1, 40), d.whole(1, 3), d.whole(1, 7)
    both = len(panels(d.dtype().itemsize)) > 2 + widest
    at = 1 + (widest if both and last < lanes else 0)
    N, transposed = (nv - 1) * lanes + last, d.flag()
    a, b, bias, c = (np.ones(n, d.dtype) for n in (M * S * K, (S * K, N), N, (M, N)))
    table = np.arange(M) * (1 if transposed else S * K)
    offsets = np.arange(S) * (M * K if transposed else K)
    return run_panel, (
        at,
        nv,
        last,
        a,
        transposed,
        b,
        bias if d.flag() else None,
        c,
        table,
        offsets,
        d.flag(),
        d.flag(),
    )


def run_window(w, image, begins, places, values, count, add, scatter):
    """All passes over the window `w` (runs, length) and `image`, from its first element on."""
    window = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 9)
    size, (runs, length) = w.itemsize, w.shape
    for code, run, first, last in passes(size, runs, length, scatter).tolist():
        window(code)(
            w.ctypes.data + (run * length + first) * size, length, image.ctypes.data + first * size,
            begins[run:].ctypes.data, places.ctypes.data, values.ctypes.data, count, last, add,
        )  # fmt: skip
    return image if scatter else w


def draw_window(d: Draw) -> Drawn:
    runs, length, count, scatter = d.whole(1, 5), d.whole(1, 70), d.whole(0, 9), d.flag()
    begins = (length + d.whole(0, 3)) * np.arange(runs)
    places = d.rng.integers(0, 10, count).astype(np.int32)
    if count:
        places -= places.min()
    last = int(places.max(initial=0))
    add = scatter or d.flag()
    w = (np.ones if add else np.empty)((runs, length), d.dtype)
    image, values = np.ones(last + int(begins[-1]) + length, d.dtype), np.ones(count, d.dtype)
    return run_window, (w, image, begins, places, values, count, add, scatter)


@jit
def run_turn(x, out):
    turn_all(x, out, x.dtype.type(0))
    return out


def draw_turn(d: Draw) -> Drawn:
    rows, columns = d.size(), d.size()
    return run_turn, (
        d.rng.uniform(0.1, 1, (rows, columns)).astype(d.dtype),
        np.empty((columns, rows), d.dtype),
    )


def draw_linear(d: Draw) -> Drawn:
    n, k, m = d.size() * d.whole(0, 20) // 20, d.size(), d.size()
    name = [None, "relu", "sigmoid", "tanh", "gelu", "leaky_relu"][d.whole(0, 5)]
    return linear.linear, (d.array(n, k), d.array(k, m), d.array(m) if d.flag() else None, name)


def draw_linear_backward(d: Draw) -> Drawn:
    n, k, m = d.size(), d.size() + 256 * (d.whole(0, 9) == 0), d.size()
    out = (np.empty((k, m), d.dtype), np.empty(m, d.dtype)) if d.flag() else None
    return linear.linear_backward, (d.array(n, m), d.array(n, k), d.array(k, m), d.flag(), out)


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
    return conv.conv2d, (x, weight, bias, *geometry, [None, "relu", "tanh"][d.whole(0, 2)])


def draw_conv2d_backward(d: Draw) -> Drawn:
    x, weight, grad, geometry = draw_filters(d)
    out = (np.empty_like(weight), np.empty(len(weight), d.dtype)) if d.flag() else None
    return conv.conv2d_backward, (grad, x, weight, *geometry, d.flag(), out)


def conv_pool_both_ways(x, weight, bias, convolution, pooling, activation, input_grad, out):
    pooled, indices = conv_pool.conv2d_max_pool2d(x, weight, bias, convolution, pooling, activation)
    run = conv_pool.conv2d_max_pool2d_backward
    return pooled, *run(pooled, indices, x, weight, convolution, input_grad, out)


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
    return conv_pool_both_ways, (x, weight, bias, geometry, pooling, name, d.flag(), out)


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
    return conv_pool.conv2d_max_pool2d, (
        x,
        weight,
        d.array(filters) if d.flag() else None,
        geometry,
        pooling,
        name,
    )


def draw_im2col(d: Draw) -> Drawn:
    kernel, stride, padding, gap, image, _ = draw_windows(d)
    return conv.im2col, (d.image(d.whole(1, 3), d.whole(1, 5), *image), kernel, stride, padding, gap)


def draw_col2im(d: Draw) -> Drawn:
    kernel, stride, padding, gap, image, out = draw_windows(d)
    cols = d.array(d.whole(1, 3), d.whole(1, 5) * kernel[0] * kernel[1], out[0] * out[1])
    return conv.col2im, (cols, image, kernel, stride, padding, gap)


def max_pool_both_ways(x, *geometry):
    out, indices = pool.max_pool2d(x, *geometry)
    return indices, pool.max_pool2d_backward(out, indices, x.shape)


def draw_max_pool2d(d: Draw) -> Drawn:
    kernel, stride, padding, gap, image, _ = draw_windows(d, pooling=True)
    return max_pool_both_ways, (
        d.image(d.whole(1, 9), d.size(), *image),
        kernel,
        stride,
        padding,
        gap,
        d.flag(),
    )


def avg_pool_both_ways(x, kernel, *geometry):
    out = pool.avg_pool2d(x, kernel, *geometry)
    return out, pool.avg_pool2d_backward(out, x.shape, kernel, *geometry)


def draw_avg_pool2d(d: Draw) -> Drawn:
    kernel, stride, padding, _, image, _ = draw_windows(d, pooling=True)
    x = d.image(d.whole(1, 9), d.size(), *image)
    return avg_pool_both_ways, (x, kernel, stride, padding, d.flag(), d.flag())


def elementwise(name: str, *more: Any) -> Callable[[Draw], Drawn]:
    def draw(d: Draw) -> Drawn:
        x = d.anything()
        extra = tuple(d.whole(-x.ndim, x.ndim - 1) if value == "axis" else value for value in more)
        operands = (x, x.copy(order="K" if d.flag() else "C")) if name.endswith("backward") else (x,)
        return getattr(activation, name), (*operands, *extra)

    return draw


def draw_cross_entropy(d: Draw) -> Drawn:
    n, classes = d.size(), d.size()
    labels = d.rng.integers(0, classes, n).astype(np.int64 if d.flag() else np.int32)
    return loss.softmax_cross_entropy, (d.array(n, classes), labels if d.flag() else d.array(n, classes), 0.5)


def elementwise_loss(name: str) -> Callable[[Draw], Drawn]:
    def draw(d: Draw) -> Drawn:
        x = d.anything()
        return getattr(loss, name), (x, x.copy(), 0.5)

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
        return norm.batch_norm, (x, *statistics, training, 0.1, 1e-5)
    return norm.batch_norm_backward, (x.copy(order="K"), x, *statistics[:3], training, d.flag())


def draw_dropout(d: Draw) -> Drawn:
    x = d.array(8192 * d.whole(1, 2) + d.whole(-5, 5)) if d.whole(0, 9) == 0 else d.anything()
    return random.dropout, (x, 0.3, d.whole(0, 2**40), d.whole(0, 2**40))


def optimiser(name: str, states: int, *numbers: Any) -> Callable[[Draw], Drawn]:
    def step(*lists):
        getattr(update, name)(update.bind(*lists), *numbers)
        return tuple(a for arrays in lists for a in arrays)

    def draw(d: Draw) -> Drawn:
        shapes = [(d.size(), d.size()) if d.flag() else (d.size(),) for _ in range(d.whole(1, 4))]
        order = "CF"[d.whole(0, 1)]
        return step, tuple(
            [np.asarray(d.rng.uniform(0.1, 1, s), d.dtype, order=order) for s in shapes]
            for _ in range(2 + states)
        )

    return draw


# masked by hand, lane for lane
VECTORS: Calls = {
    "panel": draw_panel,
    "window": draw_window,
    "turn": draw_turn,
    "max_pool2d": draw_max_pool2d,
}
OTHERS: Calls = {
    "linear": draw_linear,
    "linear_backward": draw_linear_backward,
    "conv2d": draw_conv2d,
    "conv2d_backward": draw_conv2d_backward,
    "conv2d_max_pool2d": draw_conv_pool,
    "conv2d_max_pool2d, few filters": draw_narrow,
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
    "adam": optimiser("adam", 2, 0.1, 0.9, 0.99, 1e-8, 0.1, True, 3),
    "rmsprop": optimiser("rmsprop", 1, 0.1, 0.9, 1e-8, 0.1, 0.0),
    "rmsprop with momentum": optimiser("rmsprop", 2, 0.1, 0.9, 1e-8, 0.1, 0.9),
}
_EXTRA: dict[str, tuple[Any, ...]] = {"leaky_relu": (0.01,), "gelu": ("none",), "softmax": ("axis",)}
for _name in ("relu", "leaky_relu", "sigmoid", "tanh", "gelu", "softmax", "log_softmax"):
    for _whole_name in (_name, f"{_name}_backward"):
        OTHERS[_whole_name] = elementwise(_whole_name, *_EXTRA.get(_name.removeprefix("log_"), ()))
