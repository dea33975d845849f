"""One valid call of every function of fastnn.functional, for tests of what all of them must do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fastnn.functional as F


class Call(NamedTuple):
    """A valid call: its float arrays by parameter name, then what else it takes."""

    function: Callable[..., Any]
    arrays: dict[str, np.ndarray]
    others: dict[str, Any] = {}  # noqa: RUF012 - read only
    batched: tuple[str, ...] = ()  # the arrays whose first axis is the batch

    def __call__(self, **replaced: Any) -> Any:
        return self.function(**{**self.arrays, **self.others, **replaced})


def results(call: Call, **replaced: Any) -> list[np.ndarray]:
    """The arrays among what the call returns."""
    result = call(**replaced)
    return [r for r in (result if isinstance(result, tuple) else (result,)) if isinstance(r, np.ndarray)]


def table(dtype: Any = np.float32) -> dict[str, Call]:
    def make(*shape: int) -> np.ndarray:
        return np.random.default_rng([1, *shape]).uniform(0.1, 1, shape).astype(dtype)

    x, weight, image, kernel = make(3, 4), make(4, 5), make(2, 4, 5, 6), make(6, 2, 3, 2)
    conv, pool = {"padding": 1, "groups": 2}, {"kernel_size": 2, "stride": 1}
    pooled, pooled_conv = make(2, 4, 4, 5), make(2, 6, 2, 3)
    per_channel = {name: make(4) for name in ("weight", "bias", "running_mean", "running_var")}
    stats = {name: make(4) for name in ("weight", "mean", "inv_std")}
    stream = {"p": 0.4, "seed": 1, "offset": 2}
    indices = np.zeros(pooled.shape, np.int32)
    calls = {
        "linear": Call(F.linear, {"x": x, "weight": weight, "bias": make(5)}, {"activation": "relu"}, ("x",)),
        "linear_backward": Call(
            F.linear_backward, {"grad": make(3, 5), "x": x, "weight": weight}, {}, ("grad", "x")
        ),
        "conv2d": Call(F.conv2d, {"x": image, "weight": kernel, "bias": make(6)}, conv, ("x",)),
        "conv2d_backward": Call(
            F.conv2d_backward, {"grad": make(2, 6, 5, 7), "x": image, "weight": kernel}, conv, ("grad", "x")
        ),
        "conv2d_max_pool2d": Call(
            F.conv2d_max_pool2d,
            {"x": image, "weight": kernel, "bias": make(6)},
            {**conv, "pool_size": 2},
            ("x",),
        ),
        "conv2d_max_pool2d_backward": Call(
            F.conv2d_max_pool2d_backward,
            {"grad": pooled_conv, "x": image, "weight": kernel},
            {**conv, "indices": np.zeros(pooled_conv.shape, np.int32)},
            ("grad", "x", "indices"),
        ),
        "im2col": Call(F.im2col, {"x": image}, {"kernel_size": (3, 2)}, ("x",)),
        "col2im": Call(
            F.col2im, {"cols": make(2, 24, 15)}, {"output_size": (5, 6), "kernel_size": (3, 2)}, ("cols",)
        ),
        "max_pool2d": Call(F.max_pool2d, {"x": image}, pool, ("x",)),
        "max_pool2d_backward": Call(
            F.max_pool2d_backward, {"grad": pooled}, {"indices": indices, "input_shape": image.shape}
        ),
        "avg_pool2d": Call(F.avg_pool2d, {"x": image}, pool, ("x",)),
        "avg_pool2d_backward": Call(
            F.avg_pool2d_backward, {"grad": pooled}, {"input_shape": image.shape, **pool}
        ),
        "softmax_cross_entropy": Call(
            F.softmax_cross_entropy, {"logits": x, "targets": make(3, 4)}, {}, ("logits", "targets")
        ),
        "softmax_cross_entropy, labels": Call(
            F.softmax_cross_entropy, {"logits": x}, {"targets": np.array([0, 3, 1])}
        ),
        "sigmoid_cross_entropy": Call(
            F.sigmoid_cross_entropy, {"logits": x, "targets": make(3, 4)}, {}, ("logits", "targets")
        ),
        "mse": Call(F.mse, {"pred": x, "target": make(3, 4)}, {}, ("pred", "target")),
        "batch_norm": Call(F.batch_norm, {"x": image, **per_channel}, {}, ("x",)),
        "batch_norm_backward": Call(
            F.batch_norm_backward, {"grad": image, "x": image, **stats}, {}, ("grad", "x")
        ),
        "dropout": Call(F.dropout, {"x": x}, stream, ("x",)),
        "dropout_backward": Call(F.dropout_backward, {"grad": x}, stream, ("grad",)),
    }
    for name in ("relu", "leaky_relu", "sigmoid", "tanh", "gelu", "softmax", "log_softmax"):
        saved = "x" if name in ("gelu", "leaky_relu") else "out"
        calls[name] = Call(getattr(F, name), {"x": x}, {}, ("x",))
        calls[f"{name}_backward"] = Call(
            getattr(F, f"{name}_backward"), {"grad": x, saved: x + 1}, {}, ("grad", saved)
        )
    return calls


CALLS = table()
ARRAYS = [(name, array) for name, call in CALLS.items() for array in call.arrays]
PAIRED = [(name, array) for name, array in ARRAYS if len(CALLS[name].arrays) > 1]
