"""Dropout, from a counter-based stream: the mask is made again in the backward, never kept."""

from __future__ import annotations

from operator import index

from fastnn.functional._check import Array, place


def _check(p: float, seed: int, offset: int) -> tuple[int, int]:
    if not 0 <= p <= 1:
        raise ValueError(f"p must be a probability, 0 ... 1, not {p!r}")
    seed, offset = index(seed), index(offset)
    if not (0 <= seed < 2**64 and 0 <= offset < 2**64):
        raise ValueError(f"seed and offset must be in 0 ... 2**64 - 1, not {seed} and {offset}")
    return seed, offset


def dropout(x: Array, p: float, seed: int, offset: int) -> Array:
    """Zero each element with probability `p` and multiply the others by ``1/(1 − p)``.

    The same (seed, offset) gives the same mask, on every backend: word i of the stream decides element i, in
    C order of the logical shape. ``fastnn.backend.next_stream()`` gives a pair not used before.

    Parameters
    ----------
    x : array of any shape
    p : float
        0 ≤ p ≤ 1; at 1 the result is all zeros.
    seed, offset : int
        0 ≤ seed, offset < 2**64.

    Returns
    -------
    array, as x

    Raises
    ------
    TypeError
        `x` is not a float32 or float64 array.
    ValueError
        `p`, `seed` or `offset` is out of range.

    References
    ----------
    Srivastava et al. (2014), "Dropout: a simple way to prevent neural networks from overfitting"; the stream
    is Philox4x32-10 of Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3".
    """
    seed, offset = _check(p, seed, offset)
    backend, (x,) = place(("x",), x)
    if p == 1:
        return backend.xp.zeros_like(x)
    return backend.random.dropout(x, float(p), seed, offset)


def dropout_backward(grad: Array, p: float, seed: int, offset: int) -> Array:
    """Gradient of :func:`dropout`: its mask and factor, on `grad`.

    Parameters
    ----------
    grad : array of the shape of x
    p, seed, offset : as given to :func:`dropout`

    Returns
    -------
    array, as grad

    Raises
    ------
    TypeError, ValueError
        As :func:`dropout`.
    """
    seed, offset = _check(p, seed, offset)
    backend, (grad,) = place(("grad",), grad)
    if p == 1:
        return backend.xp.zeros_like(grad)
    return backend.random.dropout_backward(grad, float(p), seed, offset)
