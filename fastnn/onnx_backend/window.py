"""The window that convolutions and poolings move over an image: its attributes, and padding that is not even.

One spatial axis is treated as two, the first of length 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fastnn.backend import get_backend
from fastnn.onnx_backend.node import Array, Node

Pair = tuple[int, int]


def on_images(node: Node, compute: Callable[..., Any]) -> Callable[..., Any]:
    """`compute`, which takes (N, C, H, W) first and returns such, for (N, C, W) too."""

    def for_either(x: Array, *others: Array | None) -> Any:
        if x.ndim == 4:
            return compute(x, *others)
        if x.ndim != 3:
            raise node.unsupported(f"shape of input {node.inputs[0]}", x.shape, "one or two spatial axes are")
        out = compute(x[:, :, None], *others)
        return tuple([o[:, :, 0] for o in out]) if isinstance(out, tuple) else out[:, :, 0]

    return for_either


class Placed(NamedTuple):
    """A window over images of one size: (before, after) is the padding, above and left, below and right."""

    kernel: Pair
    stride: Pair
    before: Pair
    after: Pair
    dilation: Pair


class Window:
    """The attributes of a node that say how its window moves."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.auto_pad = node.choice("auto_pad", "NOTSET", ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"))
        self.kernel = node.attribute("kernel_shape", None)
        self.strides = node.attribute("strides", None)
        self.dilations = node.attribute("dilations", None)
        self.pads = node.attribute("pads", None)
        if self.pads is not None and min(self.pads) < 0:
            raise node.unsupported("pads", self.pads, "padding that cuts off is not")

    def over(self, size: Pair, kernel: Pair | None = None) -> Placed:
        """The window over an image of `size`; `kernel` where the weight says it."""
        if self.kernel is not None:
            kernel = self._pair(self.kernel, 1)
        assert kernel is not None  # the checker wants kernel_shape of poolings
        stride, dilation = self._pair(self.strides, 1), self._pair(self.dilations, 1)
        before = after = (0, 0)
        if self.auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            axes = zip(size, kernel, stride, dilation, strict=True)
            ends = [_same(*axis, lower=self.auto_pad == "SAME_LOWER") for axis in axes]
            before, after = (ends[0][0], ends[1][0]), (ends[0][1], ends[1][1])
        elif self.auto_pad == "NOTSET" and self.pads is not None:
            half = len(self.pads) // 2
            before, after = self._pair(self.pads[:half], 0), self._pair(self.pads[half:], 0)
        return Placed(kernel, stride, before, after, dilation)

    def refused(self, why: str) -> Exception:
        """The exception for padding that cannot be had."""
        if self.auto_pad != "NOTSET":
            return self.node.unsupported("auto_pad", self.auto_pad, why)
        return self.node.unsupported("pads", self.pads, why)

    @staticmethod
    def _pair(values: Any, default: int) -> Pair:
        if values is None:
            return default, default
        return (default, values[0]) if len(values) == 1 else (values[0], values[1])


def _same(size: int, kernel: int, stride: int, dilation: int, lower: bool) -> Pair:
    """Padding before and after, such that there is a window for each `stride` pixels; the odd one last, or
    first where `lower`.
    """
    windows = -(-size // stride)
    padding = max(0, (windows - 1) * stride + (kernel - 1) * dilation + 1 - size)
    return (padding - padding // 2, padding // 2) if lower else (padding // 2, padding - padding // 2)


def windows(size: Pair, window: Placed, ceil_mode: bool) -> Pair:
    """How many windows there are in each direction; with `ceil_mode` one may reach beyond the padding, but
    must start before the padding on that side.
    """
    counts = []
    for length, kernel, stride, before, after, dilation in zip(size, *window, strict=True):
        room = length + before + after - (kernel - 1) * dilation - 1
        count = (-(-room // stride) if ceil_mode else room // stride) + 1
        if ceil_mode and (count - 1) * stride >= length + before:
            count -= 1
        counts.append(count)
    return counts[0], counts[1]


def framed(x: Array, fill: float, window: Placed, counts: Pair) -> Array:
    """`x` within a frame of `fill`, in which just as many windows as `counts` fit."""
    top, left = window.before
    height, width = (
        (count - 1) * stride + (kernel - 1) * dilation + 1
        for count, stride, kernel, dilation in zip(
            counts, window.stride, window.kernel, window.dilation, strict=True
        )
    )
    frame = get_backend().xp.full((*x.shape[:2], height, width), fill, x.dtype)
    x = x[:, :, : height - top, : width - left]
    frame[:, :, top : top + x.shape[2], left : left + x.shape[3]] = x
    return frame
