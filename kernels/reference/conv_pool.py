"""Convolution and max-pooling as one operation: here simply one after the other."""

from __future__ import annotations

import numpy as np

from fastnn.kernels.reference._elementwise import activate
from fastnn.kernels.reference._shared import Pair, in_image, output_shape
from fastnn.kernels.reference.activation import SLOPES
from fastnn.kernels.reference.conv import conv2d, conv2d_backward
from fastnn.kernels.reference.pool import max_pool2d, max_pool2d_backward


def conv2d_max_pool2d(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    convolution: tuple[Pair, Pair, Pair, int],
    pooling: tuple[Pair, Pair, Pair, Pair, bool],
    activation: str | None,
    places: str = "int32",
) -> tuple[np.ndarray, np.ndarray]:
    """``activation(max_pool2d(conv2d(x, weight, bias)))``, and where each maximum was found.

    Parameters
    ----------
    x : (N, C, H, W)
    weight : (O, C/groups, KH, KW)
    bias : (O,) or None
    convolution : (stride, padding, dilation, groups)
        As :func:`fastnn.kernels.reference.conv.conv2d` takes them.
    pooling : (kernel_size, stride, padding, dilation, ceil_mode)
        As :func:`fastnn.kernels.reference.pool.max_pool2d` takes them.
    activation : as in :func:`fastnn.kernels.reference.linear.linear`
    places : {"int32", "short", "none"}
        What `indices` may be: bytes too if "short"; anything if "none", as nobody will ask for them. Some
        kernels of ``kernels/cpu`` make use of that.

    Returns
    -------
    out : (N, O, PH, PW), channels-last in memory
    indices : int32, the same shape and memory order
        ``row · OW + column`` of the maximum in the convolution's OH x OW result. Bytes are uint8, ``2 · row +
        column`` in its window.
    """
    out, indices = max_pool2d(conv2d(x, weight, bias, *convolution, None), *pooling)
    return activate(out, activation), indices


def conv2d_max_pool2d_backward(
    grad: np.ndarray,
    indices: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    convolution: tuple[Pair, Pair, Pair, int],
    input_grad: bool,
    out: tuple[np.ndarray, np.ndarray] | None = None,
    pooling: tuple[Pair, Pair, Pair, Pair, bool] | None = None,
    activated: tuple[str, np.ndarray] | None = None,
    short: bool = False,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Gradients of :func:`conv2d_max_pool2d`.

    Parameters
    ----------
    grad, indices : (N, O, PH, PW)
        Gradient with respect to the pooled convolution, or where `activated` is given, to the forward's
        output; indices as the forward returned them.
    x, weight, convolution : as given to :func:`conv2d_max_pool2d`
    input_grad, out : as in :func:`fastnn.kernels.reference.conv.conv2d_backward`
    pooling : as given to :func:`conv2d_max_pool2d`, optional
        See :func:`fastnn.kernels.reference.pool.max_pool2d_backward`.
    activated : ({"relu", "sigmoid", "tanh"}, (N, O, PH, PW)), optional
        The forward's activation, one whose derivative follows from its output, and that output.
    short : bool
        Whether `indices` are such bytes.

    Returns
    -------
    grad_x, grad_weight, grad_bias : as :func:`fastnn.kernels.reference.conv.conv2d_backward`
        A backend may leave out the products with the zeros that pooling sends back: where `x` is not finite,
        its products with them need not come out as NaN.
    """
    if activated is not None:
        name, output = activated
        grad = SLOPES[name](grad, output)
    axes = zip(x.shape[2:], weight.shape[2:], *convolution[:3], strict=True)
    between = (*grad.shape[:2], *(output_shape(*axis) for axis in axes))
    if short:
        indices = in_image(indices, between[3])
    slope = max_pool2d_backward(grad, indices, between, pooling)
    return conv2d_backward(slope, x, weight, *convolution, input_grad, out)
