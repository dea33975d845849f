"""exp, tanh, sigmoid, log, log1p for float32 and float64, written so that LLVM turns a loop over them
into vector code.

A call to libm stops vectorisation; these are straight lines of arithmetic. e^x is 2^n e^r with n = round(x
/ ln 2) and |r| <= ln 2 / 2. e^r is a polynomial as long as a rounding would notice, a minimax fit for float32
and the Taylor series for float64; n ln 2 is taken off in two parts (Cody and Waite 1980), the first so short
that its product with n is exact; 2^n is put into the exponent's bits, in two factors, so that results reach
down into the denormals and up to Inf as they should.

NaN and ±Inf give what NumPy gives. (A bound written as ``low if x < low else x`` lets a NaN pass.)

These functions rest on exact rounding: nothing here may be reassociated (see `EXACT`).
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from ._jit import EXACT, inline


@intrinsic
def _float_of_bits(typingctx, bits):
    """The float32 (float64) whose bits are the int32 (int64) `bits`."""
    result, kind = (
        (types.float32, ir.FloatType()) if bits == types.int32 else (types.float64, ir.DoubleType())
    )
    return result(bits), lambda context, builder, signature, args: builder.bitcast(args[0], kind)


@intrinsic
def _bits_of_float(typingctx, x):
    """The bits of a float32 (float64) as an int32 (int64)."""
    result, kind = (types.int32, ir.IntType(32)) if x == types.float32 else (types.int64, ir.IntType(64))
    return result(x), lambda context, builder, signature, args: builder.bitcast(args[0], kind)


@intrinsic
def either(typingctx, condition, a, b):
    """``a if condition else b`` with both computed: what is read on a condition is read through a mask, and
    waits for it."""
    return a(condition, a, b), lambda context, builder, signature, args: builder.select(*args)


f4, f8 = np.float32, np.float64
_one4, _one8, _two4, _two8 = f4(1), f8(1), f4(2), f8(2)
_c8 = [f8(1 / math.factorial(k)) for k in range(14)]
# adding and subtracting 1.5 * 2**(bits of the mantissa) rounds to an integer
_log2e4, _round4, _high4, _low4 = (
    f4(1 / math.log(2)),
    f4(1.5 * 2**23),
    f4(0.693359375),
    f4(-2.12194440054690583e-4),
)
_log2e8, _round8, _high8, _low8 = (
    f8(1 / math.log(2)),
    f8(1.5 * 2**52),
    f8(0.693145751953125),
    f8(1.42860682030941723e-6),
)
_min4, _max4, _min8, _max8 = f4(-104), f4(89), f8(-746), f8(710)  # beyond: 0 and Inf
_raised4, _lower4 = f4(_round4 + 64), f4(2.0**-64)
# of a float32: how many bits its fraction has, and where its sign and exponent, and its sign, are
_fraction, _exponent, _sign = np.int32(23), np.int32(-1 << 23), np.int32(-1 << 31)
# (e^r - 1 - r) / r^2, to 2^-28 of e^r for |r| <= ln 2 / 2: a minimax fit
a2, a3, a4, a5, a6 = map(f4, (0.49999994, 0.166665211, 0.0416682661, 0.00836867467, 0.00138206617))
# tanh x / x - 1 over x^2, to 2^-29 of tanh x for |x| <= 9/16: a minimax fit
t3, t5, t7, t9, t11 = map(f4, (-0.33333313, 0.13332452, -0.053837415, 0.021007406, -0.0061797425))
b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13 = _c8[2:]


@inline(fastmath=EXACT)
def _parts4(y, rounds=_round4):
    """(n << 23, r) with y = n ln 2 + r. Of the number that has been rounded, n is the lowest bits. (With
    `rounds` raised by an integer, n as it is returned is raised by that.)"""
    t = y * _log2e4 + rounds
    n = t - rounds
    return np.int32(_bits_of_float(t) << _fraction), (y - n * _high4) - n * _low4


@inline(fastmath=EXACT)
def _scaled4(x, n):
    """2^n x for a float32 x and a result in the range of normal exponents, n being given as n << 23."""
    return _float_of_bits(np.int32(_bits_of_float(x) + n))


@inline(fastmath=EXACT)
def _signed4(x, like):
    """x >= 0 with the sign of `like`."""
    return _float_of_bits(np.int32(_bits_of_float(x) | (_bits_of_float(like) & _sign)))


@inline(fastmath=EXACT)
def _power8(n):
    """2**n for an int64 n in the range of normal exponents."""
    return _float_of_bits(np.int64((n + np.int64(1023)) << np.int64(52)))


@inline(fastmath=EXACT)
def _rest4(r):
    """(e^r - 1 - r) / r^2."""
    return a2 + r * (a3 + r * (a4 + r * (a5 + r * a6)))


@inline(fastmath=EXACT)
def _power4(r):
    """e^r, its last two terms added last."""
    return _one4 + r * (_one4 + r * _rest4(r))


@inline(fastmath=EXACT)
def _tail4(r):
    """e^r - 1."""
    return r + r * r * _rest4(r)


@inline(fastmath=EXACT)
def _tail8(r):
    high = b8 + r * (b9 + r * (b10 + r * (b11 + r * (b12 + r * b13))))
    return r + r * r * (b2 + r * (b3 + r * (b4 + r * (b5 + r * (b6 + r * (b7 + r * high))))))


@inline(fastmath=EXACT)
def _exp4(x):
    y = _min4 if x < _min4 else x
    n, r = _parts4(_max4 if y > _max4 else y)
    half = np.int32((n >> np.int32(1)) & _exponent)
    return _scaled4(_power4(r), np.int32(n - half)) * _scaled4(_one4, half)


@inline(fastmath=EXACT)
def _exp_nonpositive4(x):
    # Only 2^n can be too small for an exponent: 2^(n + 64) is not, and one product takes the 64 off again
    n, r = _parts4(_min4 if x < _min4 else x, _raised4)
    return _scaled4(_power4(r), n) * _lower4


@inline(fastmath=EXACT)
def _exp8(x):
    y = min(max(x, _min8), _max8)
    n = (y * _log2e8 + _round8) - _round8
    r = (y - n * _high8) - n * _low8
    k = np.int64(n)
    half = k >> np.int64(1)
    result = ((_one8 + _tail8(r)) * _power8(half)) * _power8(k - half)
    return result if x == x else x


@inline(fastmath=EXACT)
def _tanh4(x):
    # Up to 9/16 an odd polynomial; beyond, 1 - 2 / (e^2|x| + 1), where 1 swallows the error; from 10 on, 1.
    y = abs(x)
    z = y * y
    small = y + y * z * (t3 + z * (t5 + z * (t7 + z * (t9 + z * t11))))
    n, r = _parts4(min(_two4 * y, f4(20)))
    power = _scaled4(_one4, n)
    large = _one4 - _two4 / (power * _tail4(r) + (power + _one4))
    return _signed4(large if y > f4(0.5625) else small, x)


@inline(fastmath=EXACT)
def _tanh8(x):
    y = min(_two8 * abs(x), f8(40))
    n = (y * _log2e8 + _round8) - _round8
    power = _power8(np.int64(n))
    m = power * _tail8((y - n * _high8) - n * _low8) + (power - _one8)
    t = m / (m + _two8)
    t = -t if x < 0 else t
    return t if abs(x) > f8(0) else x  # a zero keeps its sign, a NaN stays


def exp(x):
    """e^x for a float32 or float64 inside a kernel."""
    raise NotImplementedError("for compiled code only")


def exp_nonpositive(x):
    """The same number for x <= 0, or NaN, in fewer instructions."""
    raise NotImplementedError("for compiled code only")


def tanh(x):
    """tanh x, likewise."""
    raise NotImplementedError("for compiled code only")


def sigmoid(x):
    """1 / (1 + e^-x), likewise; from e^-|x|, which cannot overflow."""
    raise NotImplementedError("for compiled code only")


@overload(exp)
def _exp(x):
    return (lambda x: _exp4(x)) if x == types.float32 else (lambda x: _exp8(x))


@overload(exp_nonpositive)
def _exp_nonpositive(x):
    return (lambda x: _exp_nonpositive4(x)) if x == types.float32 else (lambda x: _exp8(x))


@overload(tanh)
def _tanh(x):
    return (lambda x: _tanh4(x)) if x == types.float32 else (lambda x: _tanh8(x))


@inline(fastmath=EXACT)
def _sigmoid4(x):
    power = _exp_nonpositive4(-abs(x))
    whole = _one4 + power
    part = power / whole
    part -= part * (power - (whole - _one4))  # what rounding took from the sum
    return _one4 - part if x >= 0 else part


@inline(fastmath=EXACT)
def _sigmoid8(x):
    e = _exp8(-abs(x))
    return (_one8 if x >= 0 else e) / (_one8 + e)


@overload(sigmoid)
def _sigmoid(x):
    return (lambda x: _sigmoid4(x)) if x == types.float32 else (lambda x: _sigmoid8(x))


_ln2_4, _ln2_8 = f4(math.log(2)), f8(math.log(2))
_ROOTS = {32: (0x3F3504F3, 23), 64: (0x3FE6A09E667F3BCD, 52)}  # the bits of sqrt(1/2), and of a fraction
# (log (1 + x) - x) / x^2, to 2^-27 of log (1 + x) for sqrt(1/2) <= 1 + x < sqrt(2): a minimax fit
m2, m3, m4, m5, m6, m7, m8, m9, m10 = map(
    f4,
    (
        -0.499999883,
        0.333333257,
        -0.25001583,
        0.200019739,
        -0.166090826,
        0.141818252,
        -0.132429879,
        0.129044331,
        -0.0762177755,
    ),
)
# (log (1 + x) - x) / x^2, to 2^-27 of log (1 + x) for 0 <= x <= 1: a minimax fit
l2, l3, l4, l5, l6, l7, l8, l9, l10 = map(
    f4,
    (
        -0.499999315,
        0.333304644,
        -0.24958019,
        0.196921021,
        -0.153448805,
        0.106611282,
        -0.057457231,
        0.0200862419,
        -0.00329046859,
    ),
)
d3, d5, d7, d9, d11, d13, d15, d17, d19, d21 = (f8(1 / n) for n in range(3, 22, 2))


@intrinsic
def _octaves(typingctx, x):
    """k and m for a normal x > 0: x = 2^k m with m in [sqrt(1/2), sqrt(2)). Numba's own integers would be of
    64 bits, and half as many in a vector."""
    result = types.Tuple((types.int32 if x == types.float32 else types.int64, x))

    def emit(context, builder: ir.IRBuilder, signature, args):
        kind = ir.IntType(x.bitwidth)
        root, fraction = map(kind, _ROOTS[x.bitwidth])
        bits = builder.bitcast(args[0], kind)
        k = builder.ashr(builder.sub(bits, root), fraction)
        m = builder.bitcast(builder.sub(bits, builder.shl(k, fraction)), args[0].type)
        return context.make_tuple(builder, result, (k, m))

    return result(x), emit


@inline(fastmath=EXACT)
def _log4(x):
    """log x for a normal x > 0."""
    k, m = _octaves(x)
    f = m - _one4
    high = m6 + f * (m7 + f * (m8 + f * (m9 + f * m10)))
    return f4(k) * _ln2_4 + (f + f * f * (m2 + f * (m3 + f * (m4 + f * (m5 + f * high)))))


# log m = 2 artanh s with s = (m - 1) / (m + 1); artanh s = s + s^3/3 + s^5/5 + ...
@inline(fastmath=EXACT)
def _log8(x):
    k, m = _octaves(x)
    s = (m - _one8) / (m + _one8)
    t = s * s
    high = d13 + t * (d15 + t * (d17 + t * (d19 + t * d21)))
    return f8(k) * _ln2_8 + _two8 * (s + s * t * (d3 + t * (d5 + t * (d7 + t * (d9 + t * (d11 + t * high))))))


@inline(fastmath=EXACT)
def _log1p4(x):
    """log (1 + x) for 0 <= x <= 1."""
    high = l6 + x * (l7 + x * (l8 + x * (l9 + x * l10)))
    return x + x * x * (l2 + x * (l3 + x * (l4 + x * (l5 + x * high))))


@inline(fastmath=EXACT)
def _log1p8(x):
    """log (1 + x) for 0 <= x <= 1: by log, and what rounding took from 1 + x put back."""
    y = _one8 + x
    return _log8(y) + (x - (y - _one8)) / y


def log(x):
    """log x for a normal positive float32 or float64 inside a kernel; anything else gives nonsense."""
    raise NotImplementedError("for compiled code only")


def log1p(x):
    """log (1 + x) for x in [0, 1], likewise; NaN stays NaN."""
    raise NotImplementedError("for compiled code only")


@overload(log)
def _log(x):
    return (lambda x: _log4(x)) if x == types.float32 else (lambda x: _log8(x))


@overload(log1p)
def _log1p(x):
    return (lambda x: _log1p4(x)) if x == types.float32 else (lambda x: _log1p8(x))


def like(x, value):
    """`value` in the type of `x`, inside a kernel: with a bare literal, float32 arithmetic would go on in
    float64."""
    raise NotImplementedError("for compiled code only")


@overload(like)
def _like(x, value):
    return (
        (lambda x, value: np.float32(value)) if x == types.float32 else (lambda x, value: np.float64(value))
    )


def itemsize(x):
    """The bytes of a float32 or float64, inside a kernel."""
    raise NotImplementedError("for compiled code only")


@overload(itemsize)
def _itemsize(x):
    return (lambda x: 4) if x == types.float32 else (lambda x: 8)
