"""The convolution layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn.backend import backend_of
from fastnn.functional._check import pair
from fastnn.functional.conv import plan
from fastnn.init import Initializer
from fastnn.layers.base import Layer, misplaced, short, shown
from fastnn.layers.parameter import new_parameter

IntPair = int | tuple[int, int]


class Conv2d(Layer):
    """Two-dimensional convolution: see :func:`fastnn.functional.conv2d`.

    Parameters
    ----------
    in_channels, out_channels : int
        Multiples of `groups`.
    kernel_size, stride, dilation : int or pair
    padding : int, pair, "same" or "valid"
        "valid": none. "same": so much that the output has the size of the input, for stride 1; where an even
        kernel needs an odd number of zeros, the odd one goes to the right and the bottom, as in torch.
    groups : int
    bias : bool
    init : str or function
        How the weight is drawn: a name or a function of :mod:`fastnn.init`. With the default the bias is
        drawn likewise, as in torch; with any other it starts at 0.
    dtype : float32 or float64

    Attributes
    ----------
    in_channels, out_channels, groups : int
    kernel_size, stride, padding, dilation : pairs
    weight : Parameter (out_channels, in_channels / groups, KH, KW)
        Over (KH, KW, I, O) memory.
    bias : Parameter (out_channels,) or None
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: IntPair | str = 0,
        dilation: IntPair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        init: str | Initializer = "fan_in_uniform",
        dtype: Any = np.float32,
    ) -> None:
        if groups < 1 or min(in_channels, out_channels) < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                "in_channels and out_channels must be multiples of groups, "
                f"got {in_channels}, {out_channels} and {groups}"
            )
        kernel_size = pair("kernel_size", kernel_size, 1)
        stride, dilation = pair("stride", stride, 1), pair("dilation", dilation, 1)
        # Pixels to cut off at the top and left: zeros are put on both sides alike, which is one too many of
        # an odd number.
        self._surplus = (0, 0)
        if padding == "valid":
            padding = (0, 0)
        elif padding == "same":
            if stride != (1, 1):
                raise ValueError(f'padding "same" needs stride 1, got {stride}')
            zeros = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
            padding = ((zeros[0] + 1) // 2, (zeros[1] + 1) // 2)
            self._surplus = (zeros[0] % 2, zeros[1] % 2)
        elif isinstance(padding, str):
            raise ValueError(f'padding must be an int, a pair, "same" or "valid", got {padding!r}')
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.dilation = kernel_size, stride, dilation
        self.padding = pair("padding", padding, 0)
        self._geometry: dict[str, Any] = {
            "stride": stride,
            "padding": self.padding,
            "dilation": dilation,
            "groups": groups,
        }
        shape = (out_channels, in_channels // groups, *kernel_size)
        area = kernel_size[0] * kernel_size[1]
        fans = shape[1] * area, out_channels * area
        self.weight = new_parameter("weight", init, shape, *fans, dtype)
        bias_init = init if init == "fan_in_uniform" else "zeros"
        self.bias = new_parameter("bias", bias_init, (out_channels,), *fans, dtype) if bias else None

    def forward(self, x: Any, training: bool = False) -> Any:
        """(N, in_channels, H, W) to (N, out_channels, OH, OW)."""
        return self.forward_with(x, training, None)

    def forward_with(self, x: Any, training: bool, activation: str | None) -> Any:
        """:meth:`forward` and the activation of that name in one pass; that layer's backward comes before
        this one's.
        """
        x, weight, bias = self.operands(x, training)
        out = F.conv2d(x, weight, bias, activation=activation, **self._geometry)
        if type(out) is not type(weight):
            raise misplaced(self, weight)
        self._saved = x if training else None
        if self._surplus != (0, 0):
            top, left = self._surplus
            out = out[:, :, top:, left:]
        return out

    def operands(self, x: Any, training: bool) -> tuple[Any, Any, Any]:
        """`x` where the parameters are, when `training` in the memory order that both passes read; and their
        arrays."""
        weight, bias = self.weight._data, self.bias
        if type(x) is not type(weight):
            x = self._here(x, weight)
        elif training and x.ndim == 4 and x.dtype == weight.dtype and backend_of(x).room == "cpu":
            from fastnn.kernels.cpu._memory import channels_last

            x = channels_last(x)  # one copy for both passes
        return x, weight, None if bias is None else bias._data

    def backward(self, grad: Any, input_grad: bool = True) -> Any:
        x = self._saved
        if x is None:
            raise self._no_forward()
        if self._surplus != (0, 0):
            grad = self._with_surplus(grad)
        weight, out = self.weight._data, self.gradients()
        return F.conv2d_backward(grad, x, weight, input_grad=input_grad, out=out, **self._geometry)[0]

    def gradients(self) -> tuple[Any, Any]:
        """The arrays that backward fills: the weight's, and the bias's or None."""
        return self.weight._grad, None if self.bias is None else self.bias._grad

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(OH, OW) for an input of `size`."""
        return plan(size, self.kernel_size, self.stride, self.padding, self.dilation)[-1]

    def _with_surplus(self, grad: Any) -> Any:
        """`grad` with zeros for the pixels that :meth:`forward` cut off."""
        top, left = self._surplus
        n, channels, height, width = grad.shape
        whole = (
            backend_of(grad)
            .xp.zeros((n, height + top, width + left, channels), grad.dtype)
            .transpose(0, 3, 1, 2)
        )
        whole[:, :, top:, left:] = grad
        return whole

    def __repr__(self) -> str:
        usual = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
        geometry = self._geometry if self._surplus == (0, 0) else {**self._geometry, "padding": "same"}
        options = shown(geometry, usual) + ("" if self.bias else ", bias=False")
        return f"Conv2d({self.in_channels}, {self.out_channels}, {short(self.kernel_size)}{options})"
