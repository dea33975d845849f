"""The tables of broken kernels, which ``make mutants`` runs: they fit the kernels as these are now."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.__main__ import CHANGES, MUTANTS, ROOT, Copy, Mutant, importers

# What they compute are no numbers: policy, threads, and calls of kernels
NO_KERNELS = {"__init__", "_atomics", "_cpus", "_inlined", "_jit", "_program", "_tape", "_words", "threads"}


def test_the_line_that_a_mutant_changes_is_there_once() -> None:
    changes = [(m.file, m.old) for m in MUTANTS] + [(file, old) for file, old, _ in CHANGES]
    counts = {(file, old): (ROOT / file).read_text().count(old) for file, old in changes}
    assert {change: count for change, count in counts.items() if count != 1} == {}


def test_a_broken_file_is_still_python() -> None:
    for mutant in MUTANTS:
        if mutant.file.endswith(".py"):
            text = (ROOT / mutant.file).read_text().replace(mutant.old, mutant.new)
            compile(text, f"{mutant.file}, {mutant.new}", "exec")


@pytest.mark.parametrize("room", ["reference", "cpu"])
def test_every_file_of_kernels_is_broken_in_three_ways_at_least(room: str) -> None:
    counts = Counter(mutant.file for mutant in MUTANTS)
    files = [path for path in (ROOT / "kernels" / room).glob("*.py") if path.stem not in NO_KERNELS]
    names = [path.relative_to(ROOT).as_posix() for path in files]
    assert [name for name in names if counts[name] < 3] == []


def test_what_holds_compiled_code_of_a_file_is_who_imports_it_directly_or_not() -> None:
    folder = ROOT / "kernels" / "cpu"
    rooms = {path.stem for path in folder.glob("*.py")}
    assert importers(folder / "loss.py") & rooms == {"loss"}
    assert importers(folder / "conv.py") & rooms == {"conv", "conv_pool"}
    assert "drawn_parts" in importers(folder / "_turn.py"), "a test that compiles a part of the room itself"
    assert {"_narrow", "_softmax", "conv_pool", "activation"} <= importers(folder / "_turn.py")


TEST = """
from fastnn.kernels.reference import linear
def test_it():
    assert linear.flatten.__doc__.startswith("(N, ...) to (N, features)")
"""


def test_a_mutant_counts_as_noticed_if_a_test_fails_of_it(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    (copy.tree / "tests" / "test_it.py").write_text(TEST)
    old = "(N, ...) to (N, features)"
    mutant = Mutant("kernels/reference/linear.py", old, "(N, ...) to (N)", ("tests/test_it.py",))
    assert copy.noticed(mutant)
    assert old in (copy.tree / mutant.file).read_text(), "the copy is whole again"
    assert not copy.noticed(mutant._replace(new=f"{old} "))
    with pytest.raises(RuntimeError, match="pytest ended with"):
        copy.noticed(mutant._replace(tests=("tests/no_such_file.py",)))
