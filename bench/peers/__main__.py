"""``python -m bench.peers``: compare fastnn with other libraries, print the ratios, keep the times as JSON.

At equal work and equal threads: see `bench/peers/__init__.py`. A library that is not installed is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.peers.rounds import compare
from bench.peers.workloads import BASELINE, OURS, PEERS, WORKLOADS, Workload
from fastnn.experiments.environment import machine, versions

DEFAULT = Path("out/peers.json")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    only = "only those with NAME in their name"
    parser.add_argument("--workload", metavar="NAME", action="append", help=only)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each peer (default 5, at least 3)")
    budget = "of each peer at a workload, all rounds together (default 5)"
    parser.add_argument("--seconds", type=float, default=5.0, help=budget)
    parser.add_argument("--threads", type=int, default=2, help="of each peer (default 2)")
    parser.add_argument("--out", type=Path, default=DEFAULT, help=f"default {DEFAULT}")
    options = parser.parse_args()
    if options.rounds < 3:
        parser.error("--rounds must be at least 3: a median of fewer turns says little")
    return options


def chosen(names: list[str] | None) -> list[Workload]:
    """The workloads that have one of `names` in theirs."""
    found = [w for w in WORKLOADS if names is None or any(name in w.name for name in names)]
    if not found:
        sys.exit(f"bench.peers: no such workload; there are: {'; '.join(w.name for w in WORKLOADS)}")
    return found


def ratios(results: dict[str, Any]) -> dict[str, float]:
    """peer -> its time over that of fastnn."""
    ours = results[OURS]["median"]
    return {p: r["median"] / ours for p, r in results.items() if p != OURS and "median" in r}


def best(ratio: dict[str, float]) -> str | None:
    """The peer that is fastest; the baseline is none."""
    return min((peer for peer in ratio if peer != BASELINE), key=ratio.__getitem__, default=None)


def verdict(workload: Workload, results: dict[str, Any]) -> str:
    """A line: how fast fastnn is beside the best peer and the baseline, and how fast it means to be."""
    ratio = ratios(results)
    parts = []
    for peer, bar in ((best(ratio), workload.bar), (BASELINE, workload.baseline_bar)):
        if peer in ratio:
            aim = "" if bar is None else f" (bar {bar:g}{'' if ratio[peer] >= bar else ', MISSED'})"
            parts.append(f"{ratio[peer]:.2f} x {peer}{aim}")
    return f"{workload.name}: {', '.join(parts) or 'no peer is installed'}"


def main() -> None:
    options = arguments()
    packages = tuple(dict.fromkeys(name for peer in PEERS.values() for name in peer.packages))

    def say(line: str) -> None:
        print(line, flush=True)

    run: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {**machine(), "load": os.getloadavg()[0]},
        "versions": versions(packages),
        "threads": options.threads,
        "workloads": {},
    }
    for workload in chosen(options.workload):
        if reason := workload.network.missing():
            say(f"{workload.name}: left out, {reason}")
            continue
        say(f"{workload.name} ...")
        budget = {"rounds": options.rounds, "seconds": options.seconds, "threads": options.threads}
        results = compare(workload, **budget, say=say)
        for peer, result in results.items():
            if "median" in result:
                low, high = (1e3 * pick(result["rounds"]) for pick in (min, max))
                spread = f"rounds {low:.3f} to {high:.3f}"
                say(f"  {peer:22}{1e3 * result['median']:10.3f} ms  ({spread}, {result['steps']} steps)")
        say(f"  => {verdict(workload, results)}")
        bars = {"bar": workload.bar, "baseline_bar": workload.baseline_bar}
        run["workloads"][workload.name] = {"kind": workload.kind, **bars, "peers": results}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(run, indent=1) + "\n")  # stopped, a run keeps what it measured
    say(f"wrote {options.out}; python -m bench.report makes README.md's table of it")


if __name__ == "__main__":
    main()
