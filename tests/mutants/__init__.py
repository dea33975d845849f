"""Kernels broken on purpose: each must fail a test. ``python -m tests.mutants`` runs them all."""

from __future__ import annotations

import shlex
from typing import NamedTuple

PARITY = "tests/test_parity_{}.py"


class Mutant(NamedTuple):
    file: str  #: from the root of the repository
    old: str  #: occurs once in it
    new: str
    tests: tuple[str, ...]  #: arguments of pytest


def of(file: str, tests: str, *changes: tuple[str, str]) -> list[Mutant]:
    """The mutants of one file, whose tests are the words of `tests`, as a shell has them."""
    return [Mutant(file, old, new, tuple(shlex.split(tests))) for old, new in changes]
