"""By which tiles, and in how many parts, the products of ``product.cuh`` are made.

Both follow from the shape alone, so that results have the same bits on every GPU: the time of each choice is
estimated with the figures of one GPU, and the least wins. The figures were fitted to times of an H200, of
the choices for 56 products in float, most of the benchmarks' networks; they need only rank the choices.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

from ._launch import launch

CODES = {None: 0, "relu": 1, "leaky_relu": 2, "sigmoid": 3, "tanh": 4, "gelu": 5}

# Numbers that kernels hold as 32 bits: rows, columns, pixels, and terms of one part. More of them are made in
# several launches, in pieces of a multiple of 4, which begin on 16-byte boundaries.
MOST = 2**31 - 2**12

_MULTIPROCESSORS = 132
_LATENCY = 410  # cycles that a step over DEPTH terms waits for numbers, where no other block multiplies
_BEGIN = 1900  # cycles of a kernel beside its blocks
_LAUNCH = 3400  # cycles until a second kernel, which adds the parts, has begun and ended
_PARTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 264)


class Tile(NamedTuple):
    """A tile of ``product.cuh``.

    `depth` is for float; `cycles` those that a multiprocessor needs for a term of the tile, also in float,
    and `ends` those that a block takes beside, to begin and to finish.
    """

    name: str
    rows: int
    columns: int
    depth: int
    cycles: float
    ends: float


_TILES = (
    Tile("large", 128, 64, 16, 93, 3100),
    Tile("medium", 64, 64, 32, 57, 1400),
    Tile("narrow", 128, 32, 32, 50, 2500),
    Tile("small", 32, 32, 64, 18, 920),
    Tile("slim", 256, 8, 16, 61, 1000),
)


class Plan(NamedTuple):
    """How a product is made: by the kernels of that name, so many blocks, parts of `chunk` terms."""

    name: str
    blocks: int
    chunk: int
    parts: int


@functools.lru_cache(4096)
def plan(M: int, N: int, terms: int, groups: int, splits: bool, size: int) -> Plan:
    """For `groups` products of (M, terms) by (terms, N) of numbers of `size` bytes.

    `splits`: whether the terms may be cut into parts.
    """
    return min(_candidates(M, N, terms, groups, splits, size))[1]


def _candidates(
    M: int, N: int, terms: int, groups: int, splits: bool, size: int
) -> Iterator[tuple[float, Plan]]:
    for tile in _TILES:
        blocks = -(-M // tile.rows) * -(-N // tile.columns)
        depth = tile.depth * 4 // size
        steps = max(1, -(-terms // depth))
        for wished in _PARTS if splits else (1,):
            each = -(-steps // wished)  # whole steps, so that parts begin on 16-byte boundaries
            each = max(1, min(each, MOST // depth)) if splits else each
            parts = -(-steps // each)
            # two blocks at a time, one of which multiplies while the other waits; at the end one may be alone
            pairs, rest = divmod(blocks * groups * parts, 2 * _MULTIPROCESSORS)
            pairs, alone = pairs + (rest > _MULTIPROCESSORS), 0 < rest <= _MULTIPROCESSORS
            busy = tile.cycles * size / 4 * depth
            step = pairs * max(2 * busy, busy + _LATENCY) + alone * (busy + _LATENCY)
            cycles = _BEGIN + each * step + (2 * pairs + alone) * tile.ends
            if parts > 1:
                cycles += _LAUNCH + parts * (_LATENCY / 8 + M * N * groups * size / 3900)
            yield cycles, Plan(tile.name, blocks, each * depth, parts)


def pieces(count: int, width: int = 1) -> list[slice]:
    """Of so many rows, or images of `width` rows, those that one launch can number; one piece at least."""
    step = MOST // max(width, 1)
    step = step // 4 * 4 or step
    if not step:
        raise ValueError(f"an image of {width:,} pixels is more than a kernel can number, {MOST:,}")
    return [slice(first, min(first + step, count)) for first in range(0, max(count, 1), step)]


@functools.lru_cache(1024)
def divisor(by: int) -> int:
    """What ``Divisor`` in ``divisor.cuh`` is made of: a factor, and above it by how many bits to shift."""
    shift = 31 + (by - 1).bit_length()
    return -(-(1 << shift) // by) | shift << 32


def wide(*arrays: Any) -> bool:
    """Whether 32 bits cannot count the numbers of one of them."""
    return max(array.size for array in arrays) > MOST


def add_parts(stem: str, parts: Any, out: Any, behind: Any, bias: Any, code: int) -> None:
    """``out = activation(parts[0] + parts[1] + ... + bias)``; a part may hold the numbers of `behind` too."""
    columns, rest = 0 if bias is None else bias.size, 0 if behind is None else behind.size
    arrays = parts, len(parts), out, out.size, behind, rest, bias
    launch(stem, "add_parts", out.dtype, out.size + rest, *arrays, columns, code)
