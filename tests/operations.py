"""Calls of every CPU kernel on data large enough to be cut into several tasks, for tests of the threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastnn.kernels.cpu import activation, conv, conv_pool, linear, loss, norm, pool, random, update
from tests import cases


def operations() -> dict[str, Callable[[], Any]]:
    """Calls of every kernel, large enough to be cut into several tasks."""
    x, weight, bias, grad = cases.Linear("", 300, 513, 97).operands()
    image, filters, channel_bias, image_grad = cases.CONV_REAL[1].operands()
    odd = cases.Conv("", (9, 6, 23, 21), (8, 3, 3, 3), (2, 1), (1, 2), (1, 2), 2)
    odd_image, odd_filters, odd_bias, odd_grad = odd.operands()
    wide, logits = cases.draw((300, 513)), cases.draw((5000, 10))
    labels, per_channel = np.arange(5000) % 10, [np.abs(cases.draw((6,), seed)) for seed in range(4)]
    window = ((3, 2), (2, 1), (1, 1))

    def max_pool_both_ways() -> Any:
        out, indices = pool.max_pool2d(image, *window, (1, 1), True)
        return out, indices, pool.max_pool2d_backward(out, indices, image.shape)

    def conv_pool_both_ways(case: cases.ConvPool) -> Any:
        x, weight, bias, _ = case.operands()
        out, indices = conv_pool.conv2d_max_pool2d(x, weight, bias, case.convolution, case.pooling, "relu")
        run = conv_pool.conv2d_max_pool2d_backward
        return out, indices, *run(out, indices, x, weight, case.convolution, True)

    def step(name: str, states: int, *numbers: Any) -> Callable[[], Any]:
        def run() -> Any:
            lists = [[array * array for array in (x, grad, bias)] for _ in range(2 + states)]
            getattr(update, name)(update.bind(*lists), *numbers)
            return tuple(a for arrays in lists for a in arrays)

        return run

    def batch_norm() -> Any:
        scale, shift, *running = per_channel  # the running statistics are updated in place
        return norm.batch_norm(image, scale, shift, *map(np.copy, running), True, 0.1, 1e-5)

    cols = conv.im2col(odd_image, odd.kernel_size, *odd.geometry)
    plain = ((1, 1), (0, 0), (1, 1), 1)
    ungrouped = cases.Conv("", (9, 6, 23, 21), (8, 6, 3, 3), *odd.geometry)
    overlapping = cases.ConvPool("", ungrouped, (3, 3), (2, 2), (1, 1))
    one_image = cases.ConvPool("", ungrouped._replace(x=(1, 6, 61, 21)))
    calls: dict[str, Callable[[], Any]] = {
        "linear": partial(linear.linear, x, weight, bias, "sigmoid"),
        "linear_backward": partial(linear.linear_backward, grad, x, weight, True),
        "conv2d": partial(conv.conv2d, image, filters, channel_bias, *plain, "relu"),
        "conv2d_backward": partial(conv.conv2d_backward, image_grad, image, filters, *plain, True),
        "odd conv2d": partial(conv.conv2d, odd_image, odd_filters, odd_bias, *odd.geometry, 2, None),
        "odd conv2d_backward": partial(
            conv.conv2d_backward, odd_grad, odd_image, odd_filters, *odd.geometry, 2, True
        ),
        "conv2d_max_pool2d": partial(conv_pool_both_ways, cases.CONV_POOL_REAL[1]),
        "conv2d_max_pool2d overlapping": partial(conv_pool_both_ways, overlapping),
        "conv2d_max_pool2d of one image": partial(conv_pool_both_ways, one_image),
        "im2col": partial(conv.im2col, odd_image, odd.kernel_size, *odd.geometry),
        "col2im": partial(conv.col2im, cols, odd_image.shape[2:], odd.kernel_size, *odd.geometry),
        "max_pool2d": max_pool_both_ways,
        "avg_pool2d": partial(pool.avg_pool2d, image, *window, True, False),
        "avg_pool2d_backward": partial(
            pool.avg_pool2d_backward, image, (64, 6, 24, 12), (2, 1), (2, 1), (0, 0), False, True
        ),
        "softmax": partial(activation.softmax, logits, 1),
        "softmax_backward": partial(activation.softmax_backward, wide, wide, 0),
        "log_softmax": partial(activation.log_softmax, wide, -1),
        "log_softmax_backward": partial(activation.log_softmax_backward, logits, logits, 1),
        "softmax_cross_entropy": partial(loss.softmax_cross_entropy, logits, labels, 0.1),
        "softmax_cross_entropy of shares": partial(loss.softmax_cross_entropy, logits, logits, 0.1),
        "sigmoid_cross_entropy": partial(loss.sigmoid_cross_entropy, logits, logits, 0.1),
        "mse": partial(loss.mse, wide, wide * 2, 0.1),
        "batch_norm": batch_norm,
        "batch_norm_backward": partial(
            norm.batch_norm_backward, image * 2, image, *per_channel[:3], True, True
        ),
        "dropout": partial(random.dropout, wide, 0.4, 1, 2),
        "sgd": step("sgd", 1, 0.1, 0.9, 0.0, 0.1, True, False),
        "adam": step("adam", 2, 0.1, 0.9, 0.99, 1e-8, 0.1, True, 3),
        "rmsprop": step("rmsprop", 1, 0.1, 0.9, 1e-8, 0.1, 0.0),
    }
    for case in cases.LINEAR_NARROW:
        for dtype in (np.float32, np.float64):
            *operands, slope = case.operands(dtype)
            name = f"{case.name}, {np.dtype(dtype)}"
            calls[f"linear, {name}"] = partial(linear.linear, *operands, case.activation)
            calls[f"linear_backward, {name}"] = partial(linear.linear_backward, slope, *operands[:2], True)
    for name in ("relu", "sigmoid", "tanh"):
        calls[name] = partial(getattr(activation, name), wide)
        calls[f"{name}_backward"] = partial(getattr(activation, f"{name}_backward"), wide, wide)
    for name, parameter in (("leaky_relu", 0.01), ("gelu", "none")):
        calls[name] = partial(getattr(activation, name), wide, parameter)
        calls[f"{name}_backward"] = partial(getattr(activation, f"{name}_backward"), wide, wide, parameter)
    return calls


OPERATIONS = operations()


def bits(result: Any) -> list[bytes]:
    """All that a call returned, to the bit."""
    return [np.asarray(r).tobytes() for r in (result if isinstance(result, tuple) else (result,))]
