"""How a Sequential's forward and backward run without Python between the kernels.

The third time that a Sequential of this package's own layers meets an input of some shape, on the numba
backend, the kernel calls of its layers are recorded (``kernels/cpu/_tape.py``). From then on one native call
makes them (``kernels/cpu/_program.py``), to the same bits. What layers keep for their backwards they keep as
ever. Where a layer has been called alone meanwhile, or been given another parameter, or a result calls for
another way of computing it, the layers' own forwards and backwards run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fastnn import backend as _backend
from fastnn.layers.activation import GELU, LeakyReLU, ReLU, Sigmoid, Tanh
from fastnn.layers.base import Layer
from fastnn.layers.conv import Conv2d
from fastnn.layers.dropout import Dropout
from fastnn.layers.linear import Linear
from fastnn.layers.pool import AvgPool2d, MaxPool2d
from fastnn.layers.shape import Flatten

_LAYERS = (Linear, Conv2d, MaxPool2d, AvgPool2d, ReLU, Sigmoid, Tanh, LeakyReLU, GELU, Flatten, Dropout)
_METHODS = ("forward", "backward", "forward_with", "pass_on", "pass_back")
_OPTIONS = ("weight", "bias", "p", "negative_slope", "approximate", "kernel_size")  # that may be assigned to
_SEEN = 2  # calls of a kind before the one that is recorded
_KINDS = 64  # that are counted
_PROGRAMS = 8  # kept at a time

Kind = tuple[Any, ...]


def repeatable(leaves: Sequence[Layer]) -> bool:
    """Whether these are layers whose kernel calls are the same each time."""
    return all(type(leaf) in _LAYERS and not any(name in vars(leaf) for name in _METHODS) for leaf in leaves)


def kind_of(array: np.ndarray) -> Kind:
    """What must be the same for a program to take another array in its place."""
    return array.shape, array.strides, array.dtype.num, array.flags.num


class Assumptions:
    """What the recorded calls of `leaves` take for granted: where parameters lie, and options; those of other
    objects as rows (attributes, name, value)."""

    def __init__(
        self, leaves: Sequence[Layer], options: Sequence[tuple[dict[str, Any], str, Any]] = ()
    ) -> None:
        parameters = [p for leaf in leaves for p in leaf.parameters()]
        self.data = [p._data for p in parameters]
        self.gradients = [p._grad for p in parameters]
        self._parameters = [(p, p._data, p._grad) for p in parameters]
        self._options = [
            *((vars(leaf), n, vars(leaf)[n]) for leaf in leaves for n in _OPTIONS if n in vars(leaf)),
            *options,
        ]

    def hold(self) -> bool:
        """Whether all is as it was."""
        for parameter, data, grad in self._parameters:
            if parameter._data is not data or parameter._grad is not grad:
                return False
        for attributes, name, value in self._options:  # noqa: SIM110 (half the time of all())
            if attributes.get(name) is not value:
                return False
        return True


class Streams:
    """The random streams that recorded calls read from memory.

    Parameters
    ----------
    streams : list of (array, seed, offset)
        As a tape has them: the memory, and the stream at the recording.

    Attributes
    ----------
    pairs : tuple of (seed, offset)
        Each stream of the recording once, in the order in which they were drawn.
    """

    def __init__(self, streams: Sequence[tuple[np.ndarray, int, int]]) -> None:
        self.pairs: Pairs = tuple(dict.fromkeys((seed, offset) for _, seed, offset in streams))
        self._places = [(memory, self.pairs.index((seed, offset))) for memory, seed, offset in streams]

    def draw(self) -> Pairs:
        """Have the calls read new streams; these."""
        pairs = tuple([_backend.next_stream() for _ in self.pairs])
        for memory, i in self._places:
            memory[:] = pairs[i]
        return pairs


class Programs:
    """What one Sequential has recorded.

    It does not know the Sequential: a network that is let go of takes its arrays along at once.

    Parameters
    ----------
    leaves : sequence of Layer
        :func:`repeatable`, in their order.
    """

    def __init__(self, leaves: Sequence[Layer]) -> None:
        self._leaves = leaves
        self._found: dict[Kind, int | _Forward | None] = {}  # times seen, a program, or that there is none
        self._last: tuple[_Forward, Kept] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the programs: they hold addresses, which mean other arrays in a copy."""
        return {**vars(self), "_found": {}, "_last": None}

    def forward(self, x: np.ndarray, training: bool, layerwise: Callable[..., Any]) -> Any:
        """The output of the layers, which ``layerwise(x, training)`` would find one by one."""
        self._last = None
        kind = (training, *kind_of(x))
        found = self._found.get(kind, 0)
        if type(found) is _Forward:
            kept = found.run(x)
            if kept is not None:
                if training:
                    self._last = found, kept
                return kept[1]
            if not found.valid():
                del self._found[kind]
        elif type(found) is int:
            if found == _SEEN:
                return self._record(kind, x, training, layerwise)
            if len(self._found) >= _KINDS:
                self._found.clear()
            self._found[kind] = found + 1
        return layerwise(x, training)

    def backward(self, grad: Any, input_grad: bool, layerwise: Callable[..., Any]) -> Any:
        """The gradient of the input, or None without `input_grad`; likewise."""
        if self._last is not None and type(grad) is np.ndarray:
            forward, kept = self._last
            if forward.is_last(kept):
                return forward.backward(grad, kept, input_grad, layerwise)
        return layerwise(grad, input_grad)

    def _record(self, kind: Kind, x: np.ndarray, training: bool, layerwise: Callable[..., Any]) -> Any:
        from fastnn.kernels.cpu._program import CannotRepeat
        from fastnn.kernels.cpu._tape import recording

        with recording() as tape:
            out = layerwise(x, training)
        if tape is not None:
            programs = [key for key, value in self._found.items() if type(value) is _Forward]
            for key in programs[: max(0, len(programs) + 1 - _PROGRAMS)]:
                del self._found[key]
            try:
                self._found[kind] = _Forward(self._leaves, tape, x, out)
            except CannotRepeat:
                self._found[kind] = None
        return out


