"""Whole training steps on the CPU as one native call.

Like the forward of a Sequential alone (``layers/_programs.py``) a step is recorded the third time that it
meets batches of some kind, layer by layer, and from then on ``kernels/cpu/_program.py`` makes its kernel
calls again. Those of the update it makes only where no kernel before them has raised a doubt: for a loss that
is not finite, a label that is none, a Winograd result to be computed anew. As long as there is one nothing
has happened yet, and the step is taken in the ordinary way.

What a repetition takes for granted is checked at each call: that the layers, their parameters, the loss and
the state of the optimiser are those that were recorded. Learning rates and the like may be others each time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn import backend as _backend
from fastnn.layers._programs import Assumptions, Kind, Pairs, Streams, kind_of
from fastnn.layers.sequential import Sequential
from fastnn.training.gradients import Gradients, why_foreign

_METHODS = ("forward", "backward", "step")
_SEEN = 2  # steps of a kind before the one that is recorded
_KINDS = 16  # that are counted, or recorded

Done = tuple[np.ndarray, float, float | None]  # output, loss, penalty


class Repeated:
    """The steps of one model, loss and optimiser that can be repeated.

    Parameters
    ----------
    gradients : Gradients
    optimizer : Optimizer
    """

    def __init__(self, gradients: Gradients, optimizer: Any) -> None:
        model, criterion, l2 = gradients.model, gradients.criterion, gradients.l2
        # Layer by layer: what a Sequential has recorded by itself no tape hears of
        self._layerwise = Gradients(model, criterion, l2, forward=model._run, backward=model._run_back)
        self._optimizer = optimizer
        self._found: dict[Kind, int | _Step | None] = {}  # times seen, a recorded step, or that there is none

    @classmethod
    def of(cls, gradients: Gradients, optimizer: Any) -> Repeated | None:
        """None where something is not this package's own: what it does in Python would not be repeated."""
        model, loss = gradients.model, gradients.criterion.loss
        if type(model) is not Sequential or model._programs is None:
            return None
        return None if why_foreign(loss, optimizer) else cls(gradients, optimizer)

    def take(self, x: Any, y: Any) -> Done | None:
        """A step; None, with nothing done, where it must be taken in the ordinary way."""
        if type(x) is not np.ndarray or type(y) is not np.ndarray:
            return None
        if _backend.get_backend().room != "cpu":
            return None
        kind = (*kind_of(x), *kind_of(y))
        found = self._found.get(kind, 0)
        if type(found) is _Step:
            done = found.take(x, y, self._optimizer)
            if done is None and not found.valid():
                del self._found[kind]
            return done
        if type(found) is int:
            if found == _SEEN:
                return self._record(kind, x, y)
            if len(self._found) >= _KINDS:
                self._found.clear()
            self._found[kind] = found + 1
        return None

    def _record(self, kind: Kind, x: np.ndarray, y: np.ndarray) -> Done | None:
        """An ordinary step, layer by layer, recorded if it can be."""
        from fastnn.kernels.cpu._program import CannotRepeat
        from fastnn.kernels.cpu._tape import recording

        with recording() as tape:
            if tape is None:
                return None
            output, loss, penalty = done = self._layerwise.compute(x, y)
            if not math.isfinite(loss + (penalty or 0.0)):
                return done
            sure, earlier = len(tape.calls), []
            for array in _updated(self._layerwise.model, self._optimizer):
                earlier.append((array, array.copy()))
            self._optimizer.step()
        model, loss_function = self._layerwise.model, self._layerwise.criterion.loss
        try:
            step = _Step(tape, model, loss_function, self._optimizer, x, y, output, sure)
            self._found[kind] = step if step.repeats(x, y, output, earlier) else None
        except CannotRepeat:
            self._found[kind] = None
        for leaf in model._leaves():  # what it has kept will not belong to the last forward
            leaf._saved = None
        return done


def _updated(model: Any, optimizer: Any) -> Iterator[np.ndarray]:
    """What an update overwrites, and starts from."""
    for parameter in model.parameters():
        yield parameter._data
    for group in optimizer.groups:
        for arrays in group.state.values():
            yield from arrays


