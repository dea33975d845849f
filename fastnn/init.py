"""Initial values of parameters.

An initialiser is a function ``(rng, shape, fan_in, fan_out, dtype) -> array``: layers take one as ``init=``,
or its name here as a string. Values are drawn in float64 and rounded, so that a seed gives the same network
in both dtypes. ``fan_in`` is how many inputs go into an output, ``fan_out`` how many outputs an input goes
into.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Initializer = Callable[[np.random.Generator, Shape, int, int, Any], np.ndarray]


def _normal(rng: np.random.Generator, shape: Shape, std: float, dtype: Any) -> np.ndarray:
    return (std * rng.standard_normal(shape)).astype(dtype)


def _uniform(rng: np.random.Generator, shape: Shape, bound: float, dtype: Any) -> np.ndarray:
    return rng.uniform(-bound, bound, shape).astype(dtype)


def fan_in_uniform(
    rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int, dtype: Any
) -> np.ndarray:
    """Uniform in ``±1/√fan_in``: the layers' own default, which is torch's too."""
    return _uniform(rng, shape, max(fan_in, 1) ** -0.5, dtype)


def he_normal(rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int, dtype: Any) -> np.ndarray:
    """Normal with standard deviation ``√(2/fan_in)``, for ReLU (He et al. 2015)."""
    return _normal(rng, shape, (2 / max(fan_in, 1)) ** 0.5, dtype)


def he_uniform(rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int, dtype: Any) -> np.ndarray:
    """Uniform in ``±√(6/fan_in)``: the variance of :func:`he_normal`."""
    return _uniform(rng, shape, (6 / max(fan_in, 1)) ** 0.5, dtype)


def xavier_normal(
    rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int, dtype: Any
) -> np.ndarray:
    """Normal with variance ``2/(fan_in + fan_out)``, for tanh and sigmoid (Glorot & Bengio 2010)."""
    return _normal(rng, shape, (2 / max(fan_in + fan_out, 1)) ** 0.5, dtype)


def xavier_uniform(
    rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int, dtype: Any
) -> np.ndarray:
    """Uniform in ``±√(6/(fan_in + fan_out))``: the variance of :func:`xavier_normal`."""
    return _uniform(rng, shape, (6 / max(fan_in + fan_out, 1)) ** 0.5, dtype)


def lecun_uniform(
    rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int, dtype: Any
) -> np.ndarray:
    """Uniform in ``±√(3/fan_in)``: variance ``1/fan_in`` (LeCun et al. 1998)."""
    return _uniform(rng, shape, (3 / max(fan_in, 1)) ** 0.5, dtype)


def zeros(rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int, dtype: Any) -> np.ndarray:
    """All 0."""
    return np.zeros(shape, dtype)


def normal(std: float) -> Initializer:
    """An initialiser: normal with mean 0 and standard deviation `std`, whatever the fans."""

    def draw(rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int, dtype: Any) -> np.ndarray:
        return _normal(rng, shape, std, dtype)

    return draw


def constant(value: float) -> Initializer:
    """An initialiser: `value` everywhere."""

    def fill(rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int, dtype: Any) -> np.ndarray:
        return np.full(shape, value, dtype)

    return fill


_BY_NAME: dict[str, Initializer] = {
    f.__name__: f
    for f in (fan_in_uniform, he_normal, he_uniform, xavier_normal, xavier_uniform, lecun_uniform, zeros)
}


def find(init: str | Initializer) -> Initializer:
    """The initialiser named `init`; a function is itself.

    Raises
    ------
    ValueError
        No initialiser has that name; the message lists those that are.
    """
    if callable(init):
        return init
    if init not in _BY_NAME:
        raise ValueError(
            f"no initialiser is called {init!r}: there are {', '.join(_BY_NAME)}, or give a function"
        )
    return _BY_NAME[init]
