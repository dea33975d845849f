"""The fully connected layer's arithmetic."""

from __future__ import annotations

from fastnn.functional._check import Array, bad_shapes, fits_out, known_activation, place, place_affine

_WANT = "x (N, in), weight (in, out)"


def linear(x: Array, weight: Array, bias: Array | None = None, *, activation: str | None = None) -> Array:
    """Affine map, with its activation in the same pass: ``activation(x W + b)``.

    Parameters
    ----------
    x : array (N, in)
    weight : array (in, out)
        The transpose of what ``torch.nn.Linear`` holds.
    bias : array (out,), optional
    activation : {None, "relu", "leaky_relu", "sigmoid", "tanh", "gelu"}
        Applied with its default parameter: slope 0.01, exact gelu.

    Returns
    -------
    array (N, out)

    Raises
    ------
    TypeError
        An argument is no array, or the dtypes are not all float32 or all float64.
    ValueError
        The shapes do not fit, or the activation is unknown.
    """
    backend, x, weight, bias = place_affine(x, weight, bias)
    if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[0]:
        bad_shapes("linear", _WANT, x=x, weight=weight)
    if bias is not None and bias.shape != weight.shape[1:]:
        bad_shapes("linear", "weight (in, out), bias (out,)", weight=weight, bias=bias)
    known_activation(activation)
    return backend.linear.linear(x, weight, bias, activation)


def linear_backward(
    grad: Array,
    x: Array,
    weight: Array,
    *,
    input_grad: bool = True,
    out: tuple[Array, Array | None] | None = None,
) -> tuple[Array | None, Array, Array | None]:
    """Gradients of :func:`linear` without an activation: ``G Wᵀ``, ``Xᵀ G`` and the sum of G over the batch.

    Where the forward had an activation, pass its backward's result as `grad`.

    Parameters
    ----------
    grad : array (N, out)
        Gradient of the loss with respect to ``x W + b``.
    x, weight : arrays, as given to :func:`linear`
    input_grad : bool
        False leaves out the gradient with respect to `x`, which a first layer does not need.
    out : (grad_weight, grad_bias), optional
        Arrays to overwrite with those gradients. Where grad_bias is None a new one is made.

    Returns
    -------
    grad_x : array (N, in), or None without `input_grad`
    grad_weight : array (in, out)
    grad_bias : array (out,)

    Raises
    ------
    TypeError, ValueError
        As :func:`linear`.
    """
    backend, (grad, x, weight) = place(("grad", "x", "weight"), grad, x, weight)
    if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[0]:
        bad_shapes("linear_backward", _WANT, x=x, weight=weight)
    if grad.shape != (x.shape[0], weight.shape[1]):
        bad_shapes("linear_backward", f"grad (N, out), {_WANT}", grad=grad, x=x, weight=weight)
    if out is not None:
        out = fits_out(out, weight, weight.shape[1], backend)
    return backend.linear.linear_backward(grad, x, weight, input_grad, out)
