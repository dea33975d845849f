"""B copied into panels as wide as a register tile, for the products of ``linear.py``.

Where rows of B begin within a cache line (of 200 columns every second one does), a vector read of them often
lies on two lines: a fifth of the product's time. Where rows lie a multiple of a kilobyte apart, they share
cache sets. If many rows of A will pass, a copy pays: of all of B beforehand, or for some hundred rows of C in
each task, of the block of terms that it is about to use. Either way a block of terms is copied panel after
panel, each term of a panel in whole vectors,

    [ terms k, k + 1, ... of panel 0 ][ the same of panel 1 ] ...

and a copy of all of B is one block after the other.
"""

from __future__ import annotations

import numpy as np

from ._jit import inline
from ._memory import copy, whole_vectors
from ._rows import column_sums
from ._vectors import LINE
from .threads import parallel_for

IN_PLACE, WHOLE, BLOCKWISE = 0, 1, 2
LARGE = 1 << 17  # bytes of B, from which on it matters how it is read
_FAR = 1 << 21  # bytes of A, from which on it comes from memory
_APART = 1024  # rows of B a multiple of so many bytes apart fall into few cache sets
_NARROW = 1024  # bytes of a row of B up to which a block of it stays in the L2 cache
_CROWDED, _SOME, _WIDE = 96, 256, 768  # rows of C, from which on copying such a B pays
_WIDE_FAR = 256  # the same for _WIDE where A comes from memory
_PIECES = 4  # of a block of terms that tasks copy


@inline
def far(a):
    """Whether A comes from memory."""
    return a.size * a.itemsize > _FAR


@inline
def count_of_panels(columns, tiles):
    """Into how many panels `columns` are cut where they are copied."""
    return (columns + tiles[0] * tiles[1] - 1) // (tiles[0] * tiles[1])


@inline
def streamed(b, tiles):
    """How many terms to go through at a time where A is in the caches."""
    panels, vectors = count_of_panels(b.shape[1], tiles), whole_vectors(b.shape[1], tiles[0]) // tiles[0]
    widest = (vectors + panels - 1) // max(panels, 1) * tiles[0]
    return tiles[tiles.size - 1] // max(widest * b.itemsize, 1)


@inline
def edges_of_panels(columns, count, lanes):
    """Where each of `count` panels begins, and the last ends, in whole vectors.

    All have nearly as many: a panel of a single one, left over, would run at little more than half the speed
    of the others.
    """
    vectors = whole_vectors(columns, lanes) // lanes
    edges = np.empty(count + 1, np.int64)
    for p in range(count + 1):
        edges[p] = p * vectors // count * lanes
    return edges


@inline
def packing(a, rows, transposed, tiles, b, roomy):
    """What of B is copied into panels: nothing, all of it beforehand, or in each task the block at hand.

    All of it from fewer rows on where A comes from memory, and of a transpose if there is room for it.
    """
    row = b.shape[1] * b.itemsize
    many = _WIDE_FAR if far(a) and row <= _NARROW else _WIDE
    if b.size * b.itemsize >= LARGE and (row % LINE != 0 or b.ctypes.data % LINE != 0):
        if row <= _NARROW and ((transposed and not roomy) or rows < many):
            return BLOCKWISE if rows >= _SOME else IN_PLACE
        if rows >= many:
            return WHOLE
    crowded = row % _APART == 0 and count_of_panels(b.shape[1], tiles) > 1
    return WHOLE if crowded and rows >= _CROWDED else IN_PLACE


@inline
def pack(edges, b, first, depth, begin, end, packed):
    """Of the block of `depth` terms of `b` from `first` on, copy those from `begin` to `end`."""
    for k in range(begin, end):
        for panel in range(edges.size - 1):
            j, columns = edges[panel], min(edges[panel + 1], b.shape[1]) - edges[panel]
            at = j * depth + k * (edges[panel + 1] - j)
            copy(b[first + k, j : j + columns], packed[at : at + columns])


@inline
def _pack_task(t, blocks, parts, most, edges, b, packed, sums):
    """Copy piece `t` of all of B, whose terms are in `parts` parts and these in so many blocks of `most`; and
    add up its columns, where there is a row of `sums` for it."""
    block, piece = t // _PIECES % blocks, t % _PIECES
    part, terms = t // _PIECES // blocks, len(b)
    first = part * terms // parts + block * most
    depth = min(most, (part + 1) * terms // parts - first)
    begin, end = piece * depth // _PIECES, (piece + 1) * depth // _PIECES
    pack(edges, b, first, depth, begin, end, packed[first * edges[-1] :])
    if len(sums):
        column_sums(b[first + begin : first + end], sums[t])


@inline
def pack_all(pool, parts, most, edges, b, packed, summed):
    """Copy all of B, whose terms are taken in `parts` parts and these in blocks of `most`. If its columns are
    `summed`, what must be added up for it, else nothing."""
    blocks = ((len(b) + parts - 1) // parts + most - 1) // most
    pieces = parts * blocks * _PIECES
    sums = np.empty((pieces if summed else 0, b.shape[1]), b.dtype)
    parallel_for(pool, pieces, _pack_task, (blocks, parts, most, edges, b, packed, sums))
    return sums
