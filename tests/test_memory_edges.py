"""No kernel reads or writes past an array: operands, results and scratch all lie flush against guard pages.

The calls of ``drawn.py`` and ``drawn_parts.py`` are made in a child process under the allocator of
``guarded.py``, arrays flush at the end and at the start in turn. The child notes each call in a file before
it makes it: after a fault, the last line names the culprit. (Out of its reach: the blocks that compiled code
allocates for itself.)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnn.kernels.cpu import _memory
from tests.drawn import KERNELS, Calls, Draw, Drawn
from tests.drawn_parts import PARTS, run_panel
from tests.guarded import Allocator
from tests.rooms import CPU

ROOT = Path(__file__).resolve().parents[1]
EACH = 90  # calls of each operation
pytestmark = pytest.mark.skipif(os.name != "posix", reason="guard pages are made by mmap and mprotect")


def panel_told(columns: int, row: int) -> Callable[[Draw], Drawn]:
    """A panel told of `columns` more than its B has, and of a row of A that begins `row` before the first."""

    def draw(d: Draw) -> Drawn:
        b = np.ones((2, 3), d.dtype)
        table, offsets = np.full(1, -row), np.zeros(1, np.int64)
        a, c = np.ones(2, d.dtype), np.ones((1, 3 + columns), d.dtype)
        masked = 1
        return run_panel, (masked, 1, 3 + columns, a, False, b, None, c, table, offsets, False, False)

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


def arrays_of(result: Any) -> list[np.ndarray]:
    found = result if isinstance(result, tuple) else (result,)
    return [x for x in found if isinstance(x, np.ndarray) and x.dtype.kind == "f"]


def without_slack() -> None:
    """Let the room's own results and scratch lie flush too: it would begin them on cache lines, in blocks
    with up to a line to spare, and lend them again."""
    for name, module in list(sys.modules.items()):
        if name.startswith(_memory.__package__):
            for lender in ("empty", "aligned"):
                if hasattr(module, lender):
                    setattr(module, lender, np.empty)


def make_calls(log: Path, names: list[str]) -> None:
    """What the child does."""
    allocator = Allocator()
    allocator.install()
    without_slack()
    calls = {**PARTS, **KERNELS, **FAULTS}
    with log.open("w") as file:
        for name in names:
            for i in range(EACH):
                allocator.at_end = i % 2 == 0
                seed, dtype = [i, *name.encode()], (np.float32, np.float64)[i // 2 % 2]
                kernel, operands = calls[name](Draw(seed, dtype, CPU))
                side = "end" if allocator.at_end else "start"
                file.write(f"{name} {i}, flush at the {side}: {describe(operands)}\n")
                file.flush()
                for array in arrays_of(kernel(*operands)):
                    assert not np.isnan(array).any(), "a result holds memory that nobody wrote"


def run_child(names: list[str], folder: Path) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    log = folder / "calls.txt"
    command = [sys.executable, "-X", "faulthandler", "-m", __name__, log, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    return done, log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize("calls", [PARTS, KERNELS], ids=["parts", "kernels"])
def test_kernels_stay_inside_their_operands(calls: Calls, tmp_path: Path) -> None:
    done, log = run_child(list(calls), tmp_path)
    assert done.returncode == 0, f"exit code {done.returncode} in {log[-1:]}\n{done.stderr[-3000:]}"
    assert len(log) == EACH * len(calls)


def test_enough_shapes_are_drawn() -> None:
    assert EACH * len({**PARTS, **KERNELS}) >= 2000


@pytest.mark.parametrize(
    ("name", "first_noticed"), [("reads past the end", "end"), ("reads before the start", "start")]
)
def test_one_element_too_many_is_a_fault_that_names_its_call(
    name: str, first_noticed: str, tmp_path: Path
) -> None:
    done, log = run_child([name], tmp_path)
    assert done.returncode == -signal.SIGSEGV, done.stderr
    assert f"flush at the {first_noticed}: (" in log[-1]


def test_memory_that_nobody_wrote_is_noticed(tmp_path: Path) -> None:
    done, _ = run_child(["returns what it never wrote"], tmp_path)
    assert "nobody wrote" in done.stderr


if __name__ == "__main__":
    status = 1
    try:
        make_calls(Path(sys.argv[1]), sys.argv[2:])
        status = 0
    except Exception:
        traceback.print_exc()
    finally:  # at once: the interpreter would take the allocator down before the arrays that came from it
        sys.stderr.flush()
        os._exit(status)
