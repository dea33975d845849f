"""Elementwise activations, and softmax along an axis.

A backward takes the gradient with respect to the output and the array its forward saved: the output where the
derivative can be had from that, the input for gelu and leaky_relu. Results lie in memory as the saved array.
"""

from __future__ import annotations

import math

import numpy as np

from fastnn.kernels.reference import _elementwise as into
from fastnn.kernels.reference._shared import quiet


def _like(x: np.ndarray) -> np.ndarray:
    return np.empty_like(x, subok=False)


@quiet
def relu(x: np.ndarray) -> np.ndarray:
    """``max(x, 0)`` elementwise; NaN stays NaN (Nair & Hinton 2010)."""
    return into.relu(x, _like(x))


@quiet
def relu_backward(grad: np.ndarray, out: np.ndarray) -> np.ndarray:
    """0 where the output is 0, else ``grad``: also where the output is NaN."""
    result = np.zeros_like(out, subok=False)
    np.copyto(result, grad, where=~(out <= 0))
    return result


@quiet
def leaky_relu(x: np.ndarray, negative_slope: float) -> np.ndarray:
    """``x`` where ``x > 0``, else ``negative_slope · x``, for any slope (Maas, Hannun & Ng 2013)."""
    return into.leaky_relu(x, _like(x), negative_slope)


@quiet
def leaky_relu_backward(grad: np.ndarray, x: np.ndarray, negative_slope: float) -> np.ndarray:
    """``grad`` where ``x > 0``, else ``negative_slope · grad``."""
    result = np.multiply(grad, x.dtype.type(negative_slope), out=_like(x))
    np.copyto(result, grad, where=x > 0)
    return result


@quiet
def sigmoid(x: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(−x))``, for any x."""
    return into.sigmoid(x, _like(x))


@quiet
def sigmoid_backward(grad: np.ndarray, out: np.ndarray) -> np.ndarray:
    """``grad · out · (1 − out)``."""
    result = np.subtract(1, out, out=_like(out))
    result *= out
    result *= grad
    return result


@quiet
def tanh(x: np.ndarray) -> np.ndarray:
    """Hyperbolic tangent."""
    return into.tanh(x, _like(x))


@quiet
def tanh_backward(grad: np.ndarray, out: np.ndarray) -> np.ndarray:
    """``grad · (1 − out²)``."""
    result = np.multiply(out, out, out=_like(out))
    np.subtract(1, result, out=result)
    result *= grad
    return result


@quiet
def gelu(x: np.ndarray, approximate: str) -> np.ndarray:
    """``x · Φ(x)``, Φ the standard normal distribution function (Hendrycks & Gimpel 2016).

    `approximate` is "none", or "tanh" for their ``x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))``.
    """
    return into.gelu(x, _like(x), approximate)


@quiet
def gelu_backward(grad: np.ndarray, x: np.ndarray, approximate: str) -> np.ndarray:
    """``grad · (Φ(x) + x φ(x))`` with φ = Φ′, or the derivative of the tanh form.

    With ``t = tanh(u)`` and ``u = √(2/π) (x + 0.044715 x³)`` that is ``(1 + t)/2 + x/2 · (1 − t²) u′``.
    """
    squared = x * x
    if approximate == "none":
        result = np.exp(squared * -0.5)
        result *= x
        result *= 1 / math.sqrt(2 * math.pi)
        result += into.normal_cdf(x)
    else:
        t = np.tanh(into.tanh_inner(x))
        slope = squared * (3 * 0.044715)
        slope += 1
        slope *= math.sqrt(2 / math.pi)
        result = t * t
        np.subtract(1, result, out=result)
        result *= slope
        result *= x
        result += t
        result += 1
        result *= 0.5
    return np.multiply(result, grad, out=_like(x))


@quiet
def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """``exp(x) / Σ exp(x)`` along `axis`, shifted by the maximum so that it cannot overflow."""
    result = np.subtract(x, x.max(axis, keepdims=True, initial=-np.inf), out=_like(x))
    np.exp(result, out=result)
    result /= result.sum(axis, keepdims=True)
    return result


@quiet
def softmax_backward(grad: np.ndarray, out: np.ndarray, axis: int) -> np.ndarray:
    """``out · (grad − Σ grad · out)``, the sum along `axis`."""
    result = np.multiply(grad, out, out=_like(out))
    total = result.sum(axis, keepdims=True)
    np.subtract(grad, total, out=result)
    result *= out
    return result


@quiet
def log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """``x − log Σ exp(x)`` along `axis`, shifted by the maximum: exact also where softmax underflows to 0."""
    result = np.subtract(x, x.max(axis, keepdims=True, initial=-np.inf), out=_like(x))
    result -= np.log(np.exp(result).sum(axis, keepdims=True))
    return result


@quiet
def log_softmax_backward(grad: np.ndarray, out: np.ndarray, axis: int) -> np.ndarray:
    """``grad − exp(out) · Σ grad``, the sum along `axis`."""
    result = np.exp(out, out=_like(out))
    result *= grad.sum(axis, keepdims=True)
    return np.subtract(grad, result, out=result)


#: The gradients of activations whose derivative follows from the output alone, by name.
SLOPES = {"relu": relu_backward, "sigmoid": sigmoid_backward, "tanh": tanh_backward}
