"""A child process that makes drawn calls with every array flush against a guard page.

``test_memory_edges.py`` starts it. It notes each call in a file before it makes it: after a fault, the last
line names the culprit. (Out of its reach: the blocks that compiled code allocates for itself.)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.cpu import _jit, _memory
from fastnn.kernels.cpu.tile import describe as describe_tile
from fastnn.kernels.cpu.tile import panels
from tests.drawn import KERNELS, Calls, Draw, Drawn
from tests.drawn_parts import PARTS, WAYS, run_panel
from tests.guarded import Allocator
from tests.rooms import CPU, REFERENCE, agree

ROOT = Path(__file__).resolve().parents[1]


# How often each call is drawn
COUNTS = {**dict.fromkeys(PARTS, 90), **dict.fromkeys(WAYS, 24), **dict.fromkeys(KERNELS, 60)}
COUNTS["linear_backward, large"] = 48  # has the most ways


class Report(NamedTuple):
    """What a child did: its exit code, its last words, its calls, and what it says of itself."""

    code: int
    errors: str
    calls: list[str]
    found: dict[str, Any]  # "vector_bits" and the "kernels" that ran; empty if it did not end well


def run_child(
    counts: dict[str, int],
    folder: Path,
    *,
    compared: bool = False,
    environment: dict[str, str] | None = None,
) -> Report:
    """Make so many calls of each name, `compared` with the reference's results or not."""
    log, found = folder / "calls.txt", folder / "found.json"
    what = json.dumps({"counts": counts, "compared": compared})
    command = [sys.executable, "-X", "faulthandler", "-m", __name__, folder, what]
    environment = {**os.environ, **(environment or {})}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200)
    calls = log.read_text().splitlines() if log.exists() else []
    told = json.loads(found.read_text()) if found.exists() else {}
    return Report(done.returncode, done.stderr[-3000:], calls, told)


def panel_told(columns: int, row: int) -> Callable[[Draw], Drawn]:
    """A panel told of `columns` more than its B has, and of a row of A that begins `row` before the first."""

    def draw(d: Draw) -> Drawn:
        b = np.ones((2, 3), d.dtype)
        table, offsets = np.full(1, -row), np.zeros(1, np.int64)
        a, c = np.ones(2, d.dtype), np.ones((1, 3 + columns), d.dtype)
        masked = 3 + int(panels(d.dtype().itemsize)[1])
        return run_panel, (masked, 3 + columns, a, False, b, None, c, table, offsets, False, False, False)

    return draw


def never_written(d: Draw) -> Drawn:
    return np.empty, (3, d.dtype)


FAULTS: Calls = {
    "reads past the end": panel_told(1, 0),
    "reads before the start": panel_told(0, 1),
    "returns what it never wrote": never_written,
}


def describe(x: Any) -> str:
    if isinstance(x, np.ndarray):
        return f"{x.dtype}{list(x.shape)} strides {list(x.strides)}"
    return f"({', '.join(map(describe, x))})" if isinstance(x, tuple | list) else repr(x)


def without_slack() -> None:
    """Let the room's own results and scratch lie flush too: it would begin them on cache lines, in blocks
    with up to a line to spare, and lend them again."""
    for name, module in list(sys.modules.items()):
        if name.startswith(_memory.__package__):
            for lender in ("empty", "aligned"):
                if hasattr(module, lender):
                    setattr(module, lender, np.empty)


def noting_kernels() -> set[str]:
    """A set to which every kernel that runs from now on adds its name."""
    ran: set[str] = set()

    def noting(call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(self: _jit.Kernel, *arguments: Any) -> Any:
            function = self.compiled.py_func
            ran.add(f"{function.__module__.rpartition('.')[2]}.{function.__name__}")
            return call(self, *arguments)

        return noted

    for name in ("__call__", "unheard"):
        setattr(_jit.Kernel, name, noting(getattr(_jit.Kernel, name)))
    return ran


def make_calls(folder: Path, counts: dict[str, int], compared: bool) -> None:
    """What the child does."""
    allocator = Allocator()
    allocator.install()
    without_slack()
    ran = noting_kernels()
    calls = {**PARTS, **WAYS, **KERNELS, **FAULTS}
    with (folder / "calls.txt").open("w") as file:
        for name, count in counts.items():
            for i in range(count):
                allocator.at_end = i % 2 == 0
                seed, dtype = [i, *name.encode()], (np.float32, np.float64)[i // 2 % 2]
                kernel, operands = calls[name](Draw(seed, dtype, CPU))
                side = "end" if allocator.at_end else "start"
                file.write(f"{name} {i}, flush at the {side}: {describe(operands)}\n")
                file.flush()
                results = listed(kernel(*operands))
                for array in results:
                    if isinstance(array, np.ndarray) and array.dtype.kind == "f":
                        assert not np.isnan(array).any(), "a result holds memory that nobody wrote"
                if compared and name not in PARTS:
                    kernel, operands = calls[name](Draw(seed, dtype, REFERENCE))
                    agree(results, listed(kernel(*operands)), dtype, f"{name} {i}")
    found = {"vector_bits": describe_tile()["vector_bits"], "kernels": sorted(ran)}
    (folder / "found.json").write_text(json.dumps(found))


def listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple) else [result]


if __name__ == "__main__":
    status = 1
    try:
        make_calls(Path(sys.argv[1]), **json.loads(sys.argv[2]))
        status = 0
    except Exception:
        traceback.print_exc()
    finally:  # at once: the interpreter would take the allocator down before the arrays that came from it
        sys.stderr.flush()
        os._exit(status)
