"""The comparison as a Markdown page: table, pictures, settings, machine, searches, between two markers.

What is written by hand outside the markers stays.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastnn.experiments.base import get
from fastnn.experiments.results import COLUMNS, Row, together
from fastnn.training.checkpoint import write_atomically

BEGIN, END = "<!-- fastnn experiments --write PAGE: from here -->", "<!-- to here -->"
# Beside the curves; of the others one example each is enough.
_SHOWN = {
    ("mnist-mlp", "tuned"): ("confusion", "weights"),
    ("mnist-lenet", "tuned"): ("mistakes",),
    ("cifar10-clr", "b"): ("schedule",),
    ("cifar10-mse", "best"): ("weights",),
    ("cifar10-linear", "published"): ("weights",),
    ("cifar10-cnn", "10-epochs"): ("confusion",),
}
_WIDTH, _BYTES = 1000, 60_000  # of a picture in the page, at most


def write(rows: Sequence[Row], out: str | os.PathLike[str], page: str | os.PathLike[str]) -> None:
    """Write `rows`, and the searches below the folder `out`, between the markers of `page`.

    Pictures go into a folder beside the page that has its name.

    Raises
    ------
    ValueError
        The page lacks a marker.
    """
    page = Path(page)
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} needs the lines {BEGIN} and {END}, between which to write")
    lines = _table(COLUMNS, [row.cells() for row in rows])
    lines += _together(rows) + _conditions(rows)
    for row in rows:
        if row.runs:
            lines += _section(row, page)
    for ranking in sorted(Path(out).glob("search/*/*/ranking.json")):
        lines += _search(ranking, page)
    text = before + begin + "\n" + "\n".join(lines) + "\n" + end + after
    write_atomically(page, lambda file: file.write(text.encode()))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(columns) + " |", "|---|---" + "|---:" * (len(columns) - 2) + "|"]
    return lines + ["| " + " | ".join(cells) + " |" for cells in rows]


def _together(rows: Sequence[Row]) -> list[str]:
    """How the times of all runs compare whose time was published."""
    here, published = together(rows)
    if not here:
        return []
    faster = f"{published / here:.1f} times as fast"
    return ["", f"All runs with a published time, once: {here:.0f} s, published {published:.0f} s; {faster}."]


def _conditions(rows: Sequence[Row]) -> list[str]:
    """On what it was measured: a line for each machine and set of versions."""
    seen: dict[str, None] = {}
    for run in (run for row in rows for run in row.runs):
        machine, versions = run["machine"], run["versions"]
        threads = f", {run['threads']} threads" if run["threads"] else ""
        named = ", ".join(f"{name} {version}" for name, version in versions.items())
        where = f"{machine['processor']}, {machine['cpus']} CPUs, {machine['system']}"
        seen[f"{where}; backend {run['backend']}{threads}; {named}."] = None
    return ["", "Measured on " + " And on ".join(seen)] if seen else []


def _section(row: Row, page: Path) -> list[str]:
    first = row.runs[0]
    settings = ", ".join(f"{name} {value}" for name, value in first["settings"].items())
    tests = ", ".join(f"{100 * run['accuracy']['test']:.2f}" for run in row.runs)
    seconds = ", ".join(f"{run['seconds']:.1f}" for run in row.runs)
    loss = f"Training loss at the end {row.here.loss:.4f}"
    if row.published.loss is not None:
        loss += f" (published {row.published.loss:.4f})"
    seeds = f"seed{'s' if len(row.runs) > 1 else ''} {', '.join(str(run['seed']) for run in row.runs)}"
    lines = ["", f"### {row.name}, {row.variant}", "", f"{settings}."]
    lines += ["", f"Test accuracy of {seeds}: {tests} %, in {seconds} s. {loss}."]
    lines += [f"Said at the end: *{first['diagnosis']}.*"] if first["diagnosis"] else []
    for picture in ("curves", *_SHOWN.get((row.name, row.variant), ())):
        source = Path(first["folder"], f"{picture}.png")
        if source.exists():
            lines += ["", _picture(source, page, f"{row.name}-{row.variant}-{picture}")]
    return lines


def _search(ranking: Path, page: Path) -> list[str]:
    """The best three trials of a search, and its plot."""
    name, kind = ranking.parts[-3:-1]
    trials: list[dict[str, Any]] = json.loads(ranking.read_bytes())
    searched = list(trials[0]["settings"])
    fixed = get(name).searches[kind].settings
    given = ", ".join(f"{setting} {value}" for setting, value in fixed.items()) or "the defaults"
    lines = [
        "",
        f"### {name}, search {kind}",
        "",
        f"{len(trials)} trials over {', '.join(searched)}; else {given}.",
        "",
    ]
    cells = []
    for rank, trial in enumerate(trials[:3], 1):
        values = [
            f"{value:.4g}" if isinstance(value, float) else str(value) for value in trial["settings"].values()
        ]
        cells.append([str(rank), *values, f"{100 * trial['validation']:.2f}", f"{100 * trial['test']:.2f}"])
    lines += _table(["rank", *searched, "validation", "test"], cells)
    if ranking.with_suffix(".png").exists():
        lines += ["", _picture(ranking.with_suffix(".png"), page, f"{name}-search-{kind}")]
    return lines


def _picture(source: Path, page: Path, name: str) -> str:
    """Put the picture `source` beside the page, small enough for a page of many; the link to it."""
    from PIL import Image

    target = page.with_suffix("") / f"{name}.png"
    image = Image.open(source).convert("RGB")
    width = min(_WIDTH, image.width)
    while len(content := _png(image, width)) > _BYTES:
        width = round(0.9 * width)
    write_atomically(target, lambda file: file.write(content))
    return f"![{name}]({target.relative_to(page.parent).as_posix()})"


def _png(image: Any, width: int) -> bytes:
    """`image` scaled to `width`, in 64 colours."""
    from PIL.Image import Resampling

    height = round(image.height * width / image.width)
    small = image.resize((width, height), Resampling.LANCZOS).quantize(64, kmeans=1)
    content = io.BytesIO()
    small.save(content, "png", optimize=True)
    return content.getvalue()
