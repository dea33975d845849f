"""Vectors in emitted LLVM IR: what the micro-kernels (``tile.py``, ``_windows.py``, ...) are written in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

i64, i32, byte, bit = ir.IntType(64), ir.IntType(32), ir.IntType(8), ir.IntType(1)
LINE = 64  # bytes of a cache line, and of the widest vector
IN_FLIGHT = 8  # multiply-adds on sums of their own that keep two units of four cycles busy


def prefetch(builder: ir.IRBuilder, pointer: Any, level: int = 1) -> None:
    """Ask for the cache line at `pointer`, into the cache of that level. No access: it cannot fault."""
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [pointer, i32(0), i32(4 - level), i32(1)])


class Vectors:
    """Instructions on vectors of `width` floats of `size` bytes, and on int32 beside them.

    Attributes
    ----------
    real, vector, places : LLVM types
        A float, a vector of them, and a vector of as many int32.
    width : int
    """

    def __init__(self, builder: ir.IRBuilder, size: int, width: int) -> None:
        self._builder, self._size, self.width = builder, size, width
        self.real: ir.Type = ir.FloatType() if size == 4 else ir.DoubleType()
        self.vector, self.places = ir.VectorType(self.real, width), ir.VectorType(i32, width)
        self._suffix = f"v{width}f{8 * size}"

    def function(self, name: str, result: ir.Type, *arguments: ir.Type) -> Any:
        """The intrinsic function ``llvm.<name>``."""
        kind = ir.FunctionType(result, list(arguments))
        return cgutils.get_or_insert_function(self._builder.module, kind, f"llvm.{name}")

    def constant(self, number: float) -> Any:
        """`number` in all lanes."""
        return ir.Constant(self.vector, [self.real(float(number))] * self.width)

    def splat(self, value: Any) -> Any:
        """`value`, of any type, in all lanes of a vector of it."""
        kind, lanes = ir.VectorType(value.type, self.width), ir.VectorType(i32, self.width)
        one = self._builder.insert_element(ir.Constant(kind, ir.Undefined), value, i32(0))
        return self._builder.shuffle_vector(one, one, ir.Constant(lanes, None))

    def below(self, count: Any) -> Any:
        """The mask of the lanes whose number is less than the int64 `count`."""
        lane = ir.Constant(ir.VectorType(i64, self.width), [i64(i) for i in range(self.width)])
        return self._builder.icmp_signed("<", lane, self.splat(count))

    def fmuladd(self, a: Any, b: Any, c: Any) -> Any:
        """``a * b + c``: one instruction where the CPU has one, a multiply and an add elsewhere."""
        kind = self.vector
        return self._builder.call(self.function(f"fmuladd.{self._suffix}", kind, kind, kind, kind), [a, b, c])

    def total(self, value: Any) -> Any:
        """The sum of the lanes: of the lower half and the upper, lane by lane, and so on."""
        return self._builder.extract_element(self.folded([value], ir.IRBuilder.fadd), i32(0))

    def magnitude(self, value: Any) -> Any:
        return self._builder.call(self.function(f"fabs.{self._suffix}", self.vector, self.vector), [value])

    def load(self, pointer: Any, mask: Any = None, otherwise: Any = None, kind: Any = None) -> Any:
        """The vector at `pointer`, which need not be aligned, of floats or of another `kind` (`places`).

        Lanes outside `mask` are not read, but taken from `otherwise` (zero where not given).
        """
        kind = self.vector if kind is None else kind
        start = self._builder.bitcast(pointer, kind.as_pointer())
        size, suffix = self._kind(kind)
        if mask is None:
            value = self._builder.load(start)
            value.align = size
            return value
        otherwise = ir.Constant(kind, None) if otherwise is None else otherwise
        function = self.function(f"masked.load.{suffix}.p0", kind, start.type, i32, mask.type, kind)
        return self._builder.call(function, [start, i32(size), mask, otherwise])

    def stream(self, value: Any, pointer: Any) -> None:
        """Write a vector past the caches to `pointer`, which must be aligned to its size. Other threads need
        not see it before the next locked instruction of this one."""
        instruction = self._builder.store(value, self._builder.bitcast(pointer, value.type.as_pointer()))
        instruction.align = self._size * self.width
        instruction.set_metadata("nontemporal", self._builder.module.add_metadata([i32(1)]))

    def store(self, value: Any, pointer: Any, mask: Any = None) -> None:
        """Write a vector of floats or integers to `pointer`, which need not be aligned; lanes outside `mask`
        are left alone."""
        start = self._builder.bitcast(pointer, value.type.as_pointer())
        size, suffix = self._kind(value.type)
        if mask is None:
            self._builder.store(value, start).align = size
            return
        kinds = (value.type, start.type, i32, mask.type)
        function = self.function(f"masked.store.{suffix}.p0", ir.VoidType(), *kinds)
        if self._size * self.width == LINE:
            self._builder.call(function, [value, start, i32(size), mask])
            return
        bits = ir.IntType(self.width)
        every = self._builder.icmp_unsigned("==", self._builder.bitcast(mask, bits), bits(-1))
        # A store through a mask takes some CPUs ten cycles
        with self._builder.if_else(every) as (whole, some):
            with whole:
                self._builder.store(value, start).align = size
            with some:
                self._builder.call(function, [value, start, i32(size), mask])

    def _kind(self, vector: ir.Type) -> tuple[int, str]:
        """The bytes of an element of a vector of this type, and its name in those of functions."""
        if vector == self.vector:
            return self._size, self._suffix
        return vector.element.width // 8, f"v{self.width}i{vector.element.width}"

    def place_at(self, pointer: Any, mask: Any, short: bool) -> Any:
        """The `places` at `pointer`, which are bytes in memory where `short`."""
        kind = ir.VectorType(byte, self.width) if short else self.places
        place = self.load(pointer, mask, kind=kind)
        return self._builder.zext(place, self.places) if short else place

    def store_place(self, place: Any, pointer: Any, short: bool) -> None:
        """Write `places` to `pointer`, as bytes where `short`."""
        if short:
            place = self._builder.trunc(place, ir.VectorType(byte, self.width))
        self.store(place, pointer)

    def transposed(self, rows: list[Any]) -> list[Any]:
        """The columns of a square of as many `rows` as a vector has lanes.

        Squares of 2 x 2 are transposed, then of 4 x 4 made of these, and so on: each step exchanges lane
        l + d of row i with lane l of row i + d.
        """
        width = self.width
        for d in self._distances(width):
            upper = [lane + width - d if lane & d else lane for lane in range(width)]
            lower = [lane + width if lane & d else lane + d for lane in range(width)]
            for i in (i for i in range(width) if not i & d):
                pair = rows[i], rows[i + d]
                rows[i], rows[i + d] = self._shuffled(*pair, upper), self._shuffled(*pair, lower)
        return rows

    def folded(self, rows: list[Any], combine: Callable[[ir.IRBuilder, Any, Any], Any]) -> Any:
        """The vector whose lane i is all lanes of row i combined (added, say). It has as many lanes as there
        are rows: a power of two, and no more than a row has.

        With fewer rows than lanes, the upper half of a row is combined with its lower, lane by lane, and so
        on. Then each step combines lanes that are d apart, and puts those of two rows into one vector: where
        the number of a lane has the bit d they are the second row's.
        """
        width = self.width
        while width > len(rows):
            width //= 2
            rows = [
                combine(
                    self._builder,
                    *(self._shuffled(row, row, list(range(start, start + width))) for start in (0, width)),
                )
                for row in rows
            ]
        for d in reversed(self._distances(width)):
            own = [lane + width if lane & d else lane for lane in range(width)]
            other = [lane + width - d if lane & d else lane + d for lane in range(width)]
            rows = [
                combine(self._builder, *(self._shuffled(*pair, chosen) for chosen in (own, other)))
                for pair in zip(rows[:d], rows[d:], strict=True)
            ]
        return rows[0]

    def nonzero(self, value: Any) -> Any:
        """The mask of the lanes of `value` that are not zero, as NaN is not."""
        return self._builder.fcmp_unordered("!=", value, self.constant(0))

    def compressed(self, value: Any, mask: Any) -> Any:
        """The lanes of `value`, floats or int32, for which `mask` stands, moved together; then zeros. Only
        where the CPU can, see ``tile.widest``."""
        kind, (_, suffix) = value.type, self._kind(value.type)
        function = self.function(f"x86.avx512.mask.compress.{suffix}", kind, kind, kind, mask.type)
        return self._builder.call(function, [value, ir.Constant(kind, None), mask])

    def bits(self, mask: Any) -> Any:
        """`mask` as an int64, lane i as bit i."""
        return self._builder.zext(self._builder.bitcast(mask, ir.IntType(self.width)), i64)

    def count(self, mask: Any) -> Any:
        """For how many lanes `mask` stands, as an int64."""
        return self._builder.call(self.function("ctpop.i64", i64, i64), [self.bits(mask)])

    def floor(self, relu: Any) -> Any:
        """For :meth:`at_least`: zeros if the int64 `relu` is not zero, else what nothing is below."""
        here = self._builder.icmp_signed("!=", relu, i64(0))
        return self.splat(self._builder.select(here, self.real(0.0), self.real(float("-inf"))))

    def at_least(self, floor: Any, value: Any) -> Any:
        """`value` where it is not below `floor`: NaN stays."""
        return self._builder.select(self._builder.fcmp_ordered("<", value, floor), floor, value)

    def lane(self, value: Any, number: int) -> Any:
        """That lane of `value`, which may have another number of lanes, in all lanes."""
        return self._shuffled(value, value, [number] * self.width)

    @staticmethod
    def _distances(width: int) -> list[int]:
        return [1 << k for k in range(width.bit_length() - 1)]

    def _shuffled(self, first: Any, second: Any, lanes: list[int]) -> Any:
        """Of two vectors the lanes of those numbers: the second's go on where the first's end."""
        order = ir.Constant(ir.VectorType(i32, len(lanes)), [i32(lane) for lane in lanes])
        return self._builder.shuffle_vector(first, second, order)

    def larger(self, value: Any, place: Any, held: Any, here: Any) -> tuple[Any, Any]:
        """A maximum and where it was, after `value` at `place` has met what was `held` from `here`."""
        wins = self.beats(value, held)
        return self._builder.select(wins, value, held), self._builder.select(wins, place, here)

    def beats(self, value: Any, held: Any) -> Any:
        """Where `value` takes the place of a maximum `held`: it is larger, or NaN."""
        above = self._builder.fcmp_ordered(">", value, held)
        return self._builder.or_(above, self._builder.fcmp_unordered("uno", value, value))
