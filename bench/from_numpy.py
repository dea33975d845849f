"""The steps of docs/from-numpy.md, timed: ``python -m bench.from_numpy [--write docs/from-numpy.md]``.

The page's own code is what runs. Each step is timed in processes of its own, in turn with the others: NumPy's
threads go on spinning for a while after a product, and would slow down what is timed after it.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).resolve().parents[1] / "docs" / "from-numpy.md"
BATCH_SIZE, STEPS = 64, 100  # of an epoch that is timed
ROUNDS, SECONDS = 3, 2.0  # processes for each step, and how long each trains
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Step(NamedTuple):
    """A ``### Step`` of the page: its section, its title, and its code after all that stands above it."""

    section: str
    title: str
    code: str

    def names(self) -> dict[str, Any]:
        """What the code defines once it has run: ``epoch(x, y)``, ``x_train``, ``y_train`` and more."""
        defined: dict[str, Any] = {}
        exec(self.code, defined)
        return defined


def steps(page: str) -> list[Step]:
    """Every step of a page, in order."""
    found, above = [], ""
    for section in re.split(r"^## ", page, flags=re.MULTILINE):
        head, *parts = re.split(r"^### ", section, flags=re.MULTILINE)
        above += "\n".join(_BLOCK.findall(head))
        for part in parts:
            above += "\n".join(_BLOCK.findall(part))
            if part.startswith("Step"):
                found.append(Step(head.splitlines()[0], part.splitlines()[0], above))
    return found


def milliseconds(step: Step) -> float:
    """The median time of a training step, batches and all, over epochs of `STEPS` steps."""
    names, images = step.names(), BATCH_SIZE * STEPS
    x, y = names["x_train"][:images], names["y_train"][:images]
    names["epoch"](x, y)
    times = []
    end = time.perf_counter() + SECONDS
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        names["epoch"](x, y)
        times.append((time.perf_counter() - start) / STEPS)
    return 1e3 * statistics.median(times)


def in_turn(count: int) -> list[float]:
    """The median of `ROUNDS` processes for each of so many steps."""
    times: list[list[float]] = [[] for _ in range(count)]
    for _ in range(ROUNDS):
        for number, taken in enumerate(times):
            command = [sys.executable, "-m", "bench.from_numpy", "--only", str(number)]
            taken.append(float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))
    return [statistics.median(taken) for taken in times]


def table(titles: list[str], times: list[float]) -> str:
    """What a training step takes, and how many times as fast as the first that is, as Markdown."""
    rows = [f"| {title} | {ms:.3g} | {times[0] / ms:.1f} |" for title, ms in zip(titles, times, strict=True)]
    return "\n".join(["| | ms for a training step | times as fast as by hand |", "|---|---:|---:|", *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables between the page's marks")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="time one step, in this process")
    arguments = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    found = steps(page)
    if arguments.only is not None:
        print(milliseconds(found[arguments.only]))
        return
    times = in_turn(len(found))
    for section in dict.fromkeys(step.section for step in found):
        own = [(step.title, ms) for step, ms in zip(found, times, strict=True) if step.section == section]
        lines = table([title for title, _ in own], [ms for _, ms in own])
        print(f"{section}\n\n{lines}\n")
        mark = f"<!-- {section}: from here -->\n"
        before, after = page.split(mark)
        page = f"{before}{mark}{lines}\n{after[after.index('<!-- to here -->') :]}"
    if arguments.write is not None:
        arguments.write.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
