"""A kernel's arguments as 64-bit words, and code that calls a kernel with arguments made of them.

A number is one word, an array its address and its shape. What type an argument has is not among the words:
there is code for each combination of types.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from ._jit import call_at, native
from ._memory import address_of

_i64 = ir.IntType(64)


class CannotRepeat(Exception):
    """There is something in these calls that no program can hold; the message says what."""


def kind_of(value: Any) -> types.Type:
    """The type of an argument that can be made of words."""
    kind = numba.typeof(value)
    simple = (types.Integer, types.Boolean, types.Float)
    for leaf in leaves_of(kind):
        if not (isinstance(leaf, simple) or (isinstance(leaf, types.Array) and leaf.layout == "C")):
            raise CannotRepeat(f"an argument of type {leaf}")
    return kind


def leaves_of(kind: types.Type) -> Iterator[types.Type]:
    """The types in nested tuples."""
    if isinstance(kind, (types.UniTuple, types.Tuple)):
        for inner in kind.types:
            yield from leaves_of(inner)
    else:
        yield kind


def values_of(value: Any) -> Iterator[Any]:
    """The numbers and arrays in nested tuples."""
    if isinstance(value, tuple):
        for inner in value:
            yield from values_of(inner)
    else:
        yield value


def words_of(value: Any, kind: types.Type) -> list[int]:
    """The words of a number or array of that type."""
    if isinstance(kind, types.Array):
        return [address_of(value), *value.shape]
    if isinstance(kind, types.Float):
        return [int(np.float64(value).view(np.int64))]
    return [int(np.uint64(int(value) & (1 << 64) - 1).view(np.int64))]


@functools.cache
def caller_of(kinds: tuple[types.Type, ...]) -> int:
    """The address of a C function (address of a kernel, address of words) that calls the kernel with
    arguments of those Numba types, made of the words from the second on. The first becomes whether it failed.
    """

    @intrinsic
    def enter(typingctx: Any, kernel: Any, words: Any) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            start = builder.inttoptr(args[1], _i64.as_pointer())
            places = iter(range(1, 1 << 30))

            def word() -> ir.Value:
                return builder.load(builder.gep(start, [_i64(next(places))]))

            def build(kind: types.Type) -> ir.Value:
                target = context.get_value_type(kind)
                if isinstance(kind, (types.UniTuple, types.Tuple)):
                    return context.make_tuple(builder, kind, [build(inner) for inner in kind.types])
                if isinstance(kind, types.Array):
                    return _array(context, builder, kind, word)
                if isinstance(kind, types.Float):
                    exact = builder.bitcast(word(), ir.DoubleType())
                    return exact if kind.bitwidth == 64 else builder.fptrunc(exact, target)
                narrow = target.width < 64
                return builder.trunc(word(), target) if narrow else word()

            values = [build(kind) for kind in kinds]
            status, _ = call_at(context, builder, args[0], types.none, kinds, values)
            builder.store(builder.zext(status.is_error, _i64), start)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), emit

    def caller(kernel: Any, words: Any) -> None:
        enter(kernel, words)  # type: ignore[call-arg]

    return native(types.void(types.int64, types.int64), caller, variant=str(kinds))


def _array(context: Any, builder: ir.IRBuilder, kind: types.Array, word: Any) -> ir.Value:
    """A C-contiguous array that owns nothing, of an address and its shape."""
    array = make_array(kind)(context, builder)
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    data = builder.inttoptr(word(), array.data.type)
    shape = [word() for _ in range(kind.ndim)]
    strides: list[ir.Value] = []
    stride = _i64(size)
    for length in reversed(shape):
        strides.insert(0, stride)
        stride = builder.mul(stride, length)
    populate_array(array, data, shape, strides, itemsize=_i64(size), meminfo=None)
    return array._getvalue()
