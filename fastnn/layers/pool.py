"""Pooling layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn.functional._check import pair, place, same_shape
from fastnn.kernels.reference._shared import in_image
from fastnn.layers.base import Layer, short, shown

IntPair = int | tuple[int, int]


class _Pool(Layer):
    """What both pools have: a window, and options as their function in fastnn.functional names them."""

    def __init__(
        self, kernel_size: IntPair, stride: IntPair | None, padding: IntPair, **options: Any
    ) -> None:
        self.kernel_size = pair("kernel_size", kernel_size, 1)
        self._options = {
            "stride": self.kernel_size if stride is None else pair("stride", stride, 1),
            "padding": pair("padding", padding, 0),
            **options,
        }

    def __repr__(self) -> str:
        options = {**self._options}
        if options["stride"] == self.kernel_size:
            del options["stride"]
        usual = {"padding": (0, 0), "dilation": (1, 1), "ceil_mode": False, "count_include_pad": True}
        return f"{type(self).__name__}({short(self.kernel_size)}{shown(options, usual)})"


class MaxPool2d(_Pool):
    """Maximum over each window: see :func:`fastnn.functional.max_pool2d`.

    Parameters
    ----------
    kernel_size : int or pair
    stride : int or pair, optional
        The kernel size where not given.
    padding, dilation : int or pair
    ceil_mode : bool
    """

    def __init__(
        self,
        kernel_size: IntPair,
        stride: IntPair | None = None,
        padding: IntPair = 0,
        dilation: IntPair = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(
            kernel_size, stride, padding, dilation=pair("dilation", dilation, 1), ceil_mode=bool(ceil_mode)
        )

    def forward(self, x: Any, training: bool = False) -> Any:
        """(N, C, H, W) to (N, C, OH, OW)."""
        out, indices = F.max_pool2d(x, self.kernel_size, return_indices=True, **self._options)
        self._saved = (indices, x.shape) if training else None
        return out

    def backward(self, grad: Any, input_grad: bool = True) -> Any:
        if self._saved is None:
            raise self._no_forward()
        if not input_grad:
            return None
        indices, shape = self._saved
        backend, (grad,) = place(("grad",), grad)
        if grad.shape != indices.shape:
            same_shape("grad", grad, "the output", indices)
        if indices.dtype == np.uint8:  # a convolution in front of it has run with it as one, see ConvPool
            indices = in_image(indices, shape[3])
        # Not through F.max_pool2d_backward, which reads all indices to see that they lie in the image: these
        # are our own.
        pooling = (self.kernel_size, *self._options.values())
        return backend.pool.max_pool2d_backward(grad, indices, shape, pooling)


class AvgPool2d(_Pool):
    """Mean over each window: see :func:`fastnn.functional.avg_pool2d`.

    Parameters
    ----------
    kernel_size : int or pair
    stride : int or pair, optional
        The kernel size where not given.
    padding : int or pair
    ceil_mode : bool
    count_include_pad : bool
    """

    def __init__(
        self,
        kernel_size: IntPair,
        stride: IntPair | None = None,
        padding: IntPair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(
            kernel_size, stride, padding, ceil_mode=bool(ceil_mode), count_include_pad=bool(count_include_pad)
        )

    def forward(self, x: Any, training: bool = False) -> Any:
        """(N, C, H, W) to (N, C, OH, OW)."""
        out = F.avg_pool2d(x, self.kernel_size, **self._options)
        self._saved = x.shape if training else None
        return out

    def backward(self, grad: Any, input_grad: bool = True) -> Any:
        shape = self._saved
        if shape is None:
            raise self._no_forward()
        return F.avg_pool2d_backward(grad, shape, self.kernel_size, **self._options) if input_grad else None
