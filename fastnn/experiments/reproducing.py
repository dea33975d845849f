"""Train everything that was published, once for each seed, going on from wherever an earlier call stopped."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastnn.experiments.base import NAMES, get
from fastnn.experiments.pictures import PICTURES
from fastnn.experiments.results import read
from fastnn.experiments.running import run


def reproduce(
    names: Sequence[str] = (),
    *,
    out: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    seeds: int = 3,
    quick: bool = False,
    progress: bool | Callable[[dict[str, Any]], Any] = True,
    say: Callable[[str], Any] = print,
) -> bool:
    """Train published variants into ``out/NAME/VARIANT/seed-SEED``, unless their results are there already.

    Parameters
    ----------
    names : sequence of str
        Experiments, or variants as ``NAME/VARIANT``; all of them if there are none.
    out, data, progress
        See :func:`fastnn.experiments.run`.
    seeds : int
        Runs of each; the first run of all comes before the second of any.
    quick : bool
        Stop each run after as many epochs as show that the network learns, and draw its curves only.
    say : callable
        Told what is run, a line each.

    Returns
    -------
    bool
        Whether all came to their end; not if Ctrl-C stopped one.
    """
    variants = [pair for name in names or NAMES for pair in _variants(name)]
    for seed in range(seeds):
        for name, variant in variants:
            experiment = get(name)
            epochs = experiment.variants[variant].quick_epochs if quick else None
            folder = Path(out, name, variant, f"seed-{seed}")
            if _done(folder / "result.json", experiment.settings(variant, epochs=epochs)):
                continue
            say(f"{name}, {variant}, seed {seed}")
            result = run(
                name,
                variant,
                out=folder,
                data=data,
                seed=seed,
                resume=True,
                progress=progress,
                pictures=() if quick else PICTURES,
                epochs=epochs,
            )
            if result["interrupted"]:
                return False
    return True


def _variants(name: str) -> list[tuple[str, str]]:
    name, _, variant = name.partition("/")
    experiment = get(name)
    if variant:
        experiment.settings(variant)  # which refuses one that there is not
        return [(name, variant)]
    return [(name, each) for each in experiment.variants]


def _done(path: Path, settings: dict[str, Any]) -> bool:
    if not path.exists():
        return False
    result = read(path)
    return result["settings"] == settings and not result["interrupted"]
