"""The activations' arithmetic, into a given array.

`out` may be `x` itself: so it is in the epilogue of linear and conv2d.
"""

from __future__ import annotations

import math

import numpy as np

# Rational approximations of Cody (1969), "Rational Chebyshev approximations for the error function", Math.
# Comp. 23: coefficients from the highest power down, numerator and denominator.
_ERF_P = (
    1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2,
    3.20937758913846947e3,
)  # fmt: skip
_ERF_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_ERFC_P = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1,
    2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
    1.23033935479799725e3,
)  # fmt: skip
_ERFC_Q = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
    3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
)  # fmt: skip
_TAIL_P = (
    1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
    1.60837851487422766e-2, 6.58749161529837803e-4,
)  # fmt: skip
_TAIL_Q = (
    1.0, 2.56852019228982242, 1.87295284992346725, 5.27905102951428412e-1, 6.05183413124413191e-2,
    2.33520497626869185e-3,
)  # fmt: skip


def _ratio(numerator: tuple[float, ...], denominator: tuple[float, ...], t: np.ndarray) -> np.ndarray:
    """Quotient of two polynomials in `t`, by Horner's rule."""

    def horner(coefficients: tuple[float, ...]) -> np.ndarray:
        value = np.full_like(t, coefficients[0])
        for coefficient in coefficients[1:]:
            value *= t
            value += coefficient
        return value

    value = horner(numerator)
    value /= horner(denominator)
    return value


def erfc(x: np.ndarray) -> np.ndarray:
    """Complementary error function ``1 − erf(x)``, in float64 to 1e-15."""
    size = np.abs(x)
    small = size <= 0.46875
    far = size > 4.0
    middle = ~(small | far)  # NaN is neither small nor far, and stays NaN here
    value = np.empty_like(size)
    t = x[small]
    value[small] = 1.0 - t * _ratio(_ERF_P, _ERF_Q, t * t)
    t = size[middle]
    value[middle] = np.exp(-t * t) * _ratio(_ERFC_P, _ERFC_Q, t)
    if far.any():
        t = size[far]
        inverse = 1.0 / (t * t)
        tail = (1.0 / math.sqrt(math.pi) - inverse * _ratio(_TAIL_P, _TAIL_Q, inverse)) / t
        value[far] = np.exp(-t * t) * tail
    np.subtract(2.0, value, out=value, where=(x < 0) & ~small)
    return value


def normal_cdf(x: np.ndarray) -> np.ndarray:
    value = erfc(x * -math.sqrt(0.5))
    value *= 0.5
    return value


def relu(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    return np.maximum(x, x.dtype.type(0), out=out)  # unlike a comparison, maximum keeps NaN


def leaky_relu(x: np.ndarray, out: np.ndarray, negative_slope: float = 0.01) -> np.ndarray:
    negative = ~(x > 0)
    if out is not x:
        np.copyto(out, x)
    return np.multiply(x, x.dtype.type(negative_slope), out=out, where=negative)


def sigmoid(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    np.negative(x, out=out)
    np.exp(out, out=out)  # overflows to inf for very negative x, whose reciprocal is the 0 that is wanted
    out += 1
    return np.reciprocal(out, out=out)


def tanh(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    return np.tanh(x, out=out)


def gelu(x: np.ndarray, out: np.ndarray, approximate: str = "none") -> np.ndarray:
    if approximate == "none":
        return np.multiply(x, normal_cdf(x), out=out)
    factor = tanh_inner(x)
    np.tanh(factor, out=factor)
    factor += 1
    factor *= 0.5
    return np.multiply(x, factor, out=out)


def tanh_inner(x: np.ndarray) -> np.ndarray:
    """``√(2/π) (x + 0.044715 x³)``, the argument of the tanh approximation."""
    inner = x * x
    inner *= 0.044715
    inner += 1
    inner *= x
    inner *= math.sqrt(2 / math.pi)
    return inner


_IN_PLACE = {"relu": relu, "leaky_relu": leaky_relu, "sigmoid": sigmoid, "tanh": tanh, "gelu": gelu}


def activate(out: np.ndarray, activation: str | None) -> np.ndarray:
    """Overwrite `out` with its `activation`, or leave it for None, and return it."""
    return out if activation is None else _IN_PLACE[activation](out, out)
