"""A convolution and the max-pooling behind it, as the one pass that Sequential makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn.functional._check import fits_out, place, same_shape
from fastnn.functional.conv_pool import pooled
from fastnn.layers.activation import FromOutput
from fastnn.layers.base import Layer, misplaced
from fastnn.layers.conv import Conv2d
from fastnn.layers.pool import MaxPool2d


class ConvPool(Layer):
    """What the two layers do, in one pass: see :func:`fastnn.functional.conv2d_max_pool2d`.

    They keep what their own backwards need, as if they had run alone.
    """

    def __init__(self, convolution: Conv2d, pooling: MaxPool2d) -> None:
        self._convolution, self._pooling = convolution, pooling
        window = pooling._options
        self._window = {
            "pool_size": pooling.kernel_size,
            "pool_stride": window["stride"],
            "pool_padding": window["padding"],
            "pool_dilation": window["dilation"],
            "ceil_mode": window["ceil_mode"],
        }

    @classmethod
    def of(cls, first: Layer | None, second: Layer) -> ConvPool | None:
        """The two as one, or None where they are no such pair (a subclass of them may do otherwise)."""
        if type(first) is Conv2d and type(second) is MaxPool2d and first._surplus == (0, 0):
            return cls(first, second)
        return None

    def _children(self) -> Iterator[tuple[str, Layer]]:
        return iter((("convolution", self._convolution), ("pooling", self._pooling)))

    def forward(self, x: Any, training: bool = False) -> Any:
        """(N, in_channels, H, W) to (N, out_channels, PH, PW)."""
        return self.forward_with(x, training, None)

    def forward_with(self, x: Any, training: bool, activation: str | None) -> Any:
        """:meth:`forward` and the activation of that name in one pass."""
        convolution, pooling = self._convolution, self._pooling
        x, weight, bias = convolution.operands(x, training)
        geometry = convolution._geometry
        options = tuple(geometry.values()), tuple(self._window.values()), activation
        out, indices = pooled(x, weight, bias, *options, "short" if training else "none")
        if type(out) is not type(weight):
            raise misplaced(convolution, weight)
        convolution._saved = pooling._saved = None
        if training:
            between = (*out.shape[:2], *convolution.output_size(x.shape[2:]))
            convolution._saved, pooling._saved = x, (indices, between)
        return out

    def backward(self, grad: Any, input_grad: bool = True) -> Any:
        return self.backward_with(grad, input_grad)

    def backward_with(self, grad: Any, input_grad: bool = True, activation: FromOutput | None = None) -> Any:
        """:meth:`backward`, and in the same pass that of the activation that :meth:`forward_with` applied."""
        convolution, pooling = self._convolution, self._pooling
        x, kept = convolution._saved, pooling._saved
        if x is None or kept is None:
            raise convolution._no_forward()
        weight, (indices, between) = convolution.weight._data, kept
        names: tuple[str, ...] = ("grad", "x", "weight")
        operands: tuple[Any, ...] = (grad, x, weight)
        if activation is not None:
            if activation._saved is None:
                raise activation._no_forward()
            names, operands = (*names, "output"), (*operands, activation._saved)
        backend, (grad, x, weight, *outputs) = place(names, *operands)
        for output in (indices, *outputs):
            if grad.shape != output.shape:
                same_shape("grad", grad, "the output", output)
        if between != (len(x), len(weight), *convolution.output_size(x.shape[2:])):
            raise RuntimeError(
                f"{convolution!r} and {pooling!r} did not run together last: since the forward that this "
                "backward belongs to, one of them has been called alone, with another input"
            )
        # Not through F.conv2d_max_pool2d_backward, which reads all indices to see that they lie in the
        # image: these are our own.
        geometry = tuple(convolution._geometry.values())
        out = fits_out(convolution.gradients(), weight, len(weight), backend)
        run, window = backend.conv_pool.conv2d_max_pool2d_backward, tuple(self._window.values())
        activated = None if activation is None else (activation.fused_as, outputs[0])
        short = indices.dtype == np.uint8
        return run(grad, indices, x, weight, geometry, input_grad, out, window, activated, short)[0]
