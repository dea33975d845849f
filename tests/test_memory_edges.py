"""No kernel reads or writes past an array: operands, results and scratch all lie flush against guard pages.

The calls of ``drawn.py`` and ``drawn_parts.py`` are made in a child (``edges.py``) under the allocator of
``guarded.py``, arrays flush at the end and at the start in turn. Here with the vectors of this machine;
``soak/test_memory_modes.py`` does the same for lesser CPUs, and compares all results with the reference's.
"""

from __future__ import annotations

import ast
import inspect
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from fastnn.backend import STEMS
from fastnn.kernels.cpu import _mostly_zeros, _packing, _winograd, linear, tile
from tests.drawn import KERNELS, Draw
from tests.drawn_parts import WAYS
from tests.edges import COUNTS, Report, run_child
from tests.rooms import REFERENCE
from tests.test_signatures import CONTRACT

posix = pytest.mark.skipif(os.name != "posix", reason="guard pages are made by mmap and mprotect")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return run_child(COUNTS, tmp_path_factory.mktemp("calls"))


@posix
def test_kernels_stay_inside_their_operands(report: Report) -> None:
    assert report.code == 0, f"exit code {report.code} in {report.calls[-1:]}\n{report.errors}"
    assert len(report.calls) == sum(COUNTS.values())


def test_enough_shapes_are_drawn() -> None:
    assert sum(COUNTS[name] for name in KERNELS) >= 2000


# The pool's own life; and programs, which only call kernels again
NOT_DRAWN = {"threads._work", "threads._wake", "_program._replay"}


def kernels_of_the_room() -> Iterator[str]:
    """``file.function`` of every function in kernels/cpu that `jit` compiles, wherever it is defined."""
    for path in sorted(Path(linear.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                for decorator in map(ast.unparse, node.decorator_list):
                    if decorator == "jit" or decorator.startswith(("jit(", "functools.partial(jit,")):
                        yield f"{path.stem}.{node.name}"


@posix
def test_every_kernel_of_the_room_is_among_those_that_ran(report: Report) -> None:
    assert set(kernels_of_the_room()) - set(report.found["kernels"]) == NOT_DRAWN


class Listening:
    """A stem of a room that notes which of its functions are asked for."""

    def __init__(self, stem: Any, asked: set[str]) -> None:
        self._stem, self._asked = stem, asked

    def __getattr__(self, name: str) -> Any:
        self._asked.add(name)
        return getattr(self._stem, name)


def test_every_operation_of_the_contract_is_drawn() -> None:
    asked: set[str] = set()
    room: Any = SimpleNamespace(**{stem: Listening(getattr(REFERENCE, stem), asked) for stem in STEMS})
    for name, draw in KERNELS.items():
        for i in range(8):  # some draw one of two operations
            kernel, operands = draw(Draw([i, *name.encode()], np.float32, room))
            kernel(*operands)
    assert asked == {name for names in CONTRACT.values() for name in names.split()}


@pytest.mark.parametrize("stem", CONTRACT)
def test_the_contract_has_every_public_function_of_the_reference(stem: str) -> None:
    module = getattr(REFERENCE, stem)
    public = {
        name
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and name[0] != "_"
    }
    assert public == set(CONTRACT[stem].split())


def ways_of_products() -> set[tuple[int, bool, bool, bool, bool]]:
    """What is packed, whether into memory from Python, whether A comes from memory and is copied, whether the
    reduction is cut: over the products drawn."""
    ways = set()
    helpers = {name: f.py_func for name, f in vars(linear).items() if hasattr(f, "py_func")}
    packing, far, copies, parts = (helpers[name] for name in ("packing", "far", "_copies", "parts_of"))
    packers = {name: helpers[name] for name in ("far", "count_of_panels")}
    for name in ("linear, large", "linear_backward, large"):
        for i in range(COUNTS[name]):
            for dtype in (np.float32, np.float64):
                _, operands = WAYS[name](Draw([i, *name.encode()], dtype, REFERENCE))
                if name == "linear, large":
                    x, weight = operands[:2]
                    products = [(x, False, weight)]
                else:
                    grad, x, weight = operands[:3]
                    products = [(x, True, grad), (grad, False, np.ascontiguousarray(weight.T))]
                for a, transposed, b in products:
                    rows, tiles = a.shape[1 if transposed else 0], tile.panels(b.itemsize)
                    roomy = transposed and linear._room(a, b).size > 0
                    # they call each other
                    with patch.multiple(linear, **helpers), patch.multiple(_packing, **packers):
                        packed = packing(a, rows, transposed, tiles, b, roomy)
                        copied, cut = copies(a, transposed, tiles, b), parts(rows, len(b), b) > 1
                    ways.add((packed, roomy, far(a), copied, cut))
    return ways


def test_the_large_products_go_every_way_there_is() -> None:
    ways = ways_of_products()
    for i, choices in enumerate(({0, 1, 2}, *[{False, True}] * 4)):
        assert {way[i] for way in ways} == choices
    assert {copied for _, _, far, copied, _ in ways if far} == {False, True}
    assert {cut for packed, roomy, _, _, cut in ways if packed == _packing.WHOLE and roomy} == {False, True}
    assert len(ways) >= 8


def test_the_zeros_drawn_for_it_are_left_out() -> None:
    for i in range(COUNTS["linear, mostly zeros"]):
        _, (x, weight, _, _) = WAYS["linear, mostly zeros"](Draw([i], np.float32, REFERENCE))
        x, weight, out = map(np.ascontiguousarray, (x, weight, x @ weight))
        assert _mostly_zeros.possible(x.shape, weight.shape[1]), x.shape
        assert _mostly_zeros.product(x, False, weight, weight[0, :0], out, 0)[0], x.shape


def test_the_convolutions_drawn_for_it_go_by_winograd_s_way() -> None:
    for i in range(COUNTS["conv2d, 3 x 3"]):
        _, (x, weight, *_) = WAYS["conv2d, 3 x 3"](Draw([i], np.float32, REFERENCE))
        (n, c, h, w), filters = x.shape, (1, *weight.shape[2:], *weight.shape[1::-1])
        assert _winograd.pays((n, h, w, c), filters, 4, (h, w), (1, 1), (1, 1), (1, 1), 1), x.shape


@posix
@pytest.mark.parametrize(
    ("name", "first_noticed"), [("reads past the end", "end"), ("reads before the start", "start")]
)
def test_one_element_too_many_is_a_fault_that_names_its_call(
    name: str, first_noticed: str, tmp_path: Path
) -> None:
    report = run_child({name: 2}, tmp_path)
    assert report.code == -signal.SIGSEGV, report.errors
    assert f"flush at the {first_noticed}: (" in report.calls[-1]


@posix
def test_memory_that_nobody_wrote_is_noticed(tmp_path: Path) -> None:
    assert "nobody wrote" in run_child({"returns what it never wrote": 1}, tmp_path).errors
