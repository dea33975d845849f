"""The mutants of kernels/cpu: an edge off by one, a term left out, a wrong stride or sign in each file."""

from __future__ import annotations

from tests.mutants import Mutant
from tests.mutants.cpu import conv, elements, pooled, products, rows

PARTS = (products, conv, pooled, rows, elements)
MUTANTS: list[Mutant] = [mutant for part in PARTS for mutant in part.MUTANTS]
