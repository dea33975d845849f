"""Every reader of files against files that are valid but for a few changes: a right result or the documented
exception, in little memory, with nothing run and nothing written. ``make fuzz`` does the same for minutes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings

from tests.files import little_memory, peak_of
from tests.fuzz.mutations import mutated
from tests.fuzz.readers import Reader, readers

NAMES = (
    *("raw.idx", "packed.gz", "unpacked.gz", "cifar", "cifar.bin", "weights.npz", "weight.npz"),
    *(
        "weights.safetensors",
        "header.safetensors",
        "checkpoint.npz",
        "tree.npz",
        "member.npz",
        "history.json",
    ),
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    pytest.importorskip("safetensors")
    return readers(tmp_path_factory.mktemp("first"))


def test_all_readers_are_here(table: dict[str, Reader]) -> None:
    assert list(table) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_and_forged_files_are_read_right_or_refused(
    name: str, table: dict[str, Reader], tmp_path: Path
) -> None:
    reader = table[name]
    found = []

    @settings(max_examples=100, database=None)
    @given(mutated(reader.seeds))
    def fuzz(content: bytes) -> None:
        assert peak_of(lambda: found.append(reader.try_(content, tmp_path))) < reader.room

    valid = [reader.try_(seed, tmp_path) for seed in reader.seeds]
    assert valid.count(False) == (name in ("weight.npz", "member.npz"))  # of which one holds an object
    with little_memory(2**28):
        fuzz()
    assert not all(found)
