"""Batch normalisation."""

from __future__ import annotations

from fastnn.functional._check import Array, bad_shapes, fits_out, place, same_shape, stays


def _check(function: str, x: Array, **per_channel: Array) -> None:
    if x.ndim not in (2, 4):
        bad_shapes(function, "x (N, C) or (N, C, H, W)", x=x)
    for name, array in per_channel.items():
        if array.shape != x.shape[1:2]:
            bad_shapes(function, f"{name} (C,) for x (N, C) or (N, C, H, W)", x=x, **{name: array})


def batch_norm(
    x: Array,
    weight: Array,
    bias: Array,
    running_mean: Array,
    running_var: Array,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """``(x − mean) / √(var + eps) · weight + bias``, each channel over the batch and its pixels.

    In training mean and variance are the batch's, and ``running ← (1 − momentum) · running + momentum ·
    batch`` updates the running statistics **in place** (the variance there without bias, as torch has it).
    Otherwise the running statistics serve.

    Parameters
    ----------
    x : array (N, C) or (N, C, H, W)
    weight, bias : arrays (C,)
    running_mean, running_var : arrays (C,)
        Written to in training, and in nothing else. On the cupy backend they must then be CuPy arrays.
    training : bool
    momentum, eps : float

    Returns
    -------
    out : array, as x
    mean, inv_std : arrays (C,)
        For :func:`batch_norm_backward`: what was subtracted, and ``1 / √(var + eps)``.

    Raises
    ------
    TypeError
        The arrays are not all float32 or all float64.
    ValueError
        The shapes do not fit, or a training batch has one value a channel, of which there is no variance.

    References
    ----------
    Ioffe & Szegedy (2015), "Batch normalization: accelerating deep network training by reducing internal
    covariate shift".
    """
    given = running_mean, running_var
    backend, (x, weight, bias, running_mean, running_var) = place(
        ("x", "weight", "bias", "running_mean", "running_var"), x, weight, bias, running_mean, running_var
    )
    _check("batch_norm", x, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var)
    if training:
        if x.size == x.shape[1]:
            raise ValueError(
                f"batch_norm in training wants more than one value a channel, but x has shape {x.shape}"
            )
        if backend.room == "cuda":
            stays("running_mean", given[0])
            stays("running_var", given[1])
    return backend.norm.batch_norm(
        x, weight, bias, running_mean, running_var, bool(training), float(momentum), float(eps)
    )


def batch_norm_backward(
    grad: Array,
    x: Array,
    weight: Array,
    mean: Array,
    inv_std: Array,
    *,
    training: bool = True,
    input_grad: bool = True,
    out: tuple[Array, Array] | None = None,
) -> tuple[Array | None, Array, Array]:
    """Gradients of :func:`batch_norm`.

    With ``h = (x − mean) · inv_std`` over the M values of a channel: ``Σ g h`` for the weight, ``Σ g`` for
    the bias, and for the input ``weight · inv_std · (g − (Σ g + h Σ g h) / M)`` in training, ``weight ·
    inv_std · g`` otherwise.

    Parameters
    ----------
    grad : array, of the shape of x
    x, weight, training : as given to :func:`batch_norm`
    mean, inv_std : arrays (C,), as it returned them
    input_grad : bool
        False leaves out the gradient with respect to `x`.
    out : (grad_weight, grad_bias), optional
        Arrays to overwrite with those gradients instead of making new ones.

    Returns
    -------
    grad_x : array, as x, or None without `input_grad`
    grad_weight, grad_bias : arrays (C,)

    Raises
    ------
    TypeError
        The arrays are not all float32 or all float64.
    ValueError
        The shapes do not fit.
    """
    backend, (grad, x, weight, mean, inv_std) = place(
        ("grad", "x", "weight", "mean", "inv_std"), grad, x, weight, mean, inv_std
    )
    _check("batch_norm_backward", x, weight=weight, mean=mean, inv_std=inv_std)
    same_shape("grad", grad, "x", x)
    if out is not None:
        out = fits_out(out, weight, weight.shape[0], backend)
    return backend.norm.batch_norm_backward(
        grad, x, weight, mean, inv_std, bool(training), bool(input_grad), out
    )
