"""``python -m bench.gpu.tables FILE``: the Markdown tables of a run of ``bench.gpu``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.medians import duration

OURS = "fastnn, captured"
TITLES = {
    "fastnn, ordinary": "as calls",
    "fastnn, Trainer": "by the Trainer",
    "PyTorch, eager": "PyTorch",
    "PyTorch, graph": "CUDA graph",
    "PyTorch, compile": "torch.compile",
    "PyTorch, compile + graph": "compiled, CUDA graph",
}
_PRECISIONS = {"": "float32", "-tf32": "TF32"}


def document(run: dict[str, Any]) -> str:
    """All tables of the run, and on what it was made."""
    device, found = run["device"], run["versions"]
    named = ", ".join(f"{name} {version}" for name, version in found.items())
    lines = [f"{device['gpu']}, driver {device['gpu driver']}, {run['date'][:10]}; {named}."]
    for suffix, precision in _PRECISIONS.items():
        lines += steps(run["results"], suffix, precision)
    limits = run["results"].get("limits/limits")
    if limits:
        lines += ["", rates(limits)]
    return "\n".join(lines + kernels(run["results"], limits))


def rates(limits: dict[str, float]) -> str:
    """What the device can do, in a sentence."""
    parts = [f"copy {limits['copy'] / 1e12:.2f} TB/s"] if "copy" in limits else []
    parts += [f"{name} {rate / 1e12:.1f} TFLOP/s" for name, rate in limits.items() if name != "copy"]
    return f"Limits: {', '.join(parts)}."


def steps(results: dict[str, Any], suffix: str, precision: str) -> list[str]:
    """A row a network: the time of fastnn's step, and how many times longer the others take."""
    rows: dict[str, dict[str, Any]] = {}
    for part in ("networks", "compile"):
        start = f"{part}{suffix}/"
        for item, result in results.items():
            if item.startswith(start):
                # each item has times of fastnn's own, and ratios are within it
                row = rows.setdefault(item.removeprefix(start), {})
                ours = result.get(OURS, {}).get("median")
                row.setdefault(OURS, ours)
                for who, one in result.items():
                    if who != OURS and ours is not None and "median" in one:
                        row[who] = one["median"] / ours
    columns = [who for who in TITLES if any(who in row for row in rows.values())]
    if not rows:
        return []
    lines = ["", f"A training step, {precision}: its time on fastnn as a CUDA graph; others over that.", ""]
    lines.append("| network | fastnn | " + " | ".join(TITLES[who] for who in columns) + " |")
    lines.append("|---|---:|" + "---:|" * len(columns))
    for name, row in rows.items():
        ours = "failed" if row.get(OURS) is None else duration(row[OURS])
        cells = [f"{row[who]:.2f}" if who in row else "" for who in columns]
        lines.append("| " + " | ".join([name, ours, *cells]) + " |")
    return lines


def kernels(results: dict[str, Any], limits: dict[str, float] | None) -> list[str]:
    """A row a kernel: its time, and the least that the device could take as a share of it."""
    lines: list[str] = []
    for item, found in results.items():
        part = item.partition("/")[0]
        if not part.startswith("kernels"):
            continue
        tensor_cores = part.endswith("tf32")
        for entry in found:
            name, seconds = entry["name"] + (", TF32" if tensor_cores else ""), entry["seconds"]
            if seconds <= 0:  # a difference of two times can come out so
                lines.append(f"| {name} | not measurable |  |  |  |")
                continue
            floor = least(entry, limits or {}, tensor_cores)
            share = "" if floor is None else f"{floor / seconds:.0%}"
            per_second = (f"{entry[amount] / seconds / 1e9:.0f}" for amount in ("traffic", "operations"))
            lines.append("| " + " | ".join([name, duration(seconds), *per_second, share]) + " |")
    head = ["", "| kernel | time | GB/s | GFLOP/s | share of its limit |", "|---|---:|---:|---:|---:|"]
    return head + lines if lines else []


def least(entry: dict[str, Any], limits: dict[str, float], tensor_cores: bool) -> float | None:
    """The seconds that what the kernel does takes at the limits of the device, if those are known."""
    arithmetic = "matmul, TF32" if tensor_cores else "multiply-add"
    if arithmetic not in limits:
        return None
    return max(entry["traffic"] / limits["copy"], entry["operations"] / limits[arithmetic])


def main() -> None:
    print(document(json.loads(Path(sys.argv[1]).read_text())))


if __name__ == "__main__":
    main()
