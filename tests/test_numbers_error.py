"""Every kernel's error in float32 is within the bound that docs/numerics.md tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import numbers
from tests.rooms import CPU
from tests.test_signatures import CONTRACT

DOCS = Path(__file__).resolve().parents[1] / "docs" / "numerics.md"
# They move, choose or drop numbers; what they add up, or multiply, has a parity test of its own.
MOVED = {"flatten", "im2col", "max_pool2d", "max_pool2d_backward", "conv2d_max_pool2d", "bind"}
MOVED |= {"relu", "relu_backward", "dropout", "dropout_backward"}


@pytest.fixture(scope="module")
def rows() -> list[numbers.Row]:
    return numbers.table()


def test_the_error_of_every_kernel_is_within_its_bound(rows: list[numbers.Row]) -> None:
    over = [
        f"{row.kernel} {row.shape} {row.result}: {error:.3g}, over {row.bound:g} times ε times {row.unit}"
        for row in rows
        if not (error := row.error(CPU)) <= row.bound
    ]
    assert not over, "\n".join(over)


def test_the_table_has_every_kernel(rows: list[numbers.Row]) -> None:
    assert {row.kernel.split(",")[0].split(" ")[0] for row in rows} | MOVED == {
        name for names in CONTRACT.values() for name in names.split()
    }


def test_the_page_has_the_same_rows_and_bounds(rows: list[numbers.Row]) -> None:
    table = DOCS.read_text().split(numbers.BEGIN)[1].split(numbers.END)[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.strip().splitlines()[2:]]
    found = [(*cells[:3], *cells[5:]) for cells in lines]
    assert found == [(row.kernel, row.shape, row.result, f"{row.bound:g}", row.unit) for row in rows]
    assert all(float(error) <= float(bound) for *_, error, _, bound, _ in lines)
