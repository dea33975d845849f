"""``python -m bench.limits``: each CPU kernel as a share of what the machine can do, kept as JSON.

Two limits, each measured in turn with every kernel that is held against it, for a machine's speed drifts:

* arithmetic: the micro-kernel's multiply-adds with all strides zero, so that no memory is waited for;
* memory: copying an array of the size that the kernels work on, with the C library's memmove. It stores past
  the cache; a loop of plain stores first reads what it overwrites, and its rate is noted beside.

Each kernel runs on one thread and on two (or `--threads`), as do the training steps, for how they scale.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import fastnn
from bench.kernels import ARITHMETIC, MEMORY, Kernel, Sizes, kernels
from bench.networks import NETWORKS, Network
from bench.peers.fastnn_peer import training_step
from fastnn.experiments.environment import machine, versions

DEFAULT = Path("out/limits.json")
_SETTLING = 0.03  # seconds
RECORDED = 4  # steps, after which a step is one call
FMA_STEPS = 200_000  # of the reduction, a few milliseconds a call

Rate = Callable[[], float]  # measures once, in operations or bytes a second


def seconds_of(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def together(executor: ThreadPoolExecutor, works: list[Callable[[], float]]) -> float:
    """The sum of the rates of `works`, each on a thread of its own."""
    rests = [executor.submit(work) for work in works[1:]]
    return works[0]() + sum(rest.result() for rest in rests)


def fma_rate(threads: int, executor: ThreadPoolExecutor) -> Rate:
    """Multiply-adds with accumulators in registers, on the tile that is fastest at it."""
    from fastnn.kernels.cpu import _jit, tile

    lanes, widest, _, *addresses = (int(entry) for entry in tile.panels(4))
    heights = tile._SHAPES[tile._target()["registers"]]

    def work(nv: int) -> Callable[[], float]:
        height, width = heights[nv - 1], nv * lanes
        a, b, c = (np.zeros(size, np.float32) for size in (1, width, height * width))
        rows, offsets = np.zeros(height, np.int64), np.zeros(1, np.int64)

        panel = _jit.from_python(addresses[nv - 1], tile.WORDS)

        def call() -> None:
            panel(
                c.ctypes.data, width, a.ctypes.data, rows.ctypes.data, 0, offsets.ctypes.data, 1, FMA_STEPS,
                b.ctypes.data, 0, 0, height, lanes, 0, 0,
                *tile.NOTHING,
            )  # fmt: skip

        return lambda: 2 * height * width * FMA_STEPS / seconds_of(call)

    fastest = max(range(1, widest + 1), key=lambda nv: max(work(nv)() for _ in range(5)))
    return partial(together, executor, [work(fastest) for _ in range(threads)])


def copy_rate(threads: int, executor: ThreadPoolExecutor, elements: int, *, plain: bool = False) -> Rate:
    """Bytes read and written a second; with `plain` by a loop of ordinary stores."""
    import numba

    @numba.njit(nogil=True)
    def loop(target: np.ndarray, source: np.ndarray) -> None:
        for i in range(source.size):
            target[i] = source[i]

    copy = loop if plain else np.copyto
    source, target = np.ones(elements, np.float32), np.zeros(elements, np.float32)
    copy(target[:1], source[:1])
    part = elements // threads

    def work(t: int) -> float:
        own = slice(t * part, (t + 1) * part)
        return 2 * source[own].nbytes / seconds_of(partial(copy, target[own], source[own]))

    return partial(together, executor, [partial(work, t) for t in range(threads)])


@contextmanager
def limited(threads: int) -> Iterator[None]:
    before = fastnn.get_num_threads()
    fastnn.set_num_threads(threads)
    try:
        yield
    finally:
        fastnn.set_num_threads(before)


def measure(kernel: Kernel, rate: Rate, least: int, seconds: float) -> tuple[float, float]:
    """The median time of the kernel, and of the limit's rate in between."""
    taken, rates = [], []
    calls = [call for call in (kernel.call, kernel.without) if call is not None]
    end = time.perf_counter() + seconds
    while len(taken) < least or time.perf_counter() < end:
        if len(taken) % 8 == 0:
            rates.append(rate())
            # The limit has threads of its own: until the system has moved the kernels' back to both cores,
            # one of these does all the work
            settled = time.perf_counter() + _SETTLING
            while time.perf_counter() < settled:
                for call in calls:
                    call()
        whole, *part = (seconds_of(call) for call in calls)
        taken.append(whole - sum(part))
    return median(taken), median(rates)


