"""Dropout from a counter-based random stream: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011).

The four words of block b depend on (seed, offset, b) alone, so tasks need no shared state, backward makes
the mask again instead of storing it, and every backend draws the same one. Element i, in C order, is word i
mod 4 of block i div 4.

Images in channels-last memory meet their words out of that order: those of some channels of an image are
drawn in it, and turned.
"""

from __future__ import annotations

import numpy as np

from ._jit import inline, jit
from ._math import either, like
from ._memory import arranged, empty, empty_nchw, in_channels_last, nhwc, plain, whole_vectors
from ._philox import draw, words_at_once
from ._tape import current, moved_by_python
from ._turn import turn_part
from .threads import parallel_for, pool

_CHUNK = 8192  # elements in a task
_DRAWN = 256  # words drawn before they are used; a divisor of the former, and a multiple of words_at_once()
_WORD = 4  # bytes
_CHANNELS, _HELD = 16, 16384  # least channels of an image in a task, and about how many words these have
_PIXELS = 64  # whose words are turned at a time


@inline
def _draw(words, count, first, seed, offset, at_once):
    """`count` words or more, from the block of element `first` on."""
    for i in range(0, count, at_once):
        draw(np.uint64((first + i) // 4), offset, seed, words.ctypes.data + _WORD * i)


@inline
def _kept(words, values, result, threshold, scale):
    for i in range(values.size):
        result[i] = either(words[i] >= threshold, values[i] * scale, like(scale, 0))


@inline
def _dropout_chunk(t, x, out, threshold, scale, seed, offset, at_once):
    words = np.empty(_DRAWN, np.uint32)
    for begin in range(t * _CHUNK, min((t + 1) * _CHUNK, x.size), _DRAWN):
        values, result = x[begin : begin + _DRAWN], out[begin : begin + _DRAWN]
        _draw(words, values.size, begin, seed, offset, at_once)
        _kept(words, values, result, threshold, scale)


@jit
def _dropout(pool, x, out, threshold, scale, source, at_once):
    count = (x.size + _CHUNK - 1) // _CHUNK
    parallel_for(pool, count, _dropout_chunk, (x, out, threshold, scale, source[0], source[1], at_once))


@inline
def _dropout_channels(t, x, out, threshold, scale, seed, offset, at_once, parts, each):
    _, pixels, channels = x.shape
    n, c = t // parts, t % parts * each
    rows = min(each, channels - c)
    first = (n * channels + c) * pixels
    before = first % 4  # words of the first block that are not theirs
    drawn = before + rows * pixels
    words = np.empty(whole_vectors(drawn, at_once), np.uint32)
    _draw(words, drawn, first, seed, offset, at_once)
    turned = np.empty((_PIXELS, rows), np.uint32)
    for begin in range(0, pixels, _PIXELS):
        count, source = min(_PIXELS, pixels - begin), words.ctypes.data + _WORD * (before + begin)
        turn_part(np.float32(0), source, pixels, rows, count, turned.ctypes.data, rows)
        for i in range(count):
            values, result = x[n, begin + i, c : c + rows], out[n, begin + i, c : c + rows]
            _kept(turned[i], values, result, threshold, scale)


@jit
def _dropout_images(pool, x, out, threshold, scale, source, at_once, each):
    parts = (x.shape[2] + each - 1) // each
    arguments = x, out, threshold, scale, source[0], source[1], at_once, parts, each
    parallel_for(pool, x.shape[0] * parts, _dropout_channels, arguments)


def dropout(x, p, seed, offset):
    if p >= 1:
        moved_by_python()
        return np.zeros_like(x, subok=False)
    threshold, one = np.uint32(int(p * 2**32)), x.dtype.type(1)
    scale = one / (one - x.dtype.type(p))
    source = np.array((seed, offset), np.uint64)
    tape = current()
    if tape is not None:
        tape.streams.append((source, seed, offset))
    numbers = threshold, scale, source, words_at_once()
    if in_channels_last(x):
        N, C, H, W = x.shape
        memory, out = empty_nchw(N, C, H, W, x.dtype)
        images = nhwc(x).reshape(N, H * W, C), memory.reshape(N, H * W, C)
        _dropout_images(pool(), *images, *numbers, max(_CHANNELS, _HELD // (H * W)))
        return out
    values = plain(x)
    out = empty(values.shape, x.dtype)
    _dropout(pool(), values.reshape(-1), out.reshape(-1), *numbers)
    return out if values is x else arranged(out, x)


def dropout_backward(grad, p, seed, offset):
    return dropout(grad, p, seed, offset)
