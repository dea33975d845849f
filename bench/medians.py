"""``python -m bench.medians [FILE]``: a table of the benchmarks' medians, from pytest-benchmark's JSON.

One row a case, one column a contender with its median time, and how many times faster each is than the first.
It says where a time is not to be trusted: the machine had other work when the run began, or the median round
took over twice as long as the fastest.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DEFAULT = Path("out/bench.json")


def duration(seconds: float) -> str:
    """Three figures and the unit they read best in."""
    value, unit = seconds * 1e6, "µs"
    for larger in ("ms", "s"):
        if value >= 1000:
            value, unit = value / 1000, larger
    return f"{value:.{2 - (value >= 10) - (value >= 100)}f} {unit}"


def cell(stats: dict[str, float] | None) -> str:
    if stats is None:
        return ""
    return duration(stats["median"]) + (" \\*" if stats["median"] > 2 * stats["min"] else "")


def table(run: dict[str, Any]) -> str:
    """The Markdown of a run: a section an operation, in the order they ran."""
    sections: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    contenders: dict[str, None] = {}
    for result in run["benchmarks"]:
        info = result["extra_info"]
        contenders.setdefault(info["contender"])
        row = sections.setdefault(info["operation"], {}).setdefault(info["case"], {})
        row[info["contender"]] = result["stats"]
    base, *others = contenders
    machine = run["machine_info"]
    cpu = machine["cpu"]
    name = cpu.get("brand_raw", machine["machine"])
    lines = [f"Medians on {name}, {cpu['count']} CPUs, {run['datetime'][:10]}."]
    if machine["load"] > 0.25 * cpu["count"]:
        lines.append(
            f"**The machine was busy (load {machine['load']:.1f}): time this again when it is idle.**"
        )
    for operation, rows in sections.items():
        lines += ["", f"### {operation}", ""]
        columns = [base, *(f"{name} | {base} / {name}" for name in others)]
        lines.append("| case | " + " | ".join(columns) + " |")
        lines.append("|---|" + "---:|" * (1 + 2 * len(others)))
        for case, row in rows.items():
            cells = [cell(row.get(base))]
            for name in others:
                both = name in row and base in row
                cells.append(cell(row.get(name)))
                cells.append(f"{row[base]['median'] / row[name]['median']:.1f}" if both else "")
            lines.append("| " + " | ".join([case, *cells]) + " |")
    if any(line.count("\\*") for line in lines):
        lines += ["", "\\* The median is over twice the fastest round: time this again."]
    return "\n".join(lines)


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    try:
        run = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"bench.medians: cannot read {path}: {error}; `make bench` writes it")
    print(table(run))


if __name__ == "__main__":
    main()
