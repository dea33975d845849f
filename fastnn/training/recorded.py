"""A training step recorded as a CUDA graph and replayed: how the Trainer spends its epochs on a GPU.

Launching the dozens of kernels of a small network's step takes longer than running them. So after an ordinary
step, which compiles the kernels and makes the optimiser's state, one step is recorded, and one launch repeats
all of it. What a step needs is on the device by then: the data set, the order of the epoch, the optimiser's
numbers for each step of it. What it leaves, its loss and its output, stays there while the host goes on to
the next launch; a short epoch is read in one go. The weights are those of ordinary steps, bit for bit.

A recording repeats launches, not Python. So only steps made of this package's own layers, losses and
optimisers are recorded: see :func:`why_not`.
"""

from __future__ import annotations

import operator
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn import backend as _backend
from fastnn import optim
from fastnn.layers.base import Layer
from fastnn.layers.sequential import Sequential
from fastnn.training.gradients import Gradients, why_foreign
from fastnn.training.run import Run

_PASSING = ("_saved", "_grad", "_optimizer", "_programs")  # what layers and losses keep from call to call
_AHEAD = 0.25  # seconds that the host may be ahead of the device, once it knows how long steps take
_FIRST = 16  # steps to find that out
_MOST_OUTPUTS = 1 << 26  # bytes


def why_not(run: Run, model: Any, loss: Any, optimizer: Any) -> str | None:
    """Why a step of these cannot be recorded, or None if it can.

    What another class does in Python, a replay would not do again; so all must be this package's own.
    """
    if run.x.backend.room != "cuda":
        return f'it runs on the backend {run.x.backend.name!r}, and only "cupy" has a GPU'
    for leaf in _leaves(model):
        if not (isinstance(leaf, Layer) and type(leaf).__module__.startswith("fastnn.layers.")):
            return f"{type(leaf).__name__} is no layer of fastnn's own"
        changed = [name for name, value in vars(leaf).items() if hasattr(Layer, name) and callable(value)]
        if changed:
            return f"{changed[0]} of {leaf!r} is not that of its class"
    return why_foreign(loss, optimizer)


def recorded_steps(
    capture: bool | None, run: Run, model: Any, loss: Any, optimizer: Any, keep_outputs: bool
) -> RecordedSteps | None:
    """For what a Trainer's `capture` asks: None where all steps are ordinary ones.

    Raises
    ------
    ValueError
        `capture` is True and a step cannot be recorded; the message says why.
    """
    reason = why_not(run, model, loss, optimizer)
    if capture and reason is not None:
        raise ValueError(f"capture=True, but a step of this run cannot be captured: {reason}")
    if capture is False or reason is not None:
        return None
    return RecordedSteps(run, optimizer, keep_outputs, must=bool(capture))


