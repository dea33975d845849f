"""Damaged and forged files: valid ones with bits flipped, numbers replaced, parts cut, repeated or mixed."""

from __future__ import annotations

import re
from collections.abc import Callable

from hypothesis import strategies as st

_NUMBERS = [0, 1, 2, 3, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]
Draw = Callable[[st.SearchStrategy], int]


def _place(draw: Draw, content: bytes) -> int:
    """Anywhere; half of them near the beginning or the end, where headers and directories are."""
    near = st.integers(0, min(63, len(content)))
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(near)
    return len(content) - draw(near) if kind == 1 else draw(st.integers(0, len(content)))


def _flip(draw: Draw, content: bytes, seeds: list[bytes]) -> bytes:
    at = _place(draw, content)
    return (
        content[:at]
        + bytes(b ^ 1 << draw(st.integers(0, 7)) for b in content[at : at + 1])
        + content[at + 1 :]
    )


def _number(draw: Draw, content: bytes, seeds: list[bytes]) -> bytes:
    at, size = _place(draw, content), draw(st.sampled_from([1, 2, 4, 8]))
    number = draw(st.sampled_from([*_NUMBERS, len(content)])) % 256**size
    order = draw(st.sampled_from(["little", "big"]))
    return content[:at] + number.to_bytes(size, order) + content[at + size :]


def _digits(draw: Draw, content: bytes, seeds: list[bytes]) -> bytes:
    found = list(re.finditer(rb"\d+", content))
    if not found:
        return content
    match = found[draw(st.integers(0, len(found) - 1))]
    number = draw(st.sampled_from([*map(str, _NUMBERS), "-1", "1e999", "9" * 400, "NaN", "None", "[]"]))
    return content[: match.start()] + number.encode() + content[match.end() :]


def _cut(draw: Draw, content: bytes, seeds: list[bytes]) -> bytes:
    start, stop = sorted((_place(draw, content), _place(draw, content)))
    return content[:start] + content[stop:]


def _end(draw: Draw, content: bytes, seeds: list[bytes]) -> bytes:
    return content[: _place(draw, content)]


def _repeat(draw: Draw, content: bytes, seeds: list[bytes]) -> bytes:
    start, stop = sorted((_place(draw, content), _place(draw, content)))
    times = draw(st.sampled_from([2, 3, 10, 100])) if stop - start < 20 else 2
    return content[:start] + content[start:stop] * times + content[stop:]


def _mix(draw: Draw, content: bytes, seeds: list[bytes]) -> bytes:
    other = draw(st.sampled_from(seeds))  # type: ignore[arg-type]
    return content[: _place(draw, content)] + other[_place(draw, other) :]  # type: ignore[index, arg-type]


def _insert(draw: Draw, content: bytes, seeds: list[bytes]) -> bytes:
    at, noise = _place(draw, content), draw(st.binary(max_size=8))  # type: ignore[arg-type]
    return content[:at] + noise + content[at:]  # type: ignore[operator]


_MUTATIONS = (_flip, _flip, _number, _number, _digits, _cut, _end, _repeat, _mix, _insert)


@st.composite
def mutated(draw, seeds: list[bytes]) -> bytes:  # type: ignore[no-untyped-def]
    """One of `seeds` after one to four such changes."""
    content = draw(st.sampled_from(seeds))
    for mutation in draw(st.lists(st.sampled_from(_MUTATIONS), min_size=1, max_size=4)):
        content = mutation(draw, content, seeds)
    return content
