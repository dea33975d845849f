"""The normal distribution, of which the GELU is made: its bell, its density and the share of it below x.

Written as ``_math.py`` is, and for the same reason. The share beyond z > 0 is e^(-z^2/2) E(z), where E falls
slowly and smoothly from 1/2, about as 1/z: in float32 a polynomial in u = z / (z + 4), which keeps all digits
of a small z and lies below 1 for a large one. One exponential serves the GELU's slope, which asks for the
density as well.

A float32 bell is kept 2^64 times as high, above the denormals, and the constants that it meets are as much
lower: the last product rounds once, and none is spent on taking the factor off.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload

from ._jit import EXACT, inline
from ._math import _bits_of_float, _parts4, _power4, _raised4, _scaled4, exp_nonpositive, f4, f8

_one4, _four4, _minus_half4, _positive = f4(1), f4(4), f4(-0.5), np.int32(0)
_half8, _minus_half8, _root8 = f8(0.5), f8(-0.5), f8(math.sqrt(0.5))
_end = f4(14.5)  # from here on density and share are zero; of an infinity u would be NaN
_density4, _density8 = f4(2.0**-64 / math.sqrt(2 * math.pi)), f8(1 / math.sqrt(2 * math.pi))
# 1/2 and (E - 1/2) / u, to 2^-27.8 of E's product with the bell, for z >= 0: a minimax fit; 2^-64 times that
_half4, e0, e1, e2, e3, e4, e5, e6 = (
    f4(2.0**-64 * c)
    for c in (0.5, -1.5957683, 2.4041853, -2.105667, 0.86418074, 0.14128411, -0.30000997, 0.09181255)
)


def bell(x):
    """e^(-x^2 / 2), raised, for a float32 or float64 inside a kernel: what the two below are made of."""
    raise NotImplementedError("for compiled code only")


def normal_density(x, bell):
    """The height of the normal distribution at x, likewise, `bell` being that of `x`."""
    raise NotImplementedError("for compiled code only")


def normal_cdf(x, bell):
    """The share of the normal distribution below x, likewise; for float64 it is made of the C library's error
    function."""
    raise NotImplementedError("for compiled code only")


@inline(fastmath=EXACT)
def _bell4(x):
    z = min(abs(x), _end)
    n, r = _parts4(_minus_half4 * z * z, _raised4)
    return _scaled4(_power4(r), n)


@inline(fastmath=EXACT)
def _bell8(x):
    return exp_nonpositive(_minus_half8 * x * x)


@inline(fastmath=EXACT)
def _cdf4(x, bell):
    z = min(abs(x), _end)
    u = z / (z + _four4)
    beyond = bell * (_half4 + u * (e0 + u * (e1 + u * (e2 + u * (e3 + u * (e4 + u * (e5 + u * e6)))))))
    return _one4 - beyond if _bits_of_float(x) >= _positive else beyond  # the sign bit itself is what blends


@inline(fastmath=EXACT)
def _cdf8(x, bell):
    return _half8 + _half8 * math.erf(x * _root8)


@overload(bell)
def _bell(x):
    return (lambda x: _bell4(x)) if x == types.float32 else (lambda x: _bell8(x))


@overload(normal_density)
def _normal_density(x, bell):
    return (lambda x, bell: bell * _density4) if x == types.float32 else (lambda x, bell: bell * _density8)


@overload(normal_cdf)
def _normal_cdf(x, bell):
    return (lambda x, bell: _cdf4(x, bell)) if x == types.float32 else (lambda x, bell: _cdf8(x, bell))
