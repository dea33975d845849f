"""One workload timed: every peer in a process of its own, one running at a time, turn about.

What is not being timed is stopped (SIGSTOP), because the idle threads of most libraries spin for a while and
would take the cores from the next one. So this needs a POSIX system.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from bench.peers.workloads import OURS, Workload

ROOT = Path(__file__).resolve().parents[2]
STEPS = 30  # of each peer at least, in all rounds together
TOLERANCE = 1e-3  # of losses and outputs, relative to the largest


class PeerFailed(RuntimeError):
    """A peer cannot run here, most often because it is not installed."""


class Unequal(AssertionError):
    """Two peers do not compute the same, so their times say nothing."""


def cores(count: int) -> set[int]:
    """`count` CPUs that this process may use, of different cores as far as there are as many."""
    if not hasattr(os, "sched_getaffinity"):
        return set()
    first, rest, seen = [], [], set()
    for cpu in sorted(os.sched_getaffinity(0)):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        core = siblings.read_text() if siblings.exists() else str(cpu)
        (rest if core in seen else first).append(cpu)
        seen.add(core)
    return set((first + rest)[:count])


def environment(threads: int) -> dict[str, str]:
    """What tells each library how many threads to use; JAX counts the CPUs it may run on."""
    names = ("OMP", "MKL", "OPENBLAS", "FASTNN")
    own = {"TORCHINDUCTOR_COMPILE_THREADS": "1", "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **own, **{f"{name}_NUM_THREADS": str(threads) for name in names}}


class Process:
    """A worker and the line to it; stopped except while it answers."""

    def __init__(self, peer: str, workload: str, threads: int) -> None:
        self.peer = peer
        self.child = subprocess.Popen(
            [sys.executable, "-m", "bench.peers.worker", peer, workload],
            cwd=ROOT,
            env=environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if cpus := cores(threads):
            os.sched_setaffinity(self.child.pid, cpus)

    def ask(self, command: str) -> dict[str, Any]:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.send_signal(signal.SIGCONT)
        try:
            self.child.stdin.write(command + "\n")
            self.child.stdin.flush()
            line = self.child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerFailed(f"its process ended with status {self.child.wait()}")
        self.child.send_signal(signal.SIGSTOP)
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise PeerFailed(reply["error"])
        return reply

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.communicate()


def agree(values: dict[str, list[float]]) -> None:
    """Raise :class:`Unequal` unless all peers' values are those of fastnn, up to rounding."""
    expected = values[OURS]
    scale = max(map(abs, expected))
    for peer, own in values.items():
        near = [abs(a - b) <= TOLERANCE * scale for a, b in zip(own, expected, strict=True)]
        if not all(near):  # a NaN is near nothing
            at = near.index(False)
            raise Unequal(f"value {at} of {peer} is {own[at]}, of {OURS} {expected[at]}")


def compare(workload: Workload, *, rounds: int, seconds: float, threads: int, say: Any) -> dict[str, Any]:
    """The times of all peers at `workload`.

    Returns
    -------
    dict
        peer -> ``{"median": s, "rounds": [median of each], "steps": n, "faults": a step, "peak": bytes}``, or
        ``{"skipped": reason}`` for those that cannot run here.
    """
    results: dict[str, Any] = {}
    with ExitStack() as stack:
        running: list[Process] = []
        values = {}
        for peer in workload.peers:
            process = stack.enter_context(Process(peer, workload.name, threads))
            try:
                values[peer] = process.ask("check")["values"]
                process.ask("warm")
                running.append(process)
            except PeerFailed as failure:
                if peer == OURS:
                    raise
                say(f"  {peer}: skipped, {failure}")
                results[peer] = {"skipped": str(failure)}
        agree(values)
        taken: dict[str, list[list[float]]] = {process.peer: [] for process in running}
        faults = dict.fromkeys(taken, 0)
        for number in range(rounds):
            turn = number % len(running)  # nobody always comes after the same one, nor always first
            for process in running[turn:] + running[:turn]:
                reply = process.ask(f"time {seconds / rounds} {-(-STEPS // rounds)}")
                taken[process.peer].append(reply["seconds"])
                faults[process.peer] += reply["faults"]
        for process in running:
            every = [second for turn in taken[process.peer] for second in turn]
            results[process.peer] = {
                "median": median(every),
                "rounds": [median(turn) for turn in taken[process.peer]],
                "steps": len(every),
                "faults": faults[process.peer] / len(every),
                "peak": process.ask("memory")["peak"],
            }
    return results
