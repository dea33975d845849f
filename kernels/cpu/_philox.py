"""Random words by Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011), blocks of them in the lanes of
vectors.

A round multiplies two words of 32 bits to 64. Each block therefore has a lane of 64 bits in four vectors, one
of each word, which lies in the lower half; the upper may hold anything, as a product of lower halves does not
see it and each round takes from its products the upper half down. In the end the words of a block are put
side by side.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._each import SIDE_BY_SIDE
from ._vectors import Vectors, i32, i64
from .tile import lanes

_ROUNDS, _WORDS = 10, 4
_M0, _M1 = 0xD2511F53, 0xCD9E8D57  # the multipliers and the key's increments of the paper
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = 2**32 - 1


def words_at_once() -> int:
    """How many words :func:`draw` draws."""
    return _WORDS * SIDE_BY_SIDE * lanes(8)


class _Lanes(Vectors):
    """Instructions on vectors of `width` lanes of 64 bits."""

    def __init__(self, builder: ir.IRBuilder, width: int) -> None:
        super().__init__(builder, 8, width)
        self.kind, self.halves = ir.VectorType(i64, width), ir.VectorType(i32, 2 * width)

    def constants(self, numbers: list[int]) -> Any:
        return ir.Constant(self.kind, [i64(number) for number in numbers])

    def product(self, a: Any, number: int) -> Any:
        """The lower half of each lane times `number`."""
        low, factor = (self.constants([n] * self.width) for n in (_LOW, number))
        return self._builder.mul(self._builder.and_(a, low), factor)

    def upper(self, a: Any) -> Any:
        return self._builder.lshr(a, self.constants([32] * self.width))

    def xor(self, a: Any, b: Any, c: Any) -> Any:
        return self._builder.xor(self._builder.xor(a, b), c)

    def paired(self, a: Any, b: Any) -> Any:
        """In each lane the lower halves of both, that of `a` first in memory."""
        a, b = (self._builder.bitcast(value, self.halves) for value in (a, b))
        chosen = [2 * lane + start for lane in range(self.width) for start in (0, 2 * self.width)]
        return self._builder.bitcast(self._shuffled(a, b, chosen), self.kind)

    def alternating(self, a: Any, b: Any) -> list[Any]:
        """The lanes of both in turn, in two vectors."""
        chosen = [lane + start for lane in range(self.width) for start in (0, self.width)]
        return [self._shuffled(a, b, chosen[: self.width]), self._shuffled(a, b, chosen[self.width :])]


@intrinsic
def draw(typingctx, block, stream, seed, out):
    """Write the words of block number `block` and of those behind it to the address `out`,
    :func:`words_at_once` of them: word i mod 4 of block i div 4 is the i-th. `stream` is the upper half of a
    block's counter, `seed` the key."""

    def emit(context, builder: ir.IRBuilder, signature, args):
        block, stream, seed, out = args
        width, parts, low = lanes(8), range(SIDE_BY_SIDE), i64(_LOW)
        vectors = _Lanes(builder, width)
        fixed = [vectors.splat(word) for word in (stream, builder.lshr(stream, i64(32)))]
        numbers = [
            builder.add(vectors.splat(block), vectors.constants(list(range(k * width, (k + 1) * width))))
            for k in parts
        ]
        states = [(number, vectors.upper(number), *fixed) for number in numbers]
        for i in range(_ROUNDS):
            keys = [
                vectors.splat(builder.and_(builder.add(word, i64(i * step & _LOW)), low))
                for word, step in ((seed, _W0), (builder.lshr(seed, i64(32)), _W1))
            ]
            # one step of all vectors, then the next
            firsts = [vectors.product(c0, _M0) for c0, _, _, _ in states]
            seconds = [vectors.product(c2, _M1) for _, _, c2, _ in states]
            states = [
                (
                    vectors.xor(vectors.upper(second), c1, keys[0]),
                    second,
                    vectors.xor(vectors.upper(first), c3, keys[1]),
                    first,
                )
                for (_, c1, _, c3), first, second in zip(states, firsts, seconds, strict=True)
            ]
        target = builder.inttoptr(out, vectors.kind.as_pointer())
        for k, (c0, c1, c2, c3) in enumerate(states):
            pairs = vectors.alternating(vectors.paired(c0, c1), vectors.paired(c2, c3))
            for j, pair in enumerate(pairs):
                store = builder.store(pair, builder.gep(target, [i64(2 * k + j)]))
                store.align = 4
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.uint64, types.int64), emit