class _Step:
    """A recorded step, on batches of one kind."""

    def __init__(
        self,
        tape: Any,
        model: Any,
        loss: Any,
        optimizer: Any,
        x: np.ndarray,
        y: np.ndarray,
        output: np.ndarray,
        sure: int,
    ) -> None:
        from fastnn.kernels.cpu._program import CannotRepeat, Program

        self._program = Program(tape, (x, y), (), sure)
        if self._program.moves != {0, 1}:
            raise CannotRepeat("kernels that do not read the batch where it lies")
        self._streams = Streams(tape.streams)
        self._output, self._numbers = output, tape.numbers
        # Of the loss, and that nobody has put a function of his own in the place of a method
        options = [
            (vars(owner), name, vars(owner).get(name))
            for owner in (loss, optimizer, model)
            for name in ("reduction", "factor", *_METHODS)
        ]
        if any(value is not None for _, name, value in options if name in _METHODS):
            raise CannotRepeat("a method that is not that of its class")
        self._assumed = Assumptions(list(model._leaves()), options)
        self._groups = [
            _Update(self._program, sure + i, g, optimizer) for i, g in enumerate(optimizer.groups)
        ]
        if len(tape.calls) != sure + len(self._groups):
            raise CannotRepeat("an update that is not one call a group")

    def repeats(
        self,
        x: np.ndarray,
        y: np.ndarray,
        output: np.ndarray,
        earlier: list[tuple[np.ndarray, np.ndarray]],
    ) -> bool:
        """Whether it does by itself what has just been done: parameters and state were `earlier`."""
        results = [output, *self._numbers, *self._assumed.gradients]
        return self._program.repeats((x, y), (), (), results, earlier)

    def valid(self) -> bool:
        """Whether everything is as it was recorded."""
        return (
            self._program.current()
            and self._assumed.hold()
            and all(update.valid() for update in self._groups)
        )

    def take(self, x: np.ndarray, y: np.ndarray, optimizer: Any) -> Done | None:
        """The step; None, with nothing done, where it must be taken in the ordinary way."""
        program = self._program
        if not self.valid() or not program.lock.acquire(blocking=False):
            return None
        pairs: Pairs = ()
        optimizer.steps += 1
        outputs = None
        try:
            pairs = self._streams.draw()
            for update in self._groups:
                if not update.renew(optimizer):
                    break
            else:
                outputs = program.run(x, y)
            if outputs is None:
                optimizer.steps -= 1
                _backend.give_back_streams(pairs)
                return None
            loss, *penalty = [place.item() for place in self._numbers]
            return self._output, loss, penalty[0] if penalty else None
        finally:
            program.lock.release()


class _Update:
    """The update of one group in a recorded step: call number `call` of the program."""

    def __init__(self, program: Any, call: int, group: Any, optimizer: Any) -> None:
        from fastnn.kernels.cpu import update

        self._numbers_of = getattr(update, f"{optimizer._kernel}_numbers")
        self._group, self._table = group, group._table
        self._state, self._names = group.state, group._names
        _, self._arguments = optimizer._for_kernel(group)
        numbers = self._numbers_of(*self._arguments)
        self._place = program.floats(call, 3, len(numbers))  # behind the pool, the addresses and the chunks

    def valid(self) -> bool:
        """Whether the arrays are those that were recorded."""
        return self._group._table is self._table and self._group.state is self._state

    def renew(self, optimizer: Any) -> bool:
        """Have the next run take the group's settings as they are now; False where it cannot."""
        names, arguments = optimizer._for_kernel(self._group)
        if arguments != self._arguments:
            if names != self._names or _flags(arguments) != _flags(self._arguments):
                return False
            self._place[:] = self._numbers_of(*arguments)
            self._arguments = arguments
        return True


def _flags(arguments: tuple[Any, ...]) -> list[bool]:
    """Which way the kernel goes: part of the recorded call."""
    return [value for value in arguments if type(value) is bool]