#: What differs from one training forward to the next and is kept by layers: input, output, random streams.
Kept = tuple[Any, ...]
Pairs = tuple[tuple[int, int], ...]


class _Forward:
    """The forward of `leaves` on inputs of one kind, and the backwards that belong to it."""

    def __init__(self, leaves: Sequence[Layer], tape: Any, x: np.ndarray, out: np.ndarray) -> None:
        from fastnn.kernels.cpu._program import CannotRepeat, Program

        self._program = Program(tape, (x,), (out,))
        self._streams = Streams(tape.streams)
        kept = (x, out, *self._streams.pairs)
        places = [_place(leaf, kept) for leaf in leaves]
        self._moving = [(leaf, i) for leaf, i in zip(leaves, places, strict=True) if i is not None]
        self._still = [(leaf, leaf._saved) for leaf, i in zip(leaves, places, strict=True) if i is None]
        self._still_arrays = list(_arrays(saved for _, saved in self._still))
        if any(np.may_share_memory(a, b) for a in self._still_arrays for b in (x, out)):
            raise CannotRepeat("a layer keeps part of what is another array each time")
        self._assumed = Assumptions(leaves)
        self._backwards: dict[Kind, _Backward | None] = {}
        if not self._program.repeats((x,), (out,), self._assumed.data, self._still_arrays):
            raise CannotRepeat("numbers come from elsewhere than the kernels of the tape")

    def valid(self) -> bool:
        """Whether the layers, and the threads that kernels run on, are as they were recorded."""
        return self._program.current() and self._assumed.hold()

    def run(self, x: np.ndarray) -> Kept | None:
        """What the layers keep, input and output first; None where they must run one by one."""
        program = self._program
        pairs: Pairs = ()
        if not self.valid() or not program.lock.acquire(blocking=False):
            return None
        try:
            pairs = self._streams.draw()
            outputs = program.run(x)
        finally:
            program.lock.release()
        if outputs is None:
            _backend.give_back_streams(pairs)
            return None
        kept = (x, *outputs, *pairs)
        for layer, value in self._still:
            layer._saved = value
        for layer, i in self._moving:
            layer._saved = kept[i]
        return kept

    def is_last(self, kept: Kept) -> bool:
        """Whether all layers keep what :meth:`run` gave them when it returned `kept`."""
        for layer, value in self._still:
            if layer._saved is not value:
                return False
        for layer, i in self._moving:
            if layer._saved is not kept[i]:
                return False
        return self.valid()

    def backward(self, grad: np.ndarray, kept: Kept, input_grad: bool, layerwise: Callable[..., Any]) -> Any:
        """The backward after the forward that returned `kept`: `layerwise`, or what it did the first time."""
        from fastnn.kernels.cpu._program import CannotRepeat
        from fastnn.kernels.cpu._tape import recording

        kind = (input_grad, *kind_of(grad))
        if kind in self._backwards:
            program = self._backwards[kind]
            done = program.run(grad, kept) if program is not None else None
            return layerwise(grad, input_grad) if done is None else done[0]
        with recording() as tape:
            back = layerwise(grad, input_grad)
        if tape is not None and len(self._backwards) < _PROGRAMS:
            sources = self._assumed.data + self._still_arrays
            try:
                self._backwards[kind] = _Backward(tape, grad, kept, back, sources, self._assumed.gradients)
            except CannotRepeat:
                self._backwards[kind] = None
        return back


class _Backward:
    """A backward whose forward was a run of a :class:`_Forward`."""

    def __init__(
        self,
        tape: Any,
        grad: np.ndarray,
        kept: Kept,
        back: np.ndarray | None,
        sources: Sequence[np.ndarray],
        gradients: Sequence[np.ndarray],
    ) -> None:
        from fastnn.kernels.cpu._program import CannotRepeat, Program

        x, out, *pairs = kept
        inputs, outputs = (grad, x, out), () if back is None else (back,)
        self._program = Program(tape, inputs, outputs)
        try:
            self._streams = [(s, pairs.index((seed, offset))) for s, seed, offset in tape.streams]
        except ValueError:
            raise CannotRepeat("a random stream that the forward did not draw") from None
        if not self._program.repeats(inputs, outputs, sources, gradients):
            raise CannotRepeat("numbers come from elsewhere than the kernels of the tape")

    def run(self, grad: np.ndarray, kept: Kept) -> tuple[np.ndarray | None] | None:
        """(The gradient of the input, or None,), or None where the layers must run one by one."""
        program = self._program
        if not program.lock.acquire(blocking=False):
            return None
        try:
            for source, i in self._streams:
                source[:] = kept[2 + i]
            outputs = program.run(grad, kept[0], kept[1])
        finally:
            program.lock.release()
        return None if outputs is None else (outputs[0] if outputs else None,)


def _place(leaf: Layer, kept: Kept) -> int | None:
    """Which of `kept` the layer has saved, if it has one of them."""
    for i, value in enumerate(kept):
        if leaf._saved is value or (type(leaf) is Dropout and i > 1 and leaf._saved == value):
            return i
    return None


def _arrays(values: Any) -> Iterator[np.ndarray]:
    """The arrays in nested tuples."""
    for value in values:
        if isinstance(value, np.ndarray):
            yield value
        elif isinstance(value, tuple):
            yield from _arrays(value)
