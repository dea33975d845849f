"""Convolution and max-pooling in one pass, which spares writing and reading what lies between them."""

from __future__ import annotations

from fastnn.functional._check import (
    Array,
    Pair,
    bad_shapes,
    common_backend,
    fits_out,
    place,
)
from fastnn.functional.conv import check_channels, place_operands
from fastnn.functional.conv import plan as plan_convolution
from fastnn.functional.pool import check_countable, checked_indices
from fastnn.functional.pool import plan as plan_pooling

IntPair = int | Pair
_WINDOW = ("pool_size", "pool_stride", "pool_padding", "pool_dilation")


def conv2d_max_pool2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    pool_size: IntPair,
    pool_stride: IntPair | None = None,
    pool_padding: IntPair = 0,
    pool_dilation: IntPair = 1,
    ceil_mode: bool = False,
    activation: str | None = None,
) -> tuple[Array, Array]:
    """``activation(max_pool2d(conv2d(x, weight, bias)))``, and where each maximum was.

    For an activation that never decreases, this is also the pooling of the activation.

    Parameters
    ----------
    x : array (N, C, H, W)
    weight : array (O, C/groups, KH, KW)
    bias : array (O,), optional
    stride, padding, dilation, groups : as in :func:`~fastnn.functional.conv2d`
    pool_size, pool_stride, pool_padding, pool_dilation, ceil_mode
        The window, as in :func:`~fastnn.functional.max_pool2d`.
    activation : {None, "relu", "leaky_relu", "sigmoid", "tanh", "gelu"}

    Returns
    -------
    out : array (N, O, PH, PW), channels-last in memory
    indices : int32 array of that shape
        ``row · OW + column`` in the convolution's result, as :func:`~fastnn.functional.max_pool2d` has them.

    Raises
    ------
    TypeError, ValueError
        As the two functions.
    """
    convolution = stride, padding, dilation, groups
    window = pool_size, pool_stride, pool_padding, pool_dilation, ceil_mode
    return pooled(x, weight, bias, convolution, window, activation, "int32")


def pooled(
    x: Array,
    weight: Array,
    bias: Array | None,
    convolution: tuple[IntPair, IntPair, IntPair, int],
    window: tuple[IntPair, IntPair | None, IntPair, IntPair, bool],
    activation: str | None,
    places: str,
) -> tuple[Array, Array]:
    """:func:`conv2d_max_pool2d`, for layers: what `places` says is in ``kernels/reference/conv_pool.py``. The
    functions of this module understand "int32" only."""
    stride, padding, dilation, groups = convolution
    backend, x, weight, bias = place_operands("conv2d_max_pool2d", x, weight, bias, groups, activation)
    _, *geometry, between = plan_convolution(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    *axes, _ = plan_pooling(between, *window, _WINDOW)
    check_countable(between)
    options = (*geometry, groups), (*axes, bool(window[4])), activation
    return backend.conv_pool.conv2d_max_pool2d(x, weight, bias, *options, places)


def conv2d_max_pool2d_backward(
    grad: Array,
    indices: Array,
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
    """Gradients of :func:`conv2d_max_pool2d` without an activation.

    What is not finite in `x` need not reach them where only zeros come back from the pooling: a backend may
    leave out the products with these.

    Parameters
    ----------
    grad : array (N, O, PH, PW)
        Gradient of the loss with respect to the pooled convolution.
    indices : int array of that shape
        As the forward returned them.
    x, weight, stride, padding, dilation, groups : as given to :func:`conv2d_max_pool2d`
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
        As :func:`~fastnn.functional.conv2d_backward` and :func:`~fastnn.functional.max_pool2d_backward`.
    """
    backend, (grad, x, weight) = place(("grad", "x", "weight"), grad, x, weight)
    check_channels("conv2d_max_pool2d_backward", x, weight, groups)
    _, *convolution, between = plan_convolution(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    if grad.ndim != 4 or grad.shape[:2] != (x.shape[0], weight.shape[0]):
        bad_shapes("conv2d_max_pool2d_backward", "grad (N, O, PH, PW)", grad=grad, x=x, weight=weight)
    indices = checked_indices(grad, indices, (*grad.shape[:2], *between))
    backend = backend if backend.room == "cuda" else common_backend(grad, indices)
    if out is not None:
        out = fits_out(out, weight, weight.shape[0], backend)
    grad, indices, x, weight = (backend.asarray(array) for array in (grad, indices, x, weight))
    geometry = (*convolution, groups)
    return backend.conv_pool.conv2d_max_pool2d_backward(grad, indices, x, weight, geometry, input_grad, out)
