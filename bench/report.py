"""``python -m bench.report [FILE]``: the table of a benchmark run, in Markdown, from pytest-benchmark's JSON.

One row a case, one column a contender with its median time, and how many times faster each is than the first.
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


def table(run: dict[str, Any]) -> str:
    """The Markdown of a run: a section an operation, in the order they ran."""
    sections: dict[str, dict[str, dict[str, float]]] = {}
    contenders: dict[str, None] = {}
    for result in run["benchmarks"]:
        info = result["extra_info"]
        contenders.setdefault(info["contender"])
        row = sections.setdefault(info["operation"], {}).setdefault(info["case"], {})
        row[info["contender"]] = result["stats"]["median"]
    base, *others = contenders
    machine = run["machine_info"]
    cpu = machine["cpu"]
    lines = [
        f"Medians on {cpu.get('brand_raw', machine['machine'])}, {cpu['count']} CPUs, {run['datetime'][:10]}."
    ]
    for operation, rows in sections.items():
        lines += ["", f"### {operation}", ""]
        lines.append(
            "| case | " + " | ".join([base, *(f"{name} | {base} / {name}" for name in others)]) + " |"
        )
        lines.append("|---|" + "---:|" * (1 + 2 * len(others)))
        for case, medians in rows.items():
            cells = [duration(medians[base]) if base in medians else ""]
            for name in others:
                both = name in medians and base in medians
                cells.append(duration(medians[name]) if name in medians else "")
                cells.append(f"{medians[base] / medians[name]:.1f}" if both else "")
            lines.append("| " + " | ".join([case, *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    try:
        run = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"bench.report: cannot read {path}: {error}; `make bench` writes it")
    print(table(run))


if __name__ == "__main__":
    main()
