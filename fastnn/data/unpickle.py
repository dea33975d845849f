"""Pickles without their power: dicts, lists, tuples, text, numbers and arrays of integers.

A pickle is a program for a stack machine. Python's own machine, even one that is told to import nothing,
hashes whatever the program makes a key (100,000 tuples within each other overflow the C stack), and NumPy's
arrays believe the state they are given. So the machine here is our own. It knows the instructions that data
are written with; a name in the file is a label, the few calls that rebuild an array have their meaning given
below, and every claim is compared with the bytes that are there. What has been read is never walked into,
printed or hashed unless it is known to be plain: a hundred bytes can describe a tuple of tuples with more
leaves than any memory holds.
"""

from __future__ import annotations

import pickletools
import re
from typing import Any

import numpy as np

from fastnn.data.folders import DataError

# Each makes something of a few dozen bytes at most. A batch of CIFAR-10 takes some 30,000, and 110,000 where
# Python 3 has written it with protocol 2.
_MOST_INSTRUCTIONS = 2**18

_NAMES = (
    "numpy._core.multiarray._reconstruct",  # up to protocol 4: an array, filled by BUILD
    "numpy._core.numeric._frombuffer",  # protocol 5: an array at once
    "_codecs.encode",  # protocol 2 from Python 3, which has no bytes there
    "numpy.dtype",
    "numpy.ndarray",  # only ever handed to _reconstruct
)


def load(raw: bytes) -> Any:
    """What the pickle `raw` holds; its arrays are read-only views of its bytes.

    Raises
    ------
    DataError, or whatever :mod:`pickletools` makes of damaged instructions
        It is no pickle, or one that needs more than data do.
    """
    machine = _Machine(len(raw))
    for count, (opcode, argument, _) in enumerate(pickletools.genops(raw)):
        if count == _MOST_INSTRUCTIONS:
            raise DataError(f"it has more than {_MOST_INSTRUCTIONS} pickle instructions")
        if opcode.name == "STOP":
            break
        if opcode.name not in _DO:
            raise DataError(f"it uses the pickle instruction {opcode.name}, which no batch needs")
        _DO[opcode.name](machine, argument)
    (value,) = machine.stack
    return plain(value)


def plain(value: Any) -> Any:
    """A value out of a list or dict that :func:`load` gave: of an array as it was pickled, the array."""
    return value.array if isinstance(value, _Array) else value


def text(value: Any) -> str:
    """A name, which Python 2 has written as bytes."""
    if not isinstance(value, str | bytes) or len(value) > 100:
        raise DataError("it holds something else where a name belongs")
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value


class _Machine:
    """The stack, where MARKs stand on it, and the memo; how many bytes may yet be copied out of the file."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise DataError("its instructions take more than they made")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise DataError("its instructions look for a mark that was not set")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise DataError(f"its instructions fill a {kind.__name__} where there is none")
        return self.stack[-1]

    def mark(self) -> None:
        self.marks.append(len(self.stack))

    def tuple_of(self, count: int) -> None:
        self.push(tuple([self.pop() for _ in range(count)][::-1]))

    def extend(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict)
        if not all(isinstance(key, str | bytes) for key in items[::2]):
            raise DataError("it holds a dictionary whose keys are not texts")
        target.update(zip(items[::2], items[1::2], strict=True))

    def put(self, index: int) -> None:
        self.memo[index] = self.top(object)

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise DataError(f"it takes memo entry {index}, which was not stored")
        self.push(self.memo[index])

    def name(self, module: Any, name: Any) -> None:
        dotted = f"{text(module)}.{text(name)}"
        known = dotted.replace("numpy.core.", "numpy._core.")  # NumPy 2 renamed the module
        if known not in _NAMES:
            raise DataError(f"it asks for {dotted:.80}, which no batch needs: open it by no other means")
        self.push(_Name(known))

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        result = _call(function.name if isinstance(function, _Name) else None, arguments)
        if isinstance(result, bytes):  # of a text, which the memo can bring back any number of times
            self.left -= len(result)
            if self.left < 0:
                raise DataError("it makes more bytes than it holds")
        self.push(result)

    def build(self) -> None:
        state = self.pop()
        target = self.stack[-1] if self.stack else None
        if not isinstance(target, _Array | _DType) or not isinstance(state, tuple):
            raise DataError("it gives attributes to what has none")
        target.set_state(*state)


_DO: dict[str, Any] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, argument: None),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1"), _Machine.push),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BYTEARRAY8"), _Machine.push),
    **dict.fromkeys(("SHORT_BINUNICODE", "BINUNICODE"), _Machine.push),
    # Python 2's strings are bytes; pickletools shows them as Latin-1.
    **dict.fromkeys(("SHORT_BINSTRING", "BINSTRING"), lambda m, argument: m.push(argument.encode("latin-1"))),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.mark(),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "SETITEM": lambda machine, _: machine.set_items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.get),
    "GLOBAL": lambda machine, argument: machine.name(*argument.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(*[machine.pop(), machine.pop()][::-1]),
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.build(),
}


class _Name:
    """One of `_NAMES`."""

    def __init__(self, name: str) -> None:
        self.name = name


class _DType:
    """A NumPy integer type, as a pickle spells it: its code, then the byte order."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "|"

    def set_state(self, version: object, order: object, *rest: object) -> None:
        self.order = text(order)

    def resolve(self) -> np.dtype:
        name = self.order + self.code
        if not re.fullmatch("[|<>=][iu][1248]", name):
            raise DataError(f"it holds an array of type {name[:20]!r}")
        return np.dtype(name)


class _Array:
    """An array as a pickle spells it; `array` is a read-only view of the file's bytes."""

    array: np.ndarray | None = None

    def set_state(self, version: object, shape: object, dtype: object, fortran: object, raw: object) -> None:
        if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, _DType):
            raise DataError("it holds an array that is not plain bytes")
        if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
            raise DataError("it holds an array whose shape is not whole numbers")
        flat = np.frombuffer(raw, dtype.resolve())
        flat.flags.writeable = False
        self.array = flat.reshape(shape, order="F" if fortran else "C")


def _call(name: str | None, arguments: Any) -> Any:
    """What a pickle's call of one of `_NAMES` makes."""
    match name, arguments:
        case "numpy._core.multiarray._reconstruct", (_, _, _):
            return _Array()
        case "numpy._core.numeric._frombuffer", (buffer, dtype, shape, order):
            result = _Array()
            result.set_state(1, shape, dtype, order == "F", buffer)
            return result
        case "_codecs.encode", (str() as characters, _):
            return characters.encode("latin-1")
        case "numpy.dtype", (code, *_):
            return _DType(text(code))
    raise DataError("it makes a call that no array needs")
