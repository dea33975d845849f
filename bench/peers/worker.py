"""``python -m bench.peers.worker PEER WORKLOAD``: one peer at one workload, doing what it is told on stdin.

Each line in is a command, each line out its JSON reply: ``{"error": ...}`` or

    check        {"values": [...]}: the losses of the first steps, or the outputs, with nothing left to chance
    warm         {"steps": n}: builds what is timed, and runs it until it is warm
    time S N     {"seconds": [...], "faults": n}: of each step, for S seconds and N steps at least; and how
                 many pages the steps were the first to touch
    memory       {"peak": bytes}

A process is stopped in between, so it warms up again before each timing.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

CHECKED = 4  # steps
WARM, REWARM = 1.0, 0.1  # seconds


def measure(step: Callable[[], Any], seconds: float, least: int) -> list[float]:
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < least or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    return taken


class Worker:
    def __init__(self, peer: str, workload: str) -> None:
        from bench.peers.workloads import PEERS, WORKLOADS

        self.workload = next(w for w in WORKLOADS if w.name == workload)
        self.variant = PEERS[peer].variant
        self.module = importlib.import_module(f"bench.peers.{PEERS[peer].module}")
        self.step: Callable[[], Any] = lambda: None

    def _build(self, network: Any) -> Callable[[], Any]:
        return getattr(self.module, self.workload.kind)(network, self.variant)

    def check(self) -> dict[str, Any]:
        step = self._build(self.workload.network.without_dropout())
        if self.workload.kind == "training":
            return {"values": [float(step()) for _ in range(CHECKED)]}
        return {"values": step().ravel().tolist()}

    def warm(self) -> dict[str, Any]:
        self.step = self._build(self.workload.network)
        return {"steps": len(measure(self.step, WARM, 3))}

    def time(self, seconds: str, least: str) -> dict[str, Any]:
        import resource

        measure(self.step, REWARM, 3)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        taken = measure(self.step, float(seconds), int(least))
        after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        return {"seconds": taken, "faults": after - before}

    def memory(self) -> dict[str, Any]:
        import resource

        kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"peak": kibibytes * (1 if sys.platform == "darwin" else 1024)}


def main() -> None:
    # Libraries print as they like: replies go out through a copy of stdout, everything else to stderr.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer, workload = sys.argv[1:]
    worker = None
    for line in sys.stdin:
        command, *arguments = line.split()
        try:
            worker = worker or Worker(peer, workload)
            reply = getattr(worker, command)(*arguments)
        except Exception as error:  # the parent reports it and goes on with the others
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
