"""Times on the device: events before and after a run of calls."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

ROUND = 0.005  # seconds between two events, about
LEAST = 7  # rounds


class Clock(NamedTuple):
    """`mark` notes a moment on the device; `between` waits for two of them, and says how many seconds lie
    between.
    """

    mark: Callable[[], Any]
    between: Callable[[Any, Any], float]


def cupy_clock() -> Clock:
    import cupy

    def mark() -> Any:
        event = cupy.cuda.Event()
        event.record()
        return event

    def between(first: Any, last: Any) -> float:
        last.synchronize()
        return cupy.cuda.get_elapsed_time(first, last) / 1e3

    return Clock(mark, between)


def torch_clock() -> Clock:
    import torch

    def mark() -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(first: Any, last: Any) -> float:
        last.synchronize()
        return first.elapsed_time(last) / 1e3

    return Clock(mark, between)


def host_clock() -> Clock:
    """For what is done when a call returns."""
    return Clock(time.perf_counter, lambda first, last: last - first)


def timed(call: Callable[[], Any], clock: Clock, seconds: float) -> dict[str, Any]:
    """The time of a call that is warm, from rounds of many.

    Returns
    -------
    dict
        ``{"median": s, "rounds": [s of a call in each], "calls": in a round}``
    """

    def round_of(calls: int) -> float:
        first = clock.mark()
        for _ in range(calls):
            call()
        return clock.between(first, clock.mark()) / calls

    round_of(2)
    calls = max(1, math.ceil(ROUND / max(round_of(3), 1e-7)))
    end = time.perf_counter() + seconds
    rounds: list[float] = []
    while len(rounds) < LEAST or time.perf_counter() < end:
        rounds.append(round_of(calls))
    return {"median": median(rounds), "rounds": rounds, "calls": calls}
