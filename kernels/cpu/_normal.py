"""The normal distribution, of which the GELU is made: its bell and the share of it that lies below x.

Written as ``_math.py`` is, and for the same reason. The share beyond z > 0 is e^(-z^2/2) E(z), where E falls
slowly and smoothly from 1/2, about as 1/z: in float32 a polynomial in u = z / (z + 4), which keeps all digits
of a small z and lies below 1 for a large one. One exponential serves the GELU's slope, which asks for the
bell as well.
"""

from __future__ import annotations

import math

from numba import types
from numba.extending import overload

from ._jit import EXACT, inline
from ._math import exp_nonpositive, f4, f8, like

_one4, _half4, _half8, _root8 = f4(1), f4(0.5), f8(0.5), f8(math.sqrt(0.5))
_flat, _end = f4(0.25), f4(16)  # of an infinity u would be NaN; from there on the bell is zero
# (E - 1/2) / u, to 2^-27.8 of E's product with the bell, for z >= 0: a minimax fit
e0, e1, e2, e3, e4, e5, e6 = map(
    f4, (-1.5957683, 2.4041853, -2.105667, 0.86418074, 0.14128411, -0.30000997, 0.09181255)
)


@inline(fastmath=EXACT)
def bell(x):
    """e^(-x^2 / 2) for a float32 or float64 inside a kernel."""
    return exp_nonpositive(like(x, -0.5) * x * x)


def normal_cdf(x, bell):
    """The share of the normal distribution below x, likewise, `bell` being that of `x`; for float64 it is
    made of the C library's error function."""
    raise NotImplementedError("for compiled code only")


@inline(fastmath=EXACT)
def _cdf4(x, bell):
    z = min(_flat * abs(x), _end)
    u = z / (_one4 + z)
    beyond = bell * (_half4 + u * (e0 + u * (e1 + u * (e2 + u * (e3 + u * (e4 + u * (e5 + u * e6)))))))
    return _one4 - beyond if x >= 0 else beyond


@inline(fastmath=EXACT)
def _cdf8(x, bell):
    return _half8 + _half8 * math.erf(x * _root8)


@overload(normal_cdf)
def _normal_cdf(x, bell):
    return (lambda x, bell: _cdf4(x, bell)) if x == types.float32 else (lambda x, bell: _cdf8(x, bell))