def scaling(network: Network, counts: list[int], least: int, seconds: float) -> dict[str, Any]:
    """A training step's time by number of threads, turn about in one loop."""
    # One for each: a step that has been recorded for some threads is recorded anew for others
    steps = {n: training_step(network, 1e-3) for n in counts}
    taken: dict[int, list[float]] = {n: [] for n in counts}
    for n in counts:
        with limited(n):
            for _ in range(RECORDED):
                steps[n]()
    end = time.perf_counter() + seconds
    while len(taken[1]) < least or time.perf_counter() < end:
        for n in counts:
            with limited(n):
                steps[n]()  # wakes the threads
                taken[n] += [seconds_of(steps[n]) for _ in range(3)]
    return {"name": network.name, "seconds": {str(n): median(times) for n, times in taken.items()}}


def run(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, as it is written to the file."""
    counts = sorted({1, options.threads})
    elements = options.megabytes * 2**20 // 4
    result: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {**machine(), "load": os.getloadavg()[0]},
        "versions": versions(),
        "megabytes": options.megabytes,
        "limits": {},
        "kernels": [],
        "steps": [],
    }
    with ThreadPoolExecutor(max(counts)) as executor, fastnn.use_backend("numba"):
        rates: dict[tuple[str, int], Rate] = {}
        for n in counts:
            rates[ARITHMETIC, n] = fma_rate(n, executor)
            rates[MEMORY, n] = copy_rate(n, executor, elements)
            plain = copy_rate(n, executor, elements, plain=True)
            every = {ARITHMETIC: rates[ARITHMETIC, n], MEMORY: rates[MEMORY, n], "plain stores": plain}
            measured = {limit: median([rate() for _ in range(9)]) for limit, rate in every.items()}
            result["limits"][str(n)] = measured
            fma, *copies = (measured[limit] / 1e9 for limit in every)
            rate = "copy {:.1f} GB/s, by plain stores {:.1f} GB/s".format(*copies)
            say(f"limits of {n} thread{'s' if n > 1 else ''}: {fma:.0f} GFLOP/s, {rate}")
            del plain, every  # and their arrays
        for kernel in kernels(Sizes(elements)):
            if options.kernel and not any(name in kernel.name for name in options.kernel):
                continue
            amount = kernel.operations if kernel.limit == ARITHMETIC else kernel.traffic
            entry: dict[str, Any] = {
                key: getattr(kernel, key)
                for key in ("name", "family", "limit", "operations", "traffic", "bar")
            }
            entry |= {"seconds": {}, "share": {}}
            for n in counts:
                with limited(n):
                    spent, rate = measure(kernel, rates[kernel.limit, n], options.least, options.seconds)
                entry["seconds"][str(n)], entry["share"][str(n)] = spent, amount / spent / rate
            result["kernels"].append(entry)
            say(line(entry, counts))
        if not result["kernels"]:
            sys.exit(f"bench.limits: no kernel has {' or '.join(options.kernel)} in its name")
        for network in NETWORKS:
            if not options.kernel:
                result["steps"].append(scaling(network, counts, options.least, options.seconds))
                say(line(result["steps"][-1], counts))
    return result


def line(entry: dict[str, Any], counts: list[int]) -> str:
    """What is printed of a kernel or a step."""
    one, most = (entry["seconds"][str(n)] for n in (counts[0], counts[-1]))
    text = f"{entry['name']:45}{1e3 * most:10.3f} ms  {one / most:5.2f} x one thread"
    if "share" in entry:
        share = entry["share"][str(counts[-1])]
        missed = entry["bar"] is not None and share < entry["bar"]
        aim = "" if entry["bar"] is None else f"  (bar {entry['bar']:.0%}{', MISSED' if missed else ''})"
        text += f"  {share:4.0%} of {entry['limit']}{aim}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.limits", description=__doc__)
    only = "only those with NAME in their name, and no training steps"
    parser.add_argument("--kernel", metavar="NAME", action="append", help=only)
    parser.add_argument("--threads", type=int, default=2, help="beside one (default 2)")
    parser.add_argument("--megabytes", type=int, default=256, help="of a large array (default 256)")
    parser.add_argument("--least", type=int, default=30, help="calls of each kernel (default 30)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each kernel at least (default 0.5)")
    parser.add_argument("--out", type=Path, default=DEFAULT, help=f"default {DEFAULT}")
    options = parser.parse_args()
    result = run(options, lambda text: print(text, flush=True))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {options.out}; python -m bench.report draws docs/roofline.png of it")


if __name__ == "__main__":
    main()
