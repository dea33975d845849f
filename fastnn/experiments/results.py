"""What the published runs led to here, beside what was published: from the ``result.json`` of each run."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastnn.experiments.base import NAMES, Published, get

_KEYS = frozenset(
    ("experiment", "variant", "settings", "seed", "accuracy", "loss", "seconds", "interrupted", "finished")
)
MARGIN = 1.5  # points that a reproduced accuracy may lie below the published one
COLUMNS = (
    *("experiment", "variant", "runs", "test", "published", "validation", "published", "train", "published"),
    *("seconds", "published", "faster", "reproduced"),
)


@dataclass(frozen=True)
class Row:
    """One variant: the medians of its runs, as `Published` has them, beside the published figures.

    The time is that of the fastest run: other work on the machine only ever adds to it.

    Attributes
    ----------
    epochs : int
        Of each run; fewer than `of` where only scaled-down runs were made.
    runs : list of dict
        The contents of ``result.json`` and the "folder" that it is in, one a seed; none if the variant has
        not been run.
    """

    name: str
    variant: str
    published: Published
    epochs: int
    of: int
    runs: list[dict[str, Any]]

    @property
    def here(self) -> Published:
        if not self.runs:
            return Published()
        accuracy = {part: 100 * self._median("accuracy", part) for part in ("test", "validation", "train")}
        seconds = min(run["seconds"] for run in self.runs)
        return Published(**accuracy, loss=self._median("loss", "train"), seconds=seconds)

    @property
    def full(self) -> bool:
        return bool(self.runs) and self.epochs == self.of

    @property
    def reproduced(self) -> bool | None:
        """Whether the test accuracy (validation, where that was not published) is no more than 1.5 points
        below the published one; None where nothing can be said.
        """
        part = "test" if self.published.test is not None else "validation"
        published, here = getattr(self.published, part), getattr(self.here, part)
        return None if published is None or not self.full else here >= published - MARGIN

    def cells(self) -> list[str]:
        """The row of a table under `COLUMNS`."""
        here, published = self.here, self.published
        count = str(len(self.runs)) if self.full else f"{self.epochs} of {self.of} epochs"
        cells = [self.name, self.variant, count if self.runs else "none"]
        for part in ("test", "validation", "train"):
            cells += [_number(getattr(here, part)), _number(getattr(published, part))]
        cells += [_seconds(here.seconds), _seconds(published.seconds)]
        timed = self.full and here.seconds and published.seconds
        cells.append(f"{published.seconds / here.seconds:.1f}x" if timed else "")  # type: ignore[operator]
        return [*cells, {None: "", True: "yes", False: "no"}[self.reproduced]]

    def _median(self, *keys: str) -> float:
        return statistics.median(_at(run, keys) for run in self.runs)


def rows(folder: str | os.PathLike[str]) -> list[Row]:
    """A row for each published variant, from the runs that lie anywhere below `folder`.

    A run counts if it had the published settings and came to its end. Where there is none for a variant, the
    longest of those that had fewer epochs stand in.
    """
    found = list(_finished(Path(folder)))
    table = []
    for name in NAMES:
        experiment = get(name)
        for variant, described in experiment.variants.items():
            settings = experiment.settings(variant)
            own = [run for run in found if (run["experiment"], run["variant"]) == (name, variant)]
            own = [run for run in own if run["settings"] | {"epochs": settings["epochs"]} == settings]
            longest = max((run["settings"]["epochs"] for run in own), default=0)
            epochs = min(longest, settings["epochs"])
            seeds = {run["seed"]: run for run in own if run["settings"]["epochs"] == epochs}
            runs = [seeds[seed] for seed in sorted(seeds)]
            table.append(Row(name, variant, described.published, epochs, settings["epochs"], runs))
    return table


def together(rows: Iterable[Row]) -> tuple[float, float]:
    """The seconds here and the published ones, of all rows that have both, each of them run once."""
    timed = [row for row in rows if row.full and row.published.seconds is not None]
    return sum(row.here.seconds or 0 for row in timed), sum(row.published.seconds or 0 for row in timed)


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The record that a run left: its ``result.json``.

    Raises
    ------
    ValueError
        The file is something else, or damaged.
    """
    try:
        record = json.loads(Path(path).read_bytes())
        absent = _KEYS - record.keys()
        if absent:
            raise KeyError(*sorted(absent))
    except (ValueError, AttributeError, KeyError, RecursionError) as error:
        raise ValueError(
            f"{os.fspath(path)} is not the record of a run: {error!r}; without it, the run is made again"
        ) from error
    return dict(record)


def _finished(folder: Path) -> Iterable[dict[str, Any]]:
    """The results below `folder` of runs that came to their end, the latest last."""
    runs = [read(path) | {"folder": str(path.parent)} for path in folder.rglob("result.json")]
    return sorted((run for run in runs if not run["interrupted"]), key=lambda run: run["finished"])


def _at(run: Any, keys: Iterable[str]) -> float:
    for key in keys:
        run = run[key]
    return run


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.{2 if value < 10 else 0}f}"
