"""Dropout over a counter-based random stream: the mask follows from (seed, offset, position), unstored.

The generator is Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2,
3"): ten rounds of multiply and exchange turn a counter of four 32-bit words, under a key of two, into four
random words.
"""

from __future__ import annotations

import numpy as np

from fastnn.kernels.reference._shared import quiet

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)  # added to the key between rounds
_LOW = 0xFFFFFFFF


def _philox4x32(
    counter: tuple[np.ndarray, ...], key: tuple[int, int], rounds: int = 10
) -> tuple[np.ndarray, ...]:
    """Four words of 32 random bits for each counter.

    Parameters
    ----------
    counter : four uint64 arrays that broadcast together
        Words of 32 bits, the low word first; overwritten by nothing.
    key : two ints below 2**32
    rounds : int

    Returns
    -------
    four uint64 arrays, each value below 2**32
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    low, half = np.uint64(_LOW), np.uint64(32)
    for _ in range(rounds):
        first, second = c0 * np.uint64(_MULTIPLIERS[0]), c2 * np.uint64(_MULTIPLIERS[1])
        c0, c1 = (second >> half) ^ c1 ^ np.uint64(k0), second & low
        c2, c3 = (first >> half) ^ c3 ^ np.uint64(k1), first & low
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


def _random_words(size: int, seed: int, offset: int) -> np.ndarray:
    """The first `size` uint32 words of stream (`seed`, `offset`).

    Word i is number ``i % 4`` of block ``i // 4``; a block's counter is (block low, block high, offset low,
    offset high), its key (seed low, seed high).
    """
    block = np.arange(-(-size // 4), dtype=np.uint64)
    fixed = np.array([offset & _LOW, offset >> 32], np.uint64)
    counter = (block & np.uint64(_LOW), block >> np.uint64(32), fixed[:1], fixed[1:])
    words = np.empty((len(block), 4), np.uint32)
    for i, word in enumerate(_philox4x32(counter, (seed & _LOW, seed >> 32))):
        words[:, i] = word
    return words.reshape(-1)[:size]


def _drop(x: np.ndarray, p: float, seed: int, offset: int) -> np.ndarray:
    result = np.zeros_like(x, subok=False)
    if p < 1:
        kept = (_random_words(x.size, seed, offset) >= np.uint32(int(p * 2**32))).reshape(x.shape)
        one = x.dtype.type(1)
        np.multiply(x, one / (one - x.dtype.type(p)), out=result, where=kept)
    return result


@quiet
def dropout(x: np.ndarray, p: float, seed: int, offset: int) -> np.ndarray:
    """Zero each element with probability `p`, multiply the others by ``1/(1 − p)`` (Srivastava et al. 2014).

    Element number i, in C order of the logical shape, stays where word i of stream (`seed`, `offset`) is at
    least ``⌊p · 2³²⌋``. The factor is computed in the dtype of `x`. A dropped element is 0, whatever it was.

    Parameters
    ----------
    x : array
    p : float
        0 ≤ p ≤ 1; at 1 everything is dropped.
    seed, offset : int
        0 ≤ seed, offset < 2**64.

    Returns
    -------
    as x
    """
    return _drop(x, p, seed, offset)


@quiet
def dropout_backward(grad: np.ndarray, p: float, seed: int, offset: int) -> np.ndarray:
    """Gradient of :func:`dropout`: the same mask, made again, and the same factor, on `grad`."""
    return _drop(grad, p, seed, offset)