class RecordedSteps:
    """The steps of one run over whole batches.

    Parameters
    ----------
    run : Run
    optimizer : Optimizer
    keep_outputs : bool
        Keep the outputs of an epoch's steps for its score.
    must : bool
        A step that CUDA refuses to record is an error. Else it is a warning, and `steps` becomes 0.

    Attributes
    ----------
    steps : int
        How many steps of an epoch there are of this kind: the first ones.
    """

    def __init__(self, run: Run, optimizer: Any, keep_outputs: bool, must: bool) -> None:
        self._x, self._y, self._batch_size = run.x, run.y, run.batch_size
        self.steps = run.examples // run.batch_size
        self._optimizer, self._keep_outputs, self._must = optimizer, keep_outputs, must
        self._assumed: list[Any] = []
        self._recording: Any = None
        self._seed = self._offset = self._given = (
            0  # of random streams: at the recording, and how many it uses
        )
        self._order: Any = None
        self._outputs: Any = None
        self._losses: Any = None
        self._capacity = self.steps  # of the outputs, in steps
        self._ahead = _FIRST

    def ready(self, gradients: Gradients) -> bool:
        """Whether the step at hand may be a recorded one; if not, it must be taken in the ordinary way."""
        assumed = list(_assumptions(gradients, self._optimizer))
        same = len(assumed) == len(self._assumed) and all(map(operator.is_, assumed, self._assumed))
        if not same:  # nothing is recorded yet, or somebody changed a setting or put another array in place
            self._assumed, self._recording = assumed, None
        return same

    def take(
        self,
        gradients: Gradients,
        order: Any,
        first: int,
        rate_of: Callable[[int], float] | None,
        halted: Callable[[], bool],
    ) -> Iterator[tuple[np.ndarray, Any]]:
        """Take the steps from number `first` of the epoch to the last of this kind, where :meth:`ready`.

        Parameters
        ----------
        gradients : Gradients
        order : int64 array or None
            Which examples the epoch visits, in their order; None: all, as they lie.
        first : int
        rate_of : callable or None
            The learning rate of a step of this epoch, where it differs from step to step.
        halted : callable
            Asked after each launch; True: take no more.

        Yields
        ------
        losses : float64 array (n, 2)
            Loss and penalty of the n steps behind those of the last time.
        outputs : array or None
            Of these steps, and of those before them for which it was None, one behind the other; None: not
            yet, or not kept.
        """
        optimizer = self._optimizer
        if not self._prepare(gradients, order):
            return
        recording, before = self._recording, optimizer.steps
        recording.start(first, _backend.stream_state()["stream"][1] - self._offset)
        rates = self._lay_out(first, rate_of)
        stop = kept = first
        try:
            while stop < self.steps and not halted():
                start, began = stop, time.perf_counter()
                full = (stop // self._capacity + 1) * self._capacity
                goal = min(stop + self._ahead, full, self.steps)
                while stop < goal and not (stop > start and halted()):
                    recording.replay()
                    stop += 1
                found = self._x.backend.to_numpy(self._losses[start:stop])  # waits for the device
                pace = (time.perf_counter() - began) / (stop - start)
                self._ahead = max(1, min(2 * self._ahead, int(_AHEAD / pace)))
                outputs = None
                if self._outputs is not None and (stop in (full, self.steps) or halted()):
                    place = slice(kept % self._capacity, (stop - 1) % self._capacity + 1)
                    outputs = self._outputs[place].reshape(-1, *self._outputs.shape[2:])
                    kept = stop
                yield found, outputs
        finally:  # the host goes on from where the device is, or will be
            if stop > first:
                optimizer.steps, optimizer.lr = before + stop - first, rates[stop - 1 - first]
                _backend.skip_streams((stop - first) * self._given)

    def _prepare(self, gradients: Gradients, order: Any) -> bool:
        """Have the epoch's order and a recording in place; False where CUDA does not record the step."""
        if order is not None:
            if self._order is None:
                self._order = order.copy()
            self._order[...] = order
        seed, _ = _backend.stream_state()["stream"]
        if self._recording is not None and seed == self._seed:
            return True
        self._seed = seed
        try:
            self._record(gradients)
        except Exception as error:
            if self._must:
                raise
            warnings.warn(f"training goes on without a CUDA graph: {error}", RuntimeWarning, stacklevel=2)
            self.steps = 0
        return self._recording is not None

    def _record(self, gradients: Gradients) -> None:
        from fastnn.kernels.cuda import step
        from fastnn.kernels.cuda._memory import plain
        from fastnn.kernels.cuda._recording import Recording

        size, xp, optimizer = self._batch_size, self._x.backend.xp, self._optimizer
        recording = Recording(self.steps, [_one_step(optimizer, group) for group in optimizer.groups])
        losses = self._losses = xp.empty((self.steps, 2), np.float64)
        steps, (_, offset) = optimizer.steps, _backend.stream_state()["stream"]
        if self.steps == 1 and self._order is None:  # the batch is the data set
            copies, batch = [], (self._x.slice(0, size), self._y.slice(0, size))
        else:
            buffers = [rows.buffer(size) for rows in (self._x, self._y)]
            sources = [plain(rows.array) for rows in (self._x, self._y)]
            copies = [(source, memory) for source, (memory, _) in zip(sources, buffers, strict=True)]
            batch = (buffers[0][1], buffers[1][1])

        def fetch() -> None:
            for source, memory in copies:
                step.gather(source, memory, self._order, recording.position)

        def leave(output: Any, loss: Any, penalty: Any) -> None:
            if self._outputs is not None:
                step.keep(output, self._outputs, recording.position)
            self._given = _backend.stream_state()["stream"][1] - offset
            step.finish(loss, penalty, losses, recording.position, recording.streams, self._given)

        def one() -> None:
            fetch()
            output, loss, penalty = gradients.compute(*batch)
            optimizer.step()
            leave(output, loss, penalty)

        fetch()
        output = gradients.model.forward(batch[0], training=False)
        if self._keep_outputs and self._outputs is None:
            self._capacity = max(1, min(self.steps, _MOST_OUTPUTS // max(1, output.nbytes)))
            self._outputs = xp.empty((self._capacity, *output.shape), output.dtype)
        leave(output, xp.zeros((), np.float64), None)  # compiles; what it leaves is overwritten
        try:
            recording.record(one)
        finally:
            optimizer.steps = steps
            _backend.skip_streams(offset - _backend.stream_state()["stream"][1])
        # The graph knows addresses of these arrays: they must live as long as it.
        self._held = copies, batch, gradients
        self._recording, self._offset = recording, offset

    def _lay_out(self, first: int, rate_of: Callable[[int], float] | None) -> list[float]:
        """Lay out the numbers of each step's update on the device; the learning rate of each step."""
        optimizer, xp = self._optimizer, self._x.backend.xp
        numbers = range(first, self.steps)
        rates = [optimizer.lr] * len(numbers) if rate_of is None else [rate_of(number) for number in numbers]
        for group, table in zip(optimizer.groups, self._recording.rates, strict=True):
            rows = _numbers(optimizer, group, rates)
            table[first:] = xp.asarray(np.array(rows, table.dtype).reshape(len(rates), -1))
        return rates


def _numbers(optimizer: Any, group: Any, rates: list[float]) -> list[Any]:
    """What the update of a group is told in each of the optimiser's next steps, at these learning rates."""
    from fastnn.kernels.cuda.update import adam_rates

    if not isinstance(optimizer, optim.Adam):
        return [lr * group.lr_scale for lr in rates]
    decay, decoupled = group.weight_decay, optimizer._decoupled
    return [
        adam_rates(lr * group.lr_scale, group.betas, decay, decoupled, number)
        for number, lr in enumerate(rates, optimizer.steps + 1)
    ]


def _one_step(optimizer: Any, group: Any) -> tuple[int, Any]:
    """How many numbers the update of a group is told anew in each step, and their dtype."""
    return np.size(_numbers(optimizer, group, [optimizer.lr])), group.params[0].data.dtype


def _leaves(model: Any) -> list[Any]:
    return list(model._leaves()) if type(model) is Sequential else [model]


def _assumptions(gradients: Gradients, optimizer: Any) -> Iterator[Any]:
    """What a recorded step takes for granted: settings, and arrays whose addresses it knows."""
    yield from (gradients.l2, _backend.get_float32_precision())
    for owner in (gradients.criterion.loss, *_leaves(gradients.model)):
        yield from (value for name, value in vars(owner).items() if name not in _PASSING)
    for parameter in gradients.model.parameters():
        yield from (parameter.data, parameter.grad)
    for group in optimizer.groups:
        yield from (*group.params, *group.settings().values(), group.state)
