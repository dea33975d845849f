"""Convolution, and the two halves of its classic form: im2col and col2im."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastnn.backend import Backend
from fastnn.functional._check import (
    Array,
    Pair,
    bad_shapes,
    fits_out,
    known_activation,
    pair,
    place,
    place_affine,
)
from fastnn.kernels.reference._shared import output_shape

IntPair = int | Pair


@lru_cache(maxsize=1024, typed=True)  # a network asks for the same few plans at every step
def _plan_cached(size: Pair, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> tuple[Pair, ...]:
    kernel_size = pair("kernel_size", kernel_size, 1)
    stride, padding = pair("stride", stride, 1), pair("padding", padding, 0)
    dilation = pair("dilation", dilation, 1)
    oh, ow = (output_shape(*axis) for axis in zip(size, kernel_size, stride, padding, dilation, strict=True))
    if min(oh, ow, *size) < 1:
        raise ValueError(
            f"a kernel of {kernel_size} with dilation {dilation} does not fit an input of {size} "
            f"with padding {padding}"
        )
    return kernel_size, stride, padding, dilation, (oh, ow)


def plan(size: Pair, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> tuple[Pair, ...]:
    """(kernel_size, stride, padding, dilation, (OH, OW)), all pairs; ValueError where no window fits."""
    try:
        return _plan_cached(size, kernel_size, stride, padding, dilation)
    except TypeError:
        pass  # a list does not hash, and what is no pair gets its message without the cache
    return _plan_cached.__wrapped__(size, kernel_size, stride, padding, dilation)


def check_channels(function: str, x: Array, weight: Array, groups: int) -> None:
    if (
        x.ndim != 4
        or weight.ndim != 4
        or groups < 1
        or not 0 < weight.shape[1] * groups == x.shape[1]
        or weight.shape[0] % groups
        or not weight.shape[0]
    ):
        want = "x (N, C, H, W), weight (O, C/groups, KH, KW), C and O multiples of groups"
        bad_shapes(f"{function} with groups={groups}", want, x=x, weight=weight)


def place_operands(
    function: str, x: Array, weight: Array, bias: Array | None, groups: int, activation: str | None
) -> tuple[Backend, Array, Array, Array | None]:
    """The backend for a convolution, and its operands there, checked but for the geometry."""
    backend, x, weight, bias = place_affine(x, weight, bias)
    check_channels(function, x, weight, groups)
    if bias is not None and bias.shape != weight.shape[:1]:
        bad_shapes(function, "weight (O, C/groups, KH, KW), bias (O,)", weight=weight, bias=bias)
    known_activation(activation)
    return backend, x, weight, bias


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    activation: str | None = None,
) -> Array:
    """Two-dimensional convolution (strictly, cross-correlation), with its activation in the same pass.

    ``out[n, o, i, j] = activation(b[o] + Σ w[o, c, u, v] · x[n, c, row, column])`` with
    ``row = i·stride + u·dilation − padding`` and column likewise of j and v; the sum runs over the channels c
    of o's group and the taps (u, v), and x is zero outside the image.

    Parameters
    ----------
    x : array (N, C, H, W)
    weight : array (O, C/groups, KH, KW)
    bias : array (O,), optional
    stride, padding, dilation : int or pair
    groups : int
        Input and output channels fall into so many blocks; each output block sees its input block only.
    activation : {None, "relu", "leaky_relu", "sigmoid", "tanh", "gelu"}
        Applied with its default parameter: slope 0.01, exact gelu.

    Returns
    -------
    array (N, O, OH, OW), channels-last in memory
        ``OH = ⌊(H + 2·padding − dilation·(KH − 1) − 1) / stride⌋ + 1``, and OW likewise.

    Raises
    ------
    TypeError
        An argument is no array, the dtypes are not all float32 or all float64, or an option is no int or pair
        of ints.
    ValueError
        The shapes do not fit each other or `groups`, or the kernel is larger than the padded image.
    """
    backend, x, weight, bias = place_operands("conv2d", x, weight, bias, groups, activation)
    _, stride, padding, dilation, _ = plan(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return backend.conv.conv2d(x, weight, bias, stride, padding, dilation, groups, activation)


def conv2d_backward(
    grad: Array,
    x: Array,
    weight: Array,
    *,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    input_grad: bool = True,
    out: tuple[Array, Array | None] | None = None,
) -> tuple[Array | None, Array, Array | None]:
    """Gradients of :func:`conv2d` without an activation.

    Parameters
    ----------
    grad : array (N, O, OH, OW)
        Gradient of the loss with respect to the convolution plus bias.
    x, weight, stride, padding, dilation, groups : as given to :func:`conv2d`
    input_grad : bool
        False leaves out the gradient with respect to `x`, which a first layer does not need.
    out : (grad_weight, grad_bias), optional
        Arrays to overwrite with those gradients. Where grad_bias is None a new one is made.

    Returns
    -------
    grad_x : array (N, C, H, W), channels-last in memory, or None without `input_grad`
    grad_weight : array (O, C/groups, KH, KW)
    grad_bias : array (O,)

    Raises
    ------
    TypeError, ValueError
        As :func:`conv2d`.

    References
    ----------
    Chellapilla, Puri & Simard (2006), "High performance convolutional neural networks for document
    processing".
    """
    backend, (grad, x, weight) = place(("grad", "x", "weight"), grad, x, weight)
    check_channels("conv2d_backward", x, weight, groups)
    _, stride, padding, dilation, size = plan(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    if grad.shape != (x.shape[0], weight.shape[0], *size):
        want = f"grad {(x.shape[0], weight.shape[0], *size)}"
        bad_shapes("conv2d_backward", want, grad=grad, x=x, weight=weight)
    if out is not None:
        out = fits_out(out, weight, weight.shape[0], backend)
    return backend.conv.conv2d_backward(grad, x, weight, stride, padding, dilation, groups, input_grad, out)


def im2col(
    x: Array, kernel_size: IntPair, *, stride: IntPair = 1, padding: IntPair = 0, dilation: IntPair = 1
) -> Array:
    """Every window of an image as a column, in the order of ``torch.nn.functional.unfold``.

    ``cols[n, (c·KH + u)·KW + v, i·OW + j]`` is the pixel that tap (u, v) of the window reads for output pixel
    (i, j), or 0 in the padding; so ``weight.reshape(O, -1) @ cols`` is a convolution.

    Parameters
    ----------
    x : array (N, C, H, W)
    kernel_size, stride, padding, dilation : int or pair

    Returns
    -------
    array (N, C·KH·KW, OH·OW)

    Raises
    ------
    TypeError
        `x` is not a float32 or float64 array, or an option is no int or pair of ints.
    ValueError
        `x` has not four axes, or the window is larger than the padded image.
    """
    backend, (x,) = place(("x",), x)
    if x.ndim != 4:
        bad_shapes("im2col", "x (N, C, H, W)", x=x)
    kernel_size, stride, padding, dilation, _ = plan(x.shape[2:], kernel_size, stride, padding, dilation)
    return backend.conv.im2col(x, kernel_size, stride, padding, dilation)


def col2im(
    cols: Array,
    output_size: IntPair,
    kernel_size: IntPair,
    *,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
) -> Array:
    """Adjoint of :func:`im2col`: every column added back to the pixels it was read from (torch's ``fold``).

    Parameters
    ----------
    cols : array (N, C·KH·KW, OH·OW)
    output_size : int or pair
        (H, W) of the image.
    kernel_size, stride, padding, dilation : int or pair

    Returns
    -------
    array (N, C, H, W), channels-last in memory

    Raises
    ------
    TypeError
        `cols` is not a float32 or float64 array, or an option is no int or pair of ints.
    ValueError
        The shape of `cols` is not what :func:`im2col` gives for these options.
    """
    backend, (cols,) = place(("cols",), cols)
    output_size = pair("output_size", output_size, 1)
    kernel_size, stride, padding, dilation, size = plan(output_size, kernel_size, stride, padding, dilation)
    taps, pixels = kernel_size[0] * kernel_size[1], size[0] * size[1]
    if cols.ndim != 3 or cols.shape[1] % taps or cols.shape[2] != pixels:
        bad_shapes("col2im", f"cols (N, C·{taps}, {pixels}) for an image of {output_size}", cols=cols)
    return backend.conv.col2im(cols, output_size, kernel_size, stride, padding, dilation)
