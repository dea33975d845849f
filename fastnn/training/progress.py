"""What a run shows while it trains: a bar inside the epoch, a line after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from fastnn.training.compiling import compiling_shown

_INTERVAL = 0.1  # seconds between two drawings of the bar


def epoch_line(record: dict[str, Any], epochs: int) -> str:
    """One finished epoch in one line, from its record in the history."""
    parts = [f"epoch {record['epoch']:{len(str(epochs))}d}/{epochs}"]
    for prefix, name in (("", ""), ("val_", "val ")):
        if record[prefix + "loss"] is not None:
            parts.append(f"{name}loss {record[prefix + 'loss']:.4f}")
            parts.append(f"{name}acc {100 * record[prefix + 'accuracy']:6.2f} %")
    parts.append(f"lr {record['lr']:.3g}")
    parts.append(f"{record['seconds']:.2f} s ({record['examples_per_second']:,.0f} examples/s)")
    return "  ".join(parts)


class Silent:
    """Shows nothing."""

    def begin(self, epoch: int, epochs: int, examples: int, done: int) -> None:
        pass

    def step(self, examples: int, loss: float) -> None:
        pass

    def end(self, record: dict[str, Any], epochs: int) -> None:
        pass

    def say(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass


class Report(Silent):
    """Hands each epoch's record to a function, in place of printing it."""

    def __init__(self, report: Callable[[dict[str, Any]], Any]) -> None:
        self.report = report

    def end(self, record: dict[str, Any], epochs: int) -> None:
        self.report(record)


class Bar(Silent):
    """A tqdm bar on stderr while an epoch runs (only on a terminal), then a line on stdout."""

    bar: Any = None

    def __init__(self) -> None:
        self.listening = ExitStack()

    def begin(self, epoch: int, epochs: int, examples: int, done: int) -> None:
        from tqdm import tqdm

        self.bar = tqdm(
            total=examples,
            initial=done,
            desc=f"epoch {epoch}/{epochs}",
            unit=" examples",
            unit_scale=True,
            leave=False,
            disable=None,
            mininterval=0,
        )
        self.waiting = 0
        self.due = time.perf_counter() + _INTERVAL
        self.listening.enter_context(compiling_shown(self.bar.set_postfix_str))

    def step(self, examples: int, loss: float) -> None:
        self.waiting += examples
        now = time.perf_counter()
        if now >= self.due:  # tqdm is asked ten times a second, not once a step: a step may take 50 µs
            self.due = now + _INTERVAL
            self.bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
            self.bar.update(self.waiting)
            self.waiting = 0

    def end(self, record: dict[str, Any], epochs: int) -> None:
        self.close()
        self.say(epoch_line(record, epochs))

    def close(self) -> None:
        self.listening.close()
        if self.bar is not None:
            self.bar.close()

    def say(self, line: str) -> None:
        from tqdm import tqdm

        tqdm.write(line)


def display_for(progress: bool | Callable[[dict[str, Any]], Any]) -> Silent:
    """What a Trainer's `progress` asks for."""
    if callable(progress):
        return Report(progress)
    return Bar() if progress else Silent()
