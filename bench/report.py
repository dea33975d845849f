"""``python -m bench.report``: the comparison with other libraries in README.md, and the kernels' picture.

Reads what ``python -m bench.peers`` and ``python -m bench.limits`` wrote. The table has ratios and no times:
a time says most about the machine. It says where a ratio is not to be trusted: the machine had other work
when the run began, or the turns of one of the two differ by half.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench import limits, roofline
from bench.peers import __main__ as peers
from bench.peers.workloads import BASELINE, OURS, PEERS

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- bench.report writes from here -->", "<!-- to here -->"
PICTURE = Path("docs/roofline.png")


def unsteady(result: dict[str, Any]) -> bool:
    return max(result["rounds"]) > 1.5 * min(result["rounds"])


def table(workloads: dict[str, Any], kind: str) -> list[str]:
    """The rows of one kind of workload: each library's time over that of fastnn, the fastest in bold."""
    rows = {name: entry["peers"] for name, entry in workloads.items() if entry["kind"] == kind}
    ran = {peer for row in rows.values() for peer, result in row.items() if "median" in result}
    columns = [peer for peer in PEERS if peer in ran - {OURS, BASELINE}]
    columns += [BASELINE] if BASELINE in ran else []
    if not rows or not columns:
        return []
    lines = ["", f"| {kind} | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name, row in rows.items():
        ratio = peers.ratios(row)
        fastest = peers.best(ratio)
        cells = []
        for peer in columns:
            text = f"{ratio[peer]:.{2 if ratio[peer] < 9.95 else 0}f}" if peer in ratio else ""
            text = f"**{text}**" if peer == fastest else text
            cells.append(text + (" \\*" if text and (unsteady(row[peer]) or unsteady(row[OURS])) else ""))
        lines.append("| " + " | ".join([name.replace(", inference", ""), *cells]) + " |")
    return lines


def section(run: dict[str, Any]) -> str:
    """What stands in README.md of a run of ``bench.peers``, in Markdown."""
    machine, found = run["machine"], run["versions"]
    named = {"torch": "PyTorch", "jax": "JAX", "scikit-learn": "scikit-learn", "onnxruntime": "ONNX Runtime"}
    named |= {"numpy": "NumPy", "numba": "Numba"}
    versions = ", ".join(f"{name} {found[package]}" for package, name in named.items() if package in found)
    lines = [
        f"Time of each library over that of fastnn, {run['threads']} threads each; the fastest in bold. "
        f"Medians on {machine['processor']}, {run['date'][:10]}; {versions}."
    ]
    if machine["load"] > 0.25 * machine["cpus"]:
        load = machine["load"]
        lines.append(f"**The machine was busy (load {load:.1f}): run this again when it is idle.**")
    for kind in ("training", "inference"):
        lines += table(run["workloads"], kind)
    if any("\\*" in line for line in lines):
        lines += ["", "\\* Its turns differed by over half: run this again."]
    return "\n".join(lines)


def fill(text: str, content: str) -> str:
    """`text` with `content` between the two marks, whatever was there."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the marks {BEGIN} and {END} are missing")
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def read(path: Path, command: str) -> dict[str, Any]:
    try:
        run: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"bench.report: cannot read {path}: {error}; `{command}` writes it")
    return run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--peers", type=Path, default=peers.DEFAULT, help=f"default {peers.DEFAULT}")
    parser.add_argument("--limits", type=Path, default=limits.DEFAULT, help=f"default {limits.DEFAULT}")
    parser.add_argument("--root", type=Path, default=ROOT, help="of README.md and docs/; default here")
    options = parser.parse_args()
    compared = read(options.peers, "python -m bench.peers")
    measured = read(options.limits, "python -m bench.limits")
    (options.root / PICTURE).parent.mkdir(exist_ok=True)
    roofline.draw(measured, options.root / PICTURE)
    readme = options.root / "README.md"
    link = f"![Each kernel as a share of what the machine can do]({PICTURE.as_posix()})"
    try:
        text = fill(readme.read_text(encoding="utf-8"), f"{section(compared)}\n\n{link}")
    except ValueError as error:
        sys.exit(f"bench.report: {readme}: {error}")
    readme.write_text(text, encoding="utf-8")
    print(f"{section(compared)}\n\nwrote this to {readme}, and {options.root / PICTURE}")


if __name__ == "__main__":
    main()
