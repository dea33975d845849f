"""``python -m bench.gpu``: measure fastnn on this machine's GPU, print the tables, keep the times as JSON.

See `bench/gpu/__init__.py` for the rules and `bench/gpu/items.py` for what there is. Whatever ends the run,
what was measured until then is in the file. The exit code is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import selectors
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastnn
from bench.gpu import items, tables
from fastnn.experiments.environment import machine, versions

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"
PACKAGES = ("numpy", "cupy-cuda12x", "cupy-cuda13x", "nvidia-cuda-nvrtc", "torch", "triton", "numba")
SILENCE = 120.0  # seconds that one item may take: a compilation of PyTorch's is the longest


class Worker:
    """The process that measures; it is started when an item is asked for, and again after it ended."""

    def __init__(self, seconds: float) -> None:
        self._command = [sys.executable, "-m", "bench.gpu.worker", str(seconds)]
        self._child: subprocess.Popen[str] | None = None

    def do(self, item: str, deadline: float) -> dict[str, Any]:
        """Its reply, or ``{"item": ..., "error": ...}`` for it."""
        if self._child is None or self._child.poll() is not None:
            self._child = subprocess.Popen(
                self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        limit = min(SILENCE, deadline - time.monotonic())
        try:
            self._child.stdin.write(item + "\n")
            self._child.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(self._child.stdout, selectors.EVENT_READ)
                if not selector.select(max(0.0, limit)):
                    self.end()
                    return {"item": item, "error": f"no result after {limit:.0f} s"}
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"item": item, "error": f"its process ended with status {self._child.wait()}"}
        reply: dict[str, Any] = json.loads(line)
        if reply["last"]:
            self._child.wait()
        return reply

    def end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parts = f"only this part ({', '.join(items.PARTS)}); today's file keeps what it has of others"
    parser.add_argument("--part", action="append", choices=list(items.PARTS), metavar="PART", help=parts)
    parser.add_argument("--only", action="append", metavar="NAME", help="only items with NAME in their name")
    parser.add_argument("--seconds", type=float, default=0.25, help="of each time (default 0.25)")
    budget = "of the whole run; items that it does not reach are named (default 360)"
    parser.add_argument("--budget", type=float, default=360.0, help=budget)
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder of the JSON (default bench/results)"
    )
    return parser.parse_args()


def about() -> dict[str, Any]:
    """The machine and what is installed; asks in a child, so that this process never starts CUDA."""
    code = (
        "import json, sys; import fastnn; reason = fastnn.available_backends()['cupy']\n"
        "if reason: sys.exit('bench.gpu: ' + reason)\n"
        "from fastnn.kernels.cuda import device; print(json.dumps(device.describe()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr.strip())
    return json.loads(done.stdout)


def start(device: dict[str, Any]) -> dict[str, Any]:
    """What the file holds before anything is measured."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "fastnn": fastnn.__version__,
        "device": device,
        "machine": {**machine(), "load": os.getloadavg()[0]},
        "versions": versions(PACKAGES),
        "results": {},
        "failed": {},
        "not reached": [],
    }


def file_for(run: dict[str, Any], folder: Path) -> Path:
    name = re.sub(r"[^a-z0-9]+", "-", run["device"]["gpu"].lower()).strip("-")
    return folder / f"{name}-{run['date'][:10]}.json"


def add_earlier(run: dict[str, Any], path: Path) -> None:
    """Take over what a run of the same day found with the same driver and versions: this one has a part."""
    if path.exists():
        earlier = json.loads(path.read_text())
        if all(earlier[key] == run[key] for key in ("fastnn", "versions")) and (
            earlier["device"]["gpu driver"] == run["device"]["gpu driver"]
        ):
            run["results"] |= earlier["results"]


def failures(run: dict[str, Any]) -> list[str]:
    """A line for each item, and each contender in one, that failed."""
    lines = [f"{item}: {error}" for item, error in run["failed"].items()]
    for item, result in run["results"].items():
        for who, one in result.items() if isinstance(result, dict) else ():
            if isinstance(one, dict) and "failed" in one:
                lines.append(f"{item}, {who}: {one['failed']}")
    return lines


def measure(worker: Any, run: dict[str, Any], listed: list[str], budget: float, path: Path) -> None:
    """Do the items one after the other, and write what there is after each."""
    deadline = time.monotonic() + budget
    for number, item in enumerate(listed):
        if time.monotonic() > deadline:
            run["not reached"] = listed[number:]
            break
        began = time.monotonic()
        reply = worker.do(item, deadline)
        if "error" not in reply:
            run["results"][item] = reply["result"]
        elif time.monotonic() < deadline:
            run["failed"][item] = reply["error"]
        else:  # it may have been cut short
            run["not reached"] = listed[number:]
            break
        path.write_text(json.dumps(run, indent=1) + "\n")
        state = f"FAILED: {reply['error']}" if "error" in reply else "done"
        print(f"{item}: {state} ({time.monotonic() - began:.1f} s)", file=sys.stderr, flush=True)
    path.write_text(json.dumps(run, indent=1) + "\n")


def main() -> int:
    options = arguments()
    listed = items.names(options.part, options.only)
    if not listed:
        sys.exit("bench.gpu: no such items")
    run = start(about())
    options.out.mkdir(parents=True, exist_ok=True)
    path = file_for(run, options.out)
    if options.part or options.only:
        add_earlier(run, path)
    worker = Worker(options.seconds)
    try:
        measure(worker, run, listed, options.budget, path)
    finally:
        worker.end()
    print(tables.document(run))
    lines = failures(run)
    if run["not reached"]:
        print(f"\nnot reached in {options.budget:.0f} s: {', '.join(run['not reached'])}")
    for line in lines:
        print(f"\nFAILED {line}")
    print(f"\nwrote {path}")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
